-- What a session cost by the ends of its calls of the model, and by its messages.
SELECT precise.*, estimated.*
FROM (
    SELECT count(*) AS step_count,
        coalesce(fsum(cost), 0) AS cost,
        coalesce(sum(tokens_input), 0) AS tokens_input,
        coalesce(sum(tokens_output), 0) AS tokens_output,
        coalesce(sum(tokens_reasoning), 0) AS tokens_reasoning,
        coalesce(sum(tokens_cache_read), 0) AS tokens_cache_read,
        coalesce(sum(tokens_cache_write), 0) AS tokens_cache_write
    FROM step_events
    WHERE session_id = $session AND event_type = 'finish' AND NOT copied
) AS precise, (
    SELECT coalesce(fsum(cost), 0) AS message_cost,
        coalesce(sum(tokens_input), 0) AS message_input,
        coalesce(sum(tokens_output), 0) AS message_output
    FROM messages
    WHERE session_id = $session AND role = 'assistant' AND NOT copied
) AS estimated
