-- A session's messages with their parts, in order.
SELECT m.id AS message_id, m.role, m.agent, m.tokens_input, m.tokens_output, m.cost, m.created_at, m.summary_title,
    m.root_path, m.error_name, m.error_data, m.turn_index,
    p.id, p.part_type, p.content, p.synthetic, p.tool_name, p.tool_status, p.tool_title, p.arguments,
    p.result_summary, p.duration_ms, p.child_session_id, p.reasoning_text, p.anthropic_signature,
    p.file_name, p.file_mime, p.file_url, p.files, p.created_at AS part_at, p.ended_at,
    e.reason, p.cost AS part_cost, p.tokens_input AS part_input, p.tokens_output AS part_output,
    p.tokens_reasoning AS part_reasoning, p.tokens_cache_read AS part_cache_read,
    p.tokens_cache_write AS part_cache_write, c.git_hash, d.child_agent
FROM messages AS m
LEFT JOIN parts AS p ON p.message_id = m.id
LEFT JOIN step_events AS e ON e.id = p.id
LEFT JOIN patches AS c ON c.id = p.id
LEFT JOIN delegations AS d ON d.id = p.id
WHERE m.session_id = $session
ORDER BY m.seq, p.seq
