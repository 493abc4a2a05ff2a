-- The files that a session's calls of tools read, wrote and edited, in order.
SELECT f.operation, f.path, f.additions, f.deletions, f.succeeded, s.worktree, s.directory
FROM file_operations AS f JOIN sessions AS s ON s.id = f.session_id
WHERE f.session_id = $session AND NOT f.copied
ORDER BY f.seq, f.place
