-- A session's messages and tokens by role and agent, those with most tokens first.
SELECT m.role, coalesce(m.agent, 'unknown') AS agent,
    count(DISTINCT m.id) AS message_count,
    coalesce(sum(s.tokens_input), 0) AS tokens_input,
    coalesce(sum(s.tokens_output), 0) AS tokens_output,
    coalesce(sum(s.tokens_reasoning), 0) AS tokens_reasoning,
    coalesce(sum(s.tokens_cache_read), 0) AS tokens_cache_read,
    coalesce(sum(s.tokens_cache_write), 0) AS tokens_cache_write,
    coalesce(fsum(s.cost), 0) AS cost
FROM messages AS m LEFT JOIN steps AS s ON s.message_id = m.id
WHERE m.session_id = $session AND NOT m.copied
GROUP BY m.role, coalesce(m.agent, 'unknown')
ORDER BY coalesce(sum(s.tokens_input), 0) + coalesce(sum(s.tokens_output), 0) DESC, m.role, agent
