-- One row a call that was made more than once in a turn, the most repeated first.
SELECT session_id, turn_index, tool_name AS tool, arguments,
    count(*) AS calls,
    count(*) FILTER (WHERE NOT succeeded) AS failed,
    arg_max(succeeded, seq) AS succeeded_at_last,
    coalesce(sum(duration_ms), 0) AS total_ms,
    min(created_at) AS first_at,
    max(created_at) AS last_at
FROM chosen_tools
WHERE arguments IS NOT NULL
GROUP BY session_id, turn_index, tool_name, arguments HAVING count(*) > 1
ORDER BY calls DESC, first_at, session_id, turn_index, tool, arguments
