-- What the tool calls of some messages changed, file by file.
SELECT part_id, operation, path, additions, deletions, left(diff, $longest + 1) AS diff, length(diff) > $longest AS cut
FROM file_operations WHERE session_id = $session AND list_contains($messages, message_id) ORDER BY seq, place
