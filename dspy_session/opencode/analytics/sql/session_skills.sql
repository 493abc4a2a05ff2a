-- The skills that a session loaded, in the order of their first load.
SELECT skill_name AS name, count(*) AS invocation_count, min(loaded_at) AS time_loaded, max(loaded_at) AS last_used
FROM skills
WHERE session_id = $session AND NOT copied
GROUP BY skill_name ORDER BY min(seq), name
