-- One row a compaction, the latest first, with the call of the model that made the summary.
, asked AS (
    SELECT id, session_id, message_id, message_seq, compaction_auto, created_at, seq,
        lead(message_seq) OVER (PARTITION BY session_id ORDER BY seq) AS following
    FROM chosen_parts WHERE part_type = 'compaction'
),
made AS (
    SELECT a.id, s.model,
        s.tokens_input + s.tokens_cache_read + s.tokens_cache_write AS tokens_before,
        s.tokens_output AS tokens_summary,
        s.cost, s.error_name
    FROM asked AS a
    JOIN messages AS m ON m.session_id = a.session_id
        AND m.seq >= a.message_seq AND (a.following IS NULL OR m.seq < a.following)
    JOIN steps AS s ON s.message_id = m.id AND s.is_summary
)
SELECT a.session_id, sessions.title AS session_title, a.created_at AS compacted_at, coalesce(a.compaction_auto, false) AS automatic,
    arg_min(made.model, made.tokens_before) AS model,
    coalesce(max(made.tokens_before), 0) AS tokens_before,
    coalesce(sum(made.tokens_summary), 0) AS tokens_summary,
    coalesce(fsum(made.cost), 0) AS cost,
    count(made.id) > 0 AND count(made.error_name) < count(made.id) AS finished
FROM asked AS a JOIN sessions ON sessions.id = a.session_id LEFT JOIN made ON made.id = a.id
GROUP BY a.id, a.session_id, sessions.title, a.created_at, a.compaction_auto, a.seq
ORDER BY a.created_at DESC, a.session_id, a.seq DESC
