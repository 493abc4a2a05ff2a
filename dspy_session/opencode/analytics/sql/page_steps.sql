-- The calls of the model in some messages, in order.
SELECT message_id, step_index AS index, model, finish_reason, cost, accounting, cost_issues,
    tokens_input, tokens_output, tokens_reasoning, tokens_cache_read, tokens_cache_write,
    error_name, retried, is_summary
FROM steps WHERE session_id = $session AND list_contains($messages, message_id) ORDER BY step_index
