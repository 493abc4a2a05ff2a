-- One row a shell command that was run again in a session after files had been changed in between.
, changes AS (
    SELECT session_id, seq FROM chosen_tools
    WHERE succeeded AND tool_name IN ('edit', 'write', 'multiedit', 'patch', 'apply_patch')
),
runs AS (
    SELECT session_id, command, seq, succeeded, duration_ms, created_at,
        lag(seq) OVER (PARTITION BY session_id, command ORDER BY seq) AS before,
        lag(succeeded) OVER (PARTITION BY session_id, command ORDER BY seq) AS succeeded_before
    FROM chosen_tools WHERE command IS NOT NULL
),
judged AS (
    SELECT *, before IS NOT NULL AND EXISTS (
        SELECT 1 FROM changes AS c WHERE c.session_id = runs.session_id AND c.seq > runs.before AND c.seq < runs.seq
    ) AS again
    FROM runs
)
SELECT session_id, command,
    count(*) AS runs,
    count(*) FILTER (WHERE again) AS after_changes,
    count(*) FILTER (WHERE before IS NOT NULL AND NOT again) AS without_changes,
    count(*) FILTER (WHERE NOT succeeded) AS failed,
    count(*) FILTER (WHERE succeeded AND NOT succeeded_before) AS turned_good,
    count(*) FILTER (WHERE NOT succeeded AND succeeded_before) AS turned_bad,
    arg_max(succeeded, seq) AS succeeded_at_last,
    coalesce(sum(duration_ms), 0) AS total_ms,
    min(created_at) AS first_at,
    max(created_at) AS last_at
FROM judged GROUP BY session_id, command HAVING count(*) FILTER (WHERE again) > 0
ORDER BY after_changes DESC, first_at, session_id, command
