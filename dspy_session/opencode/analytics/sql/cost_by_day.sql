-- One row a day of UTC on which a turn began, in order.
SELECT CAST(began_at AS DATE) AS day,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT (session_id, turn_index)) FILTER (WHERE turn_index IS NOT NULL) AS turns,
    count(*) AS calls,
    sum(tokens_input) AS tokens_input,
    sum(tokens_output) AS tokens_output,
    sum(tokens_reasoning) AS tokens_reasoning,
    sum(tokens_cache_read) AS tokens_cache_read,
    sum(tokens_cache_write) AS tokens_cache_write,
    fsum(cost) AS cost
FROM chosen_steps GROUP BY day ORDER BY day
