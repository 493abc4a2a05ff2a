-- One row a model, the dearest first. Calls for compactions are among its calls.
SELECT model,
    count(*) AS calls,
    count(DISTINCT session_id) AS sessions,
    count(error_name) AS errors,
    count(*) FILTER (WHERE retried) AS retried,
    count(*) FILTER (WHERE finish_reason = 'length') AS cut_off,
    sum(tokens_input) AS tokens_input,
    sum(tokens_output) AS tokens_output,
    sum(tokens_reasoning) AS tokens_reasoning,
    sum(tokens_cache_read) AS tokens_cache_read,
    sum(tokens_cache_write) AS tokens_cache_write,
    sum(tokens_cache_read) / nullif(sum(tokens_input + tokens_cache_read + tokens_cache_write), 0)
        AS cache_hit_rate,
    fsum(cost) AS cost,
    count(*) FILTER (WHERE len(cost_issues) > 0) AS doubtful_costs
FROM chosen_steps GROUP BY model ORDER BY cost DESC, calls DESC, model
