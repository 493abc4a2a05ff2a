-- One row a limit and a model that reached it, the most frequent first.
, reached AS (
    SELECT 'output_tokens' AS reached, model, session_id, coalesce(completed_at, created_at) AS happened_at
    FROM chosen_steps WHERE finish_reason IN ('length', 'max_tokens') OR error_name = 'MessageOutputLengthError'
    UNION ALL
    SELECT 'context', used_model, session_id, coalesce(completed_at, created_at)
    FROM chosen_messages
    WHERE error_name = 'ContextOverflowError'
        OR regexp_matches(coalesce(error_message, ''), '(?i)context (length|window)|prompt is too long|too many tokens')
    UNION ALL
    SELECT 'rate', used_model, session_id, coalesce(completed_at, created_at)
    FROM chosen_messages WHERE error_status = 429
    UNION ALL
    SELECT 'rate', model, session_id, created_at
    FROM chosen_parts
    WHERE part_type = 'retry' AND (
        json_extract_string(error_data, '$.data.statusCode') = '429'
        OR regexp_matches(coalesce(error_message, ''), '(?i)rate.?limit|too many requests')
    )
    UNION ALL
    SELECT 'tool_time', model, session_id, created_at FROM chosen_tools WHERE error_class = 'timeout'
)
SELECT reached AS "limit", model,
    count(*) AS times,
    count(DISTINCT session_id) AS sessions,
    min(happened_at) AS first_at,
    max(happened_at) AS last_at
FROM reached GROUP BY reached, model ORDER BY times DESC, reached, model
