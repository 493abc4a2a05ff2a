-- One row a skill and a project, the most loaded first; how widely each skill is used beside it.
, by_project AS (
    SELECT k.skill_name AS skill, s.project_name AS project,
        count(*) AS loads,
        count(*) FILTER (WHERE k.succeeded) AS succeeded,
        count(DISTINCT k.session_id) AS sessions,
        min(k.loaded_at) AS first_used,
        max(k.loaded_at) AS last_used
    FROM chosen_skills AS k JOIN chosen_sessions AS s ON s.id = k.session_id
    GROUP BY skill, project
),
project_sessions AS (
    SELECT project_name AS project, count(*) AS sessions FROM chosen_sessions GROUP BY project_name
)
SELECT b.skill, b.project, b.loads, b.succeeded, b.sessions,
    b.sessions / p.sessions AS share_of_sessions,
    count(*) OVER (PARTITION BY b.skill) AS projects,
    b.first_used, b.last_used
FROM by_project AS b JOIN project_sessions AS p ON p.project IS NOT DISTINCT FROM b.project
ORDER BY sum(b.loads) OVER (PARTITION BY b.skill) DESC, b.skill, b.loads DESC, b.project
