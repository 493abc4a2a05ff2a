-- One row a skill, the most loaded first.
SELECT skill_name AS skill,
    count(*) AS loads,
    count(*) FILTER (WHERE how = 'tool') AS by_tool,
    count(*) FILTER (WHERE how = 'command') AS by_command,
    count(DISTINCT session_id) AS sessions,
    count(*) FILTER (WHERE succeeded) AS succeeded,
    count(*) FILTER (WHERE NOT succeeded) AS failed,
    count(*) FILTER (WHERE succeeded) / count(*) AS success_rate,
    min(loaded_at) AS first_used,
    max(loaded_at) AS last_used,
    coalesce(sum(duration_ms), 0) AS total_ms,
    avg(duration_ms) AS mean_ms,
    quantile_cont(duration_ms, 0.5) AS p50_ms,
    quantile_cont(duration_ms, 0.9) AS p90_ms,
    quantile_cont(duration_ms, 0.95) AS p95_ms,
    coalesce(sum(after.calls), 0) AS attributed_calls,
    coalesce(sum(after.tokens), 0) AS attributed_tokens,
    coalesce(fsum(after.cost), 0) AS attributed_cost
FROM chosen_skills LEFT JOIN after ON after.id = chosen_skills.id
GROUP BY skill_name ORDER BY loads DESC, skill
