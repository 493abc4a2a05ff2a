-- What a filter can be set to, the busiest first.
WITH projects AS (
    SELECT project_id AS id, any_value(project_name) AS name, any_value(worktree) AS worktree, count(*) AS sessions
    FROM sessions GROUP BY project_id
),
models AS (
    SELECT model, count(*) AS calls FROM steps WHERE model IS NOT NULL GROUP BY model
),
agents AS (
    SELECT agent, count(*) AS calls FROM steps WHERE agent IS NOT NULL GROUP BY agent
)
SELECT
    (SELECT coalesce(list(projects ORDER BY sessions DESC, id), []) FROM projects) AS projects,
    (SELECT coalesce(list(model ORDER BY calls DESC, model), []) FROM models) AS models,
    (SELECT coalesce(list(agent ORDER BY calls DESC, agent), []) FROM agents) AS agents,
    (SELECT min(created_at) FROM sessions) AS first,
    (SELECT max(coalesce(ended_at, updated_at, created_at)) FROM sessions) AS last
