-- What `opencode stats` prints, copies left out.
, spent AS (
    SELECT session_id,
        sum(tokens_input) AS tokens_input,
        sum(tokens_output) AS tokens_output,
        sum(tokens_reasoning) AS tokens_reasoning,
        sum(tokens_cache_read) AS tokens_cache_read,
        sum(tokens_cache_write) AS tokens_cache_write,
        fsum(cost) AS cost
    FROM chosen_steps GROUP BY session_id
),
each AS (
    SELECT s.*, spent.* EXCLUDE (session_id), coalesce(
        tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write, 0
    ) AS tokens
    FROM chosen_sessions AS s LEFT JOIN spent ON spent.session_id = s.id
),
span AS (
    SELECT greatest(epoch_ms(min(created_at)), coalesce($since::BIGINT, epoch_ms(min(created_at)))) AS first,
        least(epoch_ms(max(updated_at)), coalesce($until::BIGINT, epoch_ms(max(updated_at)))) AS last
    FROM chosen_sessions
)
SELECT count(*) AS sessions,
    (SELECT count(*) FROM chosen_messages) AS messages,
    CASE WHEN count(*) = 0 THEN 0
        ELSE greatest(1, ceil((SELECT last - first FROM span) / 86400000)) END::BIGINT AS days,
    coalesce(fsum(cost), 0) AS cost,
    coalesce(fsum(cost), 0) / greatest(1, ceil((SELECT last - first FROM span) / 86400000)) AS cost_per_day,
    coalesce(avg(tokens), 0) AS mean_tokens,
    coalesce(quantile_cont(tokens, 0.5), 0) AS median_tokens,
    coalesce(sum(tokens_input), 0) AS tokens_input,
    coalesce(sum(tokens_output), 0) AS tokens_output,
    coalesce(sum(tokens_reasoning), 0) AS tokens_reasoning,
    coalesce(sum(tokens_cache_read), 0) AS tokens_cache_read,
    coalesce(sum(tokens_cache_write), 0) AS tokens_cache_write
FROM each
