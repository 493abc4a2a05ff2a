-- What some turns changed in all, file by file.
SELECT message_id, file, status, additions, deletions, left(patch, $longest + 1) AS patch, length(patch) > $longest AS cut
FROM diffs WHERE session_id = $session AND list_contains($messages, message_id) ORDER BY turn_index, place
