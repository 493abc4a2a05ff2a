-- The sessions of an export that are not here, or are older here. `synced_at` decides between equals, so that of
-- two exports of the same session one is taken, whatever comes first.
INSERT INTO chosen
WITH there AS (
    SELECT s.*, coalesce(y.synced_at, TIMESTAMP '1970-01-01') AS synced_at
    FROM read_parquet($sessions) s
    LEFT JOIN read_parquet($synced) y ON y.session_id = s.id
),
here AS (
    SELECT s.*, coalesce(y.synced_at, TIMESTAMP '1970-01-01') AS synced_at
    FROM sessions s
    LEFT JOIN synced y ON y.session_id = s.id
)
SELECT there.id
FROM there
LEFT JOIN here ON here.id = there.id
WHERE here.id IS NULL OR (
    greatest(there.updated_at, there.ended_at, there.created_at),
    there.message_count,
    there.synced_at
) > (
    greatest(here.updated_at, here.ended_at, here.created_at),
    here.message_count,
    here.synced_at
)
