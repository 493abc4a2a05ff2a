-- A number that changes when a sync, of whatever process, has read a session.
SELECT count(*) AS sessions, coalesce(bit_xor(hash(session_id, changed_at, fingerprint, form)), 0) AS state FROM synced
