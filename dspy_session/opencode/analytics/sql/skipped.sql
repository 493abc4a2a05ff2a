-- How many damaged pieces of the chosen sessions could not be read.
SELECT coalesce(sum(skipped), 0) AS skipped FROM chosen_sessions
