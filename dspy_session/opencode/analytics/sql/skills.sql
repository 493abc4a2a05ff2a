-- One row a skill, the most loaded first. What the calls of the model cost between a load and the end of its
-- turn is put down to the skill; the call that asked for it came before, and is not.
, placed AS (
    SELECT k.*, coalesce((
        SELECT count(*) FROM step_events AS e
        WHERE e.message_id = k.message_id AND e.event_type = 'start' AND e.seq < k.seq
    ), 0) AS begun
    FROM chosen_skills AS k
),
after AS (
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
SELECT skill_name AS skill,
    count(*) AS loads,
    count(*) FILTER (WHERE how = 'tool') AS by_tool,
    count(*) FILTER (WHERE how = 'command') AS by_command,
    count(DISTINCT session_id) AS sessions,
    count(*) FILTER (WHERE succeeded) AS succeeded,
    count(*) FILTER (WHERE NOT succeeded) AS failed,
    count(*) FILTER (WHERE succeeded) / count(*) AS success_rate,
    min(loaded_at) AS first_used,
    max(loaded_at) AS last_used,
    coalesce(sum(duration_ms), 0) AS total_ms,
    avg(duration_ms) AS mean_ms,
    quantile_cont(duration_ms, 0.5) AS p50_ms,
    quantile_cont(duration_ms, 0.9) AS p90_ms,
    quantile_cont(duration_ms, 0.95) AS p95_ms,
    coalesce(sum(after.calls), 0) AS attributed_calls,
    coalesce(sum(after.tokens), 0) AS attributed_tokens,
    coalesce(fsum(after.cost), 0) AS attributed_cost
FROM chosen_skills LEFT JOIN after ON after.id = chosen_skills.id
GROUP BY skill_name ORDER BY loads DESC, skill
