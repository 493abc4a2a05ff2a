-- One row a session that keeps a list of things to do, the newest first.
SELECT s.id AS session_id, s.title AS session_title,
    count(*) AS todos,
    count(*) FILTER (WHERE t.status = 'completed') AS completed,
    count(*) FILTER (WHERE t.status = 'in_progress') AS in_progress,
    count(*) FILTER (WHERE t.status = 'pending') AS pending,
    count(*) FILTER (WHERE t.status = 'cancelled') AS cancelled,
    coalesce(list(t.content ORDER BY t.position) FILTER (WHERE t.status IN ('in_progress', 'pending')), []) AS open
FROM todos AS t JOIN chosen_sessions AS s ON s.id = t.session_id
GROUP BY s.id, s.title, s.created_at ORDER BY s.created_at DESC, s.id
