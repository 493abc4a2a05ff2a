-- One row a turn, the latest first.
SELECT t.session_id, t.turn_index, t.kind, t.agent, t.model, t.prompt, t.started_at, t.duration_ms,
    t.step_count AS calls, t.tool_count AS tool_calls,
    t.tokens_input, t.tokens_output, t.tokens_reasoning, t.tokens_cache_read, t.tokens_cache_write, t.cost,
    t.success, t.signal, t.detail, t.reverted
FROM chosen_turns AS t ORDER BY t.started_at DESC, t.session_id, t.turn_index DESC
