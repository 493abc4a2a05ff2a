-- Of the skills that are known, those that were never loaded.
SELECT name AS skill FROM (SELECT unnest($known::VARCHAR[]) AS name) AS known
WHERE name NOT IN (SELECT skill_name FROM chosen_skills WHERE succeeded)
GROUP BY name ORDER BY name
