-- How many damaged pieces of the chosen sessions could not be read; without a project and a session in the
-- filter, those that belong to no session that is here as well.
SELECT (SELECT coalesce(sum(skipped), 0) FROM chosen_sessions) + (
    SELECT count(*) FROM skipped
    WHERE $project::VARCHAR IS NULL AND $session::VARCHAR IS NULL
        AND (session_id IS NULL OR session_id NOT IN (SELECT id FROM sessions))
) AS skipped
