-- One row a skill, with the sessions that loaded it.
SELECT skill_name AS name,
    count(*) AS total_invocations,
    coalesce(sum(duration_ms), 0) AS total_duration_ms,
    list_sort(list(DISTINCT session_id)) AS sessions,
    count(DISTINCT session_id) AS session_count,
    min(loaded_at) AS first_used,
    max(loaded_at) AS last_used,
    count(*) FILTER (WHERE succeeded) AS success_count,
    count(*) FILTER (WHERE NOT succeeded) AS failure_count,
    coalesce(avg(duration_ms), 0) AS avg_duration_ms,
    count(*) FILTER (WHERE succeeded) / count(*) AS success_rate
FROM chosen_skills GROUP BY skill_name ORDER BY total_invocations DESC, name
