-- The files that a session's calls of the model changed, in order.
SELECT id, git_hash, files, created_at
FROM patches
WHERE session_id = $session AND NOT copied
ORDER BY seq
