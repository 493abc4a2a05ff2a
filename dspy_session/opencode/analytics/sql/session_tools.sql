-- A session's calls of tools by tool, the most used first.
SELECT tool_name AS name,
    count(*) AS calls,
    count(*) FILTER (WHERE succeeded) AS succeeded,
    count(*) FILTER (WHERE NOT succeeded AND tool_status IN ('completed', 'error')) AS failed,
    coalesce(sum(duration_ms), 0) AS total_ms,
    count(duration_ms) AS timed,
    histogram(tool_status) AS statuses
FROM parts
WHERE session_id = $session AND part_type = 'tool' AND NOT copied
GROUP BY tool_name ORDER BY calls DESC, name
