-- A session's turns from one place to another, in order.
SELECT turn_index AS index, kind, agent, model, prompt, response, summary_title, started_at, ended_at, duration_ms,
    step_count, tool_count, cost,
    tokens_input, tokens_output, tokens_reasoning, tokens_cache_read, tokens_cache_write,
    success, signal, detail, copied, reverted
FROM turns WHERE session_id = $session AND turn_index >= $first AND turn_index < $end ORDER BY turn_index
