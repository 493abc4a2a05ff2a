-- All of a session's turns in brief, in order.
SELECT turn_index AS index, kind, left(coalesce(nullif(summary_title, ''), prompt), $longest + 1) AS title, started_at, duration_ms,
    cost, tool_count,
    tokens_input + tokens_output + tokens_reasoning + tokens_cache_read + tokens_cache_write AS tokens,
    success, copied, reverted
FROM turns WHERE session_id = $session ORDER BY turn_index
