-- A session's head, with the sign by which the outcome of its last turn was told.
SELECT s.*,
    (SELECT arg_max(model, step_index) FROM steps WHERE session_id = s.id AND NOT is_summary) AS model,
    (SELECT arg_max(signal, turn_index) FROM turns WHERE session_id = s.id AND NOT reverted) AS signal,
    (SELECT arg_max(coalesce(detail, ''), turn_index) FROM turns WHERE session_id = s.id AND NOT reverted) AS detail
FROM sessions AS s WHERE s.id = $session
