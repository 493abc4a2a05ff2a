-- The rows that a filter chooses; every question is asked of these. A parameter that is NULL asks for nothing.
-- Time, model and agent choose whole turns' messages: `began_at` is when the turn began.
WITH RECURSIVE fitting_messages AS MATERIALIZED (
    SELECT m.id, m.session_id, m.seq, m.turn_index, m.role, m.agent, m.model, m.created_at, m.completed_at,
        m.error_name, m.error_message, m.error_status,
        coalesce(t.started_at, m.created_at) AS began_at, coalesce(m.model, t.model) AS used_model
    FROM messages AS m
    LEFT JOIN turns AS t ON t.session_id = m.session_id AND t.turn_index = m.turn_index
    WHERE NOT m.copied
        AND ($since::BIGINT IS NULL OR coalesce(t.started_at, m.created_at) >= epoch_ms($since::BIGINT))
        AND ($until::BIGINT IS NULL OR coalesce(t.started_at, m.created_at) < epoch_ms($until::BIGINT))
        AND (
            $model::VARCHAR IS NULL
            OR coalesce(m.model, t.model) = $model
            -- The id alone is enough, unless it is also the whole name of another model.
            OR (substr(coalesce(m.model, t.model), strpos(coalesce(m.model, t.model), '/') + 1) = $model
                AND NOT EXISTS (FROM messages WHERE model = $model))
        )
        AND ($agent::VARCHAR IS NULL OR coalesce(m.agent, t.agent) = $agent)
),
chosen_sessions AS MATERIALIZED (
    SELECT * FROM sessions
    WHERE ($session::VARCHAR IS NULL OR id = $session)
        AND (
            $project::VARCHAR IS NULL
            OR project_id = $project
            OR project_name = $project
            OR directory IN ($folder::VARCHAR, $real_folder::VARCHAR)
            OR starts_with(directory, $below_folder::VARCHAR)
            OR starts_with(directory, $below_real_folder::VARCHAR)
            OR (project_id <> 'global' AND project_id IN (
                SELECT project_id FROM sessions WHERE worktree IN ($folder::VARCHAR, $real_folder::VARCHAR)
            ))
        )
        AND (
            ($since::BIGINT IS NULL AND $until::BIGINT IS NULL
                AND $model::VARCHAR IS NULL AND $agent::VARCHAR IS NULL)
            OR id IN (SELECT session_id FROM fitting_messages)
        )
),
chosen_messages AS NOT MATERIALIZED (
    SELECT * FROM fitting_messages WHERE session_id IN (SELECT id FROM chosen_sessions)
),
chosen_turns AS NOT MATERIALIZED (
    SELECT t.* FROM turns AS t
    WHERE NOT t.copied
        AND t.session_id IN (SELECT id FROM chosen_sessions)
        AND ($since::BIGINT IS NULL OR t.started_at >= epoch_ms($since::BIGINT))
        AND ($until::BIGINT IS NULL OR t.started_at < epoch_ms($until::BIGINT))
        AND (
            $model::VARCHAR IS NULL
            OR t.model = $model
            OR (substr(t.model, strpos(t.model, '/') + 1) = $model
                AND NOT EXISTS (FROM messages WHERE model = $model))
        )
        AND ($agent::VARCHAR IS NULL OR t.agent = $agent)
),
fitting_steps AS NOT MATERIALIZED (
    SELECT s.*, m.began_at, m.seq AS message_seq FROM steps AS s JOIN fitting_messages AS m ON m.id = s.message_id
    WHERE NOT s.copied
),
chosen_steps AS NOT MATERIALIZED (
    SELECT * FROM fitting_steps WHERE session_id IN (SELECT id FROM chosen_sessions)
),
chosen_parts AS NOT MATERIALIZED (
    SELECT p.*, m.began_at, m.used_model AS model, m.agent, m.seq AS message_seq
    FROM parts AS p JOIN chosen_messages AS m ON m.id = p.message_id
    WHERE NOT p.copied
),
chosen_tools AS NOT MATERIALIZED (
    SELECT * FROM chosen_parts WHERE part_type = 'tool'
),
chosen_skills AS NOT MATERIALIZED (
    SELECT k.*, m.began_at, m.used_model AS model, m.agent, m.seq AS message_seq
    FROM skills AS k JOIN chosen_messages AS m ON m.id = k.message_id
    WHERE NOT k.copied
),
-- Sub-agents are known by the session that they name as their parent, and by the tasks that name them.
links AS NOT MATERIALIZED (
    SELECT parent_id AS parent, id AS child FROM sessions WHERE parent_id <> id
    UNION
    SELECT session_id, child_session_id FROM delegations
    WHERE NOT copied AND child_session_id <> session_id AND child_session_id IN (SELECT id FROM sessions)
),
-- What the model's calls took between a load of a skill and the end of its turn. The call that asked for the
-- skill came before the load, and is not among them.
placed AS NOT MATERIALIZED (
    SELECT k.*, coalesce((
        SELECT count(*) FROM step_events AS e
        WHERE e.message_id = k.message_id AND e.event_type = 'start' AND e.seq < k.seq
    ), 0) AS begun
    FROM chosen_skills AS k
),
after AS NOT MATERIALIZED (
    SELECT k.id,
        fsum(s.cost) AS cost,
        sum(s.tokens_input + s.tokens_output + s.tokens_reasoning + s.tokens_cache_read + s.tokens_cache_write)
            AS tokens,
        count(*) AS calls
    FROM placed AS k
    JOIN messages AS m ON m.session_id = k.session_id AND m.turn_index = k.turn_index AND m.seq >= k.message_seq
    JOIN steps AS s ON s.message_id = m.id
    WHERE NOT s.copied AND NOT s.is_summary
        AND (m.seq > k.message_seq OR split_part(s.id, ':', -1)::BIGINT >= greatest(k.begun, 1))
    GROUP BY k.id
)
