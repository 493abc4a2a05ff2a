-- One row a call of a tool that the user, or a rule of the user's, did not allow; the latest first.
SELECT session_id, turn_index, tool_name AS tool, coalesce(command, files[1]) AS target, agent, model, error_message AS reason,
    created_at AS rejected_at, turns.success AS turn_succeeded
FROM chosen_tools LEFT JOIN (SELECT session_id AS s, turn_index AS i, success FROM turns) AS turns
    ON turns.s = session_id AND turns.i = turn_index
WHERE error_class = 'permission'
ORDER BY created_at DESC, session_id, seq
