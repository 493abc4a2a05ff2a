-- The messages of some turns, in order. One that belongs to no turn is shown where it was made.
WITH placed AS (
    SELECT *, coalesce(turn_index, last_value(turn_index IGNORE NULLS) OVER (
        ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ), 0) AS place
    FROM messages WHERE session_id = $session
)
SELECT id, place AS turn, role, agent, model, created_at, completed_at, finish_reason, is_summary,
    error_name, error_message, error_status, copied, reverted
FROM placed WHERE place >= $first AND place < $end ORDER BY seq
