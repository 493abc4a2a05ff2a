-- One row a load of a skill, the latest first.
SELECT k.skill_name AS skill, k.session_id, s.title AS session_title, s.project_name AS project, k.turn_index,
    k.how, k.agent, k.model, k.loaded_at, k.duration_ms, k.succeeded, k.folder,
    (SELECT success FROM turns AS t WHERE t.session_id = k.session_id AND t.turn_index = k.turn_index)
        AS turn_succeeded,
    k.reverted,
    coalesce(after.calls, 0) AS attributed_calls,
    coalesce(after.tokens, 0) AS attributed_tokens,
    coalesce(after.cost, 0) AS attributed_cost
FROM chosen_skills AS k
JOIN chosen_sessions AS s ON s.id = k.session_id
LEFT JOIN after ON after.id = k.id
ORDER BY k.loaded_at DESC, k.session_id, k.seq DESC, k.id
