-- One row a model and a way of changing files, by model; a try is a call of the tool.
, tries AS (
    SELECT *, lag(succeeded) OVER (
        PARTITION BY session_id, turn_index, tool_name, files ORDER BY seq
    ) AS earlier
    FROM chosen_tools WHERE tool_name IN ('edit', 'write', 'multiedit', 'patch', 'apply_patch')
)
SELECT model, tool_name AS format,
    count(*) AS attempts,
    count(*) FILTER (WHERE succeeded) AS succeeded,
    count(*) FILTER (WHERE succeeded) / count(*) AS success_rate,
    count(*) FILTER (WHERE NOT earlier) AS retries,
    avg(duration_ms) AS mean_ms,
    histogram(error_class) AS error_classes
FROM tries GROUP BY model, format ORDER BY model NULLS LAST, attempts DESC, format
