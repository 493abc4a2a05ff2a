-- Whether there is such a session.
SELECT count(*) AS known FROM sessions WHERE id = $session
