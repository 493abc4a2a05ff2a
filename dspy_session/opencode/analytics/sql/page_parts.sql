-- The parts of some messages, in order; of a long text, one character more than is shown of it.
SELECT message_id, id, part_type AS type, left(content, $longest + 1) AS content, synthetic,
    tool_name, tool_status, tool_title, succeeded, interrupted, exit_code,
    left(arguments, $longest + 1) AS arguments, left(command, $longest + 1) AS command, result_summary, result_chars,
    left(error_message, $longest + 1) AS error_message, error_class, child_session_id, files,
    created_at, duration_ms, left(reasoning_text, $longest + 1) AS reasoning, anthropic_signature IS NOT NULL AS signed,
    compaction_auto, file_mime, file_name, file_url, file_size, copied, reverted,
    greatest(length(content), length(arguments), length(command), length(reasoning_text), length(error_message))
        > $longest AS cut
FROM parts WHERE session_id = $session AND list_contains($messages, message_id) ORDER BY seq
