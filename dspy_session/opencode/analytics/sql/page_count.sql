-- How many turns a session has; no row if there is no such session.
SELECT (SELECT count(*) FROM turns WHERE session_id = $session) AS turns FROM sessions WHERE id = $session
