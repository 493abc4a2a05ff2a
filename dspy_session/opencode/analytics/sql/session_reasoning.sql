-- What the model thought in a session, in order.
SELECT id, reasoning_text, anthropic_signature, created_at
FROM parts
WHERE session_id = $session AND part_type = 'reasoning' AND NOT copied
ORDER BY seq
