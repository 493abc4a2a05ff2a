-- The marks at the start and the end of a session's calls of the model, in order.
SELECT id, event_type, reason, snapshot_hash, cost,
    tokens_input, tokens_output, tokens_reasoning, tokens_cache_read, tokens_cache_write, created_at
FROM step_events
WHERE session_id = $session AND NOT copied
ORDER BY seq
