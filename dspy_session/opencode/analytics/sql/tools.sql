-- One row a tool, the most used first. A retry is a call whose last equal call in the turn had failed.
-- Calls are told apart by a hash, as their arguments may be long.
, told AS (
    SELECT session_id, tool_name, tool_status, succeeded, duration_ms, exit_code, result_chars,
        lag(succeeded) OVER (
            PARTITION BY hash(session_id, turn_index, tool_name, arguments) ORDER BY seq
        ) AS earlier
    FROM chosen_tools
),
counted AS (
    SELECT tool_name AS tool,
        count(*) AS calls,
        count(DISTINCT session_id) AS sessions,
        count(*) FILTER (WHERE succeeded) AS succeeded,
        count(*) FILTER (WHERE NOT succeeded AND tool_status IN ('completed', 'error')) AS failed,
        count(*) FILTER (WHERE tool_status NOT IN ('completed', 'error')) AS unfinished,
        count(*) FILTER (WHERE succeeded) / count(*) AS success_rate,
        count(*) FILTER (WHERE earlier IS NOT NULL) AS repeats,
        count(*) FILTER (WHERE NOT earlier) AS retries,
        coalesce(sum(duration_ms), 0) AS total_ms,
        avg(duration_ms) AS mean_ms,
        quantile_cont(duration_ms, [0.5, 0.9, 0.95]) AS quantiles,
        histogram(exit_code) AS exit_codes,
        coalesce(sum(result_chars), 0) AS result_chars
    FROM told GROUP BY tool_name
)
SELECT *, quantiles[1] AS p50_ms, quantiles[2] AS p90_ms, quantiles[3] AS p95_ms
FROM counted ORDER BY calls DESC, tool
