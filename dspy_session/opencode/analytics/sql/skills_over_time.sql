-- One row a skill and a day of UTC on which a turn that loaded it began.
SELECT CAST(began_at AS DATE) AS day, skill_name AS skill,
    count(*) AS loads,
    count(*) FILTER (WHERE succeeded) AS succeeded,
    count(DISTINCT session_id) AS sessions,
    avg(duration_ms) AS mean_ms
FROM chosen_skills GROUP BY day, skill ORDER BY day, skill
