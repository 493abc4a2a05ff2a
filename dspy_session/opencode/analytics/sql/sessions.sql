-- One row a session, the newest first.
, family AS (
    SELECT id AS root, id AS member FROM chosen_sessions
    UNION
    SELECT family.root, links.child FROM family JOIN links ON links.parent = family.member
),
spent AS (
    SELECT session_id,
        count(*) AS calls,
        fsum(cost) AS cost,
        coalesce(fsum(cost) FILTER (WHERE reverted), 0) AS reverted_cost,
        sum(tokens_input) AS tokens_input,
        sum(tokens_output) AS tokens_output,
        sum(tokens_reasoning) AS tokens_reasoning,
        sum(tokens_cache_read) AS tokens_cache_read,
        sum(tokens_cache_write) AS tokens_cache_write,
        count(error_name) AS errors,
        list_sort(list(DISTINCT model) FILTER (WHERE model IS NOT NULL)) AS models
    FROM fitting_steps GROUP BY session_id
),
with_sub_agents AS (
    SELECT root, count(*) - 1 AS sub_agents, fsum(spent.cost) AS cost
    FROM family JOIN sessions ON sessions.id = family.member LEFT JOIN spent ON spent.session_id = family.member
    GROUP BY root
),
done AS (
    SELECT session_id,
        count(*) FILTER (WHERE NOT reverted) AS turns,
        count(*) FILTER (WHERE success AND NOT reverted) AS turns_succeeded,
        count(*) FILTER (WHERE reverted) AS turns_reverted,
        coalesce(sum(duration_ms), 0) AS working_ms
    FROM chosen_turns GROUP BY session_id
),
used AS (
    SELECT session_id, count(*) AS tool_calls, count(*) FILTER (WHERE NOT succeeded) AS tool_failures
    FROM chosen_tools GROUP BY session_id
),
compacted AS (
    SELECT session_id, count(*) AS compactions FROM chosen_parts WHERE part_type = 'compaction' GROUP BY session_id
)
SELECT s.id, s.title, s.project_name AS project, s.directory, s.parent_id, s.is_fork, s.forked_from, s.agent,
    coalesce(spent.models, []) AS models,
    s.created_at, s.ended_at, s.duration_ms,
    coalesce(done.working_ms, 0) AS working_ms,
    coalesce(done.turns, 0) AS turns,
    coalesce(done.turns_succeeded, 0) AS turns_succeeded,
    coalesce(done.turns_reverted, 0) AS turns_reverted,
    coalesce(spent.calls, 0) AS calls,
    coalesce(used.tool_calls, 0) AS tool_calls,
    coalesce(used.tool_failures, 0) AS tool_failures,
    coalesce(spent.errors, 0) AS errors,
    coalesce(compacted.compactions, 0) AS compactions,
    coalesce(spent.tokens_input, 0) AS tokens_input,
    coalesce(spent.tokens_output, 0) AS tokens_output,
    coalesce(spent.tokens_reasoning, 0) AS tokens_reasoning,
    coalesce(spent.tokens_cache_read, 0) AS tokens_cache_read,
    coalesce(spent.tokens_cache_write, 0) AS tokens_cache_write,
    coalesce(spent.cost, 0) AS cost,
    coalesce(spent.reverted_cost, 0) AS reverted_cost,
    coalesce(with_sub_agents.cost, 0) AS cost_with_sub_agents,
    coalesce(with_sub_agents.sub_agents, 0) AS sub_agents,
    s.skipped
FROM chosen_sessions AS s
LEFT JOIN spent ON spent.session_id = s.id
LEFT JOIN with_sub_agents ON with_sub_agents.root = s.id
LEFT JOIN done ON done.session_id = s.id
LEFT JOIN used ON used.session_id = s.id
LEFT JOIN compacted ON compacted.session_id = s.id
ORDER BY s.created_at DESC NULLS LAST, s.id
