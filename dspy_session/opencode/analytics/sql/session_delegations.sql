-- The tasks that a session handed to sub-agents, these to theirs, and so on, in order.
WITH RECURSIVE tasks AS (
    SELECT id, session_id AS parent, child_session_id AS child, child_agent AS agent, description, succeeded,
        created_at, duration_ms
    FROM delegations WHERE NOT copied
    UNION ALL
    SELECT NULL, parent_id, id, agent, title, NULL, created_at, duration_ms
    FROM sessions AS s
    WHERE parent_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM delegations AS d WHERE d.child_session_id = s.id AND d.session_id = s.parent_id AND NOT d.copied
    )
),
below AS (
    SELECT $session::VARCHAR AS id
    UNION
    SELECT tasks.child FROM below JOIN tasks ON tasks.parent = below.id WHERE tasks.child IS NOT NULL
)
SELECT tasks.*, s.title, s.agent AS own_agent, s.created_at AS began_at, s.ended_at, s.duration_ms AS own_ms
FROM tasks JOIN below ON below.id = tasks.parent LEFT JOIN sessions AS s ON s.id = tasks.child
ORDER BY coalesce(tasks.created_at, s.created_at), tasks.id, tasks.child
