-- The attachments of a session, in order.
SELECT id, message_id, file_name, file_mime, file_url, file_size, created_at
FROM parts
WHERE session_id = $session AND part_type = 'file'
ORDER BY seq
