-- One row a kind of error, the most frequent first: of the model's replies, of tools, of tries of a provider.
, found AS (
    SELECT 'model' AS source, error_name AS class, NULL AS tool, error_message AS message, session_id,
        coalesce(completed_at, created_at) AS happened_at
    FROM chosen_messages WHERE error_name IS NOT NULL
    UNION ALL
    SELECT 'tool', error_class, tool_name, error_message, session_id, created_at
    FROM chosen_tools WHERE error_class IS NOT NULL
    UNION ALL
    SELECT 'retry', coalesce(json_extract_string(error_data, '$.name'), 'retry'), NULL, error_message, session_id,
        created_at
    FROM chosen_parts WHERE part_type = 'retry'
)
SELECT source, class AS error_class, tool,
    count(*) AS errors,
    count(DISTINCT session_id) AS sessions,
    min(happened_at) AS first_at,
    max(happened_at) AS last_at,
    arg_max(message, happened_at) AS last_message
FROM found GROUP BY source, class, tool ORDER BY errors DESC, source, class, tool
