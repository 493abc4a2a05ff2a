-- One row a model and a day of UTC on which a turn began, in order.
SELECT CAST(began_at AS DATE) AS day, model,
    count(*) AS calls,
    sum(tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write) AS tokens,
    fsum(cost) AS cost
FROM chosen_steps GROUP BY day, model ORDER BY day, model
