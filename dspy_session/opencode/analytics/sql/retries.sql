-- One row a model: what had to be done again, the most often retried first.
, tried AS (
    SELECT model, session_id, count(*) AS provider_retries FROM chosen_parts WHERE part_type = 'retry' GROUP BY ALL
),
broken AS (
    SELECT model, session_id, count(*) AS streams_broken FROM chosen_steps WHERE retried GROUP BY ALL
),
again AS (
    SELECT model, session_id, count(*) FILTER (WHERE NOT earlier) AS tool_retries
    FROM (
        SELECT model, session_id, lag(succeeded) OVER (
            PARTITION BY hash(session_id, turn_index, tool_name, arguments) ORDER BY seq
        ) AS earlier
        FROM chosen_tools
    ) GROUP BY ALL
),
every AS (
    SELECT model, session_id, provider_retries, 0 AS streams_broken, 0 AS tool_retries FROM tried
    UNION ALL SELECT model, session_id, 0, streams_broken, 0 FROM broken
    UNION ALL SELECT model, session_id, 0, 0, tool_retries FROM again WHERE tool_retries > 0
)
SELECT model,
    sum(provider_retries) AS provider_retries,
    sum(streams_broken) AS streams_broken,
    sum(tool_retries) AS tool_retries,
    count(DISTINCT session_id) AS sessions
FROM every GROUP BY model
ORDER BY sum(provider_retries) + sum(streams_broken) + sum(tool_retries) DESC, model
