-- OpenCode 1.x stores no link from a fork to what it was copied from. It is a session that was there when the
-- copied messages were made and whose messages bear the same times; one with the fork's title comes first.
UPDATE sessions
SET forked_from = found.source
FROM (
    WITH copies AS (
        SELECT
            m.session_id,
            m.seq,
            m.created_at,
            count(*) OVER (PARTITION BY m.session_id) AS copied,
            min(m.created_at) OVER (PARTITION BY m.session_id) AS began
        FROM messages m
        JOIN sessions s ON s.id = m.session_id
        WHERE m.copied AND s.is_fork AND s.forked_from IS NULL
    ),
    matches AS (
        SELECT c.session_id AS fork, m.session_id AS source
        FROM copies c
        JOIN messages m ON m.seq = c.seq AND m.created_at = c.created_at AND m.session_id <> c.session_id
        GROUP BY c.session_id, m.session_id
        HAVING count(*) = any_value(c.copied)
    )
    SELECT p.fork, p.source
    FROM matches p
    JOIN sessions f ON f.id = p.fork
    JOIN sessions s ON s.id = p.source
    JOIN (SELECT DISTINCT session_id, began FROM copies) c ON c.session_id = p.fork
    WHERE s.created_at <= c.began AND c.began <= coalesce(s.updated_at, s.created_at)
    QUALIFY 1 = row_number() OVER (
        PARTITION BY p.fork
        ORDER BY
            regexp_replace(s.title, ' \(fork #\d+\)$', '') <> regexp_replace(f.title, ' \(fork #\d+\)$', ''),
            s.created_at,
            s.id
    )
) AS found
WHERE sessions.id = found.fork
