-- What `opencode stats` prints, counted as it counts: what forks copied is counted again.
, chosen AS (
    SELECT * FROM sessions
    WHERE ($session::VARCHAR IS NULL OR id = $session) AND id IN (SELECT id FROM chosen_sessions)
),
spent AS (
    SELECT s.session_id,
        sum(s.tokens_input) AS tokens_input,
        sum(s.tokens_output) AS tokens_output,
        sum(s.tokens_reasoning) AS tokens_reasoning,
        sum(s.tokens_cache_read) AS tokens_cache_read,
        sum(s.tokens_cache_write) AS tokens_cache_write,
        fsum(s.cost) AS cost
    FROM steps AS s WHERE s.session_id IN (SELECT id FROM chosen) GROUP BY s.session_id
),
each AS (
    SELECT c.created_at, c.updated_at, c.message_count, coalesce(c.stored_cost, spent.cost, 0) AS cost,
        spent.* EXCLUDE (session_id, cost), coalesce(
            tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write, 0
        ) AS tokens
    FROM chosen AS c LEFT JOIN spent ON spent.session_id = c.id
),
days AS (
    SELECT greatest(1, ceil((epoch_ms(max(updated_at)) - epoch_ms(min(created_at))) / 86400000))::BIGINT AS days
    FROM each
)
SELECT count(*) AS sessions,
    coalesce(sum(message_count), 0) AS messages,
    CASE WHEN count(*) = 0 THEN 0 ELSE (SELECT days FROM days) END AS days,
    coalesce(fsum(cost), 0) AS cost,
    coalesce(fsum(cost), 0) / greatest(1, coalesce((SELECT days FROM days), 1)) AS cost_per_day,
    coalesce(avg(tokens), 0) AS mean_tokens,
    coalesce(quantile_cont(tokens, 0.5), 0) AS median_tokens,
    coalesce(sum(tokens_input), 0) AS tokens_input,
    coalesce(sum(tokens_output), 0) AS tokens_output,
    coalesce(sum(tokens_reasoning), 0) AS tokens_reasoning,
    coalesce(sum(tokens_cache_read), 0) AS tokens_cache_read,
    coalesce(sum(tokens_cache_write), 0) AS tokens_cache_write
FROM each
