-- A session's to-do list, in order.
SELECT content, status, priority FROM todos WHERE session_id = $session ORDER BY position
