-- What the last syncs remembered of each session.
SELECT
    session_id,
    source,
    rank,
    epoch_ms(updated_at) AS updated,
    epoch_ms(changed_at) AS changed,
    fingerprint,
    form
FROM synced
