-- A session's turns, in order, with how often the model thought in each.
SELECT t.*, coalesce(r.thoughts, 0) AS reasoning_count
FROM turns AS t
LEFT JOIN (
    SELECT turn_index, count(*) AS thoughts FROM parts
    WHERE session_id = $session AND part_type = 'reasoning' GROUP BY turn_index
) AS r ON r.turn_index = t.turn_index
WHERE t.session_id = $session
ORDER BY t.turn_index
