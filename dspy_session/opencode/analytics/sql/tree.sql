-- One row a session and its place below a root; a sub-agent of two sessions stands below both.
, roots AS (
    SELECT id FROM chosen_sessions
    WHERE $session::VARCHAR IS NOT NULL
        OR id NOT IN (SELECT child FROM links JOIN chosen_sessions AS c ON c.id = links.parent)
),
family AS (
    SELECT id AS root, id, NULL::VARCHAR AS parent, 0 AS depth, [id] AS path FROM roots
    UNION ALL
    SELECT family.root, links.child, family.id, family.depth + 1, list_append(family.path, links.child)
    FROM family JOIN links ON links.parent = family.id
    WHERE NOT list_contains(family.path, links.child)
),
spent AS (
    SELECT session_id, fsum(cost) AS cost, count(*) AS calls,
        sum(tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write) AS tokens
    FROM fitting_steps GROUP BY session_id
)
SELECT family.root, s.id, family.parent, family.depth, s.title, s.agent, s.is_fork, s.created_at, s.duration_ms,
    coalesce(spent.calls, 0) AS calls,
    coalesce(spent.tokens, 0) AS tokens,
    coalesce(spent.cost, 0) AS cost
FROM family
JOIN sessions AS s ON s.id = family.id
JOIN sessions AS r ON r.id = family.root
LEFT JOIN spent ON spent.session_id = s.id
ORDER BY r.created_at DESC, r.id, [(SELECT created_at FROM sessions WHERE id = family.path[2])], family.path
