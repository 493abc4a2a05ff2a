"""The tables of the warehouse, as data: each column with its type and its meaning.

Types are DuckDB's. Times are UTC. `seq` counts the parts of a session from 0, in the order in which they were
made: parts that bear no time are ordered by it. A row is `copied` if a fork brought it along (its tokens were
spent in the other session) and `reverted` if the user undid it (its tokens were spent all the same).
"""

from __future__ import annotations

from dspy_session.opencode.analytics._table import Column as Column
from dspy_session.opencode.analytics._table import Table as Table
from dspy_session.opencode.analytics._table import table as _table

FORM = 1
"""Raised when the meaning of a column changes: sessions that were synced under another form are read again."""

TOKENS = """
    tokens_input BIGINT: tokens sent and not served from a cache
    tokens_output BIGINT: tokens written by the model, reasoning excluded
    tokens_reasoning BIGINT: tokens thought by the model
    tokens_cache_read BIGINT: tokens sent and served from a cache
    tokens_cache_write BIGINT: tokens sent and written to a cache
"""

SESSIONS = _table(
    "sessions",
    "One row a conversation; sub-agents' and forks are sessions of their own.",
    "id",
    """
    id VARCHAR: OpenCode's id
    project_id VARCHAR: OpenCode's id of the project
    project_name VARCHAR: the last name of the project's root folder
    worktree VARCHAR: the project's root folder
    directory VARCHAR: the folder that OpenCode was started in
    title VARCHAR: the title
    slug VARCHAR: the short name
    version VARCHAR: the release of OpenCode that created it
    parent_id VARCHAR: for a sub-agent's session, the session that started it
    is_root BOOLEAN: it is no sub-agent's session
    is_fork BOOLEAN: it began as a copy of another session
    forked_from VARCHAR: the session that it was copied from, where that can be told
    agent VARCHAR: the agent that answered last
    created_at TIMESTAMP: when it was made
    updated_at TIMESTAMP: when its head was last touched
    ended_at TIMESTAMP: when the last reply ended, or the last message was made
    duration_ms BIGINT: from created_at to ended_at
    additions BIGINT: lines added, by OpenCode's own count
    deletions BIGINT: lines deleted, by OpenCode's own count
    files_changed BIGINT: files changed, by OpenCode's own count
    archived BOOLEAN: the user put it away
    reverted BOOLEAN: the user undid a part of it
    compacted BOOLEAN: the model lost sight of a part of it to a compaction
    message_count BIGINT: its messages, copied ones included
    turn_count BIGINT: its turns, neither copied nor undone
    stored_cost DOUBLE: US dollars as the session's head has them: copies and undone turns included
    skipped BIGINT: its damaged messages, parts and values, which are not here
    origin VARCHAR: the file or database that it was read from
    """,
)

MESSAGES = _table(
    "messages",
    "One row a message, as it is stored: a prompt of the user or a reply of the model.",
    "id",
    """
    id VARCHAR: OpenCode's id
    session_id VARCHAR: the session
    seq BIGINT: its place in the session, from 0
    turn_index BIGINT: the turn that it belongs to, from 0
    parent_id VARCHAR: for a reply, the user's message
    role VARCHAR: user or assistant
    agent VARCHAR: the agent that was asked, or that answered
    provider_id VARCHAR: the provider
    model_id VARCHAR: the model
    model VARCHAR: provider/model
    mode VARCHAR: the mode, in older releases the agent's name
    created_at TIMESTAMP: when it was made
    completed_at TIMESTAMP: when the reply ended; NULL if it was cut off
    cost DOUBLE: US dollars, as stored
    """
    + TOKENS
    + """
    finish_reason VARCHAR: why the reply ended
    working_dir VARCHAR: the folder that the model worked in
    root_path VARCHAR: the root of that folder's project
    summary_title VARCHAR: OpenCode's heading for the turn of this prompt
    is_summary BOOLEAN: it sums up the conversation for a compaction
    error_name VARCHAR: the class of what went wrong
    error_message VARCHAR: what went wrong
    error_status BIGINT: the HTTP status, where a provider gave one
    error_data JSON: the error as it is stored
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

TURNS = _table(
    "turns",
    "One row a turn: a prompt of the user with everything that was done for it.",
    "session_id turn_index",
    """
    session_id VARCHAR: the session
    turn_index BIGINT: its place in the session, from 0
    user_message_id VARCHAR: the user's message
    assistant_message_id VARCHAR: the last reply
    kind VARCHAR: prompt, subtask, shell or compaction
    agent VARCHAR: the agent that answered last
    model VARCHAR: provider/model of the last reply
    prompt VARCHAR: what the user typed
    response VARCHAR: the model's last words
    summary_title VARCHAR: OpenCode's heading for it
    started_at TIMESTAMP: when the user sent it
    ended_at TIMESTAMP: when the last reply ended
    duration_ms BIGINT: from started_at to ended_at
    step_count BIGINT: its calls of the model
    tool_count BIGINT: its calls of tools
    cost DOUBLE: US dollars, as its steps have them
    """
    + TOKENS
    + """
    success BOOLEAN: whether it did what was asked, as far as can be told
    signal VARCHAR: the sign that `success` was told by
    detail VARCHAR: what that sign said
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

STEPS = _table(
    "steps",
    "One row a call of the model. Tokens have today's meaning, whatever release wrote them.",
    "id",
    """
    id VARCHAR: the message's id and the step's number in it
    session_id VARCHAR: the session
    message_id VARCHAR: the message that holds it
    turn_index BIGINT: the turn; NULL for a compaction's
    step_index BIGINT: its place in the session, from 0
    agent VARCHAR: the agent
    provider_id VARCHAR: the provider
    model_id VARCHAR: the model
    model VARCHAR: provider/model
    created_at TIMESTAMP: when the message was made
    completed_at TIMESTAMP: when the message ended
    finish_reason VARCHAR: why it ended; NULL if it was cut off
    cost DOUBLE: US dollars, as stored
    cost_source VARCHAR: where tokens and cost stand: step, message or none
    accounting VARCHAR: exact, corrected or ambiguous: how far the tokens can be trusted
    cost_issues VARCHAR[]: what is known to be wrong with the stored cost
    """
    + TOKENS
    + """
    tool_count BIGINT: the tools that it called
    error_name VARCHAR: the class of what went wrong, on the last step of its message
    retried BOOLEAN: an earlier try of it broke off in mid-stream
    is_summary BOOLEAN: it sums up the conversation for a compaction
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

STEP_EVENTS = _table(
    "step_events",
    "The marks at the start and the end of a call of the model.",
    "id",
    """
    id VARCHAR: the part's id
    session_id VARCHAR: the session
    message_id VARCHAR: the message
    seq BIGINT: its place among the session's parts
    event_type VARCHAR: start or finish
    reason VARCHAR: why the call ended
    snapshot_hash VARCHAR: the git tree (not a commit) of the work folder
    cost DOUBLE: US dollars, as stored; not rounded
    """
    + TOKENS
    + """
    created_at TIMESTAMP: of the message: made for a start, ended for a finish
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
    "session_id",
)

PATCHES = _table(
    "patches",
    "The files that a call of the model changed.",
    "id",
    """
    id VARCHAR: the part's id
    session_id VARCHAR: the session
    message_id VARCHAR: the message
    seq BIGINT: its place among the session's parts
    git_hash VARCHAR: the git tree (not a commit) before the change
    files VARCHAR[]: absolute paths
    created_at TIMESTAMP: when the message ended, or was made
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
    "session_id",
)

PARTS = _table(
    "parts",
    "One row a part of a message: text, reasoning, a tool call, a file, a mark.",
    "id",
    """
    id VARCHAR: OpenCode's id
    session_id VARCHAR: the session
    message_id VARCHAR: the message
    turn_index BIGINT: the turn
    seq BIGINT: its place among the session's parts, from 0
    part_type VARCHAR: OpenCode's name for this kind of part
    content VARCHAR: the text of a text part, a sub-agent's task, a retry's message
    synthetic BOOLEAN: text made by OpenCode, that nobody typed
    tool_name VARCHAR: the tool
    tool_status VARCHAR: pending, running, completed or error
    tool_title VARCHAR: OpenCode's heading for the call
    succeeded BOOLEAN: the tool did what was asked: a shell's exit status and time-outs are looked at too
    interrupted BOOLEAN: the call never ended, or was aborted
    exit_code BIGINT: a shell command's exit status
    call_id VARCHAR: the provider's id of the call
    arguments VARCHAR: the arguments as JSON, keys in order, equal for equal calls
    command VARCHAR: a shell's command
    result_summary VARCHAR: the beginning of what the tool gave back: at most 500 characters, up to the end of a word
    result_chars BIGINT: how long that was, in characters
    error_message VARCHAR: why the call or the try failed
    error_class VARCHAR: why a call failed: permission, timeout, aborted, invalid, exit_code, not_found, …
    error_data JSON: a retry's error as it is stored
    child_session_id VARCHAR: the sub-agent's session, for a task
    files VARCHAR[]: paths that the call names
    created_at TIMESTAMP: when it began; where it bears no time, when its message was made
    ended_at TIMESTAMP: when it ended
    duration_ms BIGINT: from its start to its end
    reasoning_text VARCHAR: what the model thought
    anthropic_signature VARCHAR: Anthropic's signature of the thinking
    compaction_auto BOOLEAN: OpenCode compacted by itself
    file_mime VARCHAR: an attachment's media type
    file_name VARCHAR: an attachment's name
    file_url VARCHAR: an attachment's address; NULL where the address is the content itself
    file_size BIGINT: bytes of the content, where the part carried it
    cost DOUBLE: of a step's end: US dollars, as stored
    """
    + TOKENS
    + """
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

FILE_OPERATIONS = _table(
    "file_operations",
    "One row a file that a tool read, wrote or edited.",
    "part_id place",
    """
    part_id VARCHAR: the tool call
    place BIGINT: from 0, for calls that touch several files
    session_id VARCHAR: the session
    message_id VARCHAR: the message
    turn_index BIGINT: the turn
    seq BIGINT: the call's place among the session's parts
    operation VARCHAR: read, write or edit
    format VARCHAR: the tool: read, write, edit, multiedit, patch or apply_patch
    path VARCHAR: the file
    additions BIGINT: lines added, where the tool recorded it
    deletions BIGINT: lines deleted, where the tool recorded it
    diff VARCHAR: the change as a unified diff, where the tool recorded it
    succeeded BOOLEAN: the call did what was asked
    created_at TIMESTAMP: when the call began
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

SKILLS = _table(
    "skills",
    "One row a skill that was loaded, or asked for in vain.",
    "id",
    """
    id VARCHAR: the tool call, or the part of the prompt that holds it
    message_id VARCHAR: the message
    session_id VARCHAR: the session
    turn_index BIGINT: the turn
    seq BIGINT: its place among the session's parts
    skill_name VARCHAR: the skill
    how VARCHAR: tool if the model loaded it, command if the user did
    succeeded BOOLEAN: it was there
    loaded_at TIMESTAMP: when
    duration_ms BIGINT: how long loading took, for a tool call
    folder VARCHAR: where the skill lies, where that is recorded
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

DELEGATIONS = _table(
    "delegations",
    "One row a task that was handed to a sub-agent.",
    "id",
    """
    id VARCHAR: the tool call
    message_id VARCHAR: the message
    session_id VARCHAR: the session that handed it on
    turn_index BIGINT: the turn
    parent_agent VARCHAR: the agent that handed it on
    child_agent VARCHAR: the sub-agent
    child_session_id VARCHAR: the sub-agent's session
    description VARCHAR: the task's heading
    succeeded BOOLEAN: the task came to its end
    created_at TIMESTAMP: when
    duration_ms BIGINT: how long it took
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

TODOS = _table(
    "todos",
    "A session's to-do list as it stands.",
    "session_id position",
    """
    session_id VARCHAR: the session
    position BIGINT: from 0
    content VARCHAR: what is to be done
    status VARCHAR: pending, in_progress, completed or cancelled
    priority VARCHAR: high, medium or low
    """,
)

DIFFS = _table(
    "diffs",
    "What a turn changed in a file, from its first to its last state, as OpenCode sums it up.",
    "session_id message_id place",
    """
    session_id VARCHAR: the session
    message_id VARCHAR: the prompt
    turn_index BIGINT: the turn
    place BIGINT: from 0
    file VARCHAR: the file
    status VARCHAR: added, modified or deleted
    additions BIGINT: lines added
    deletions BIGINT: lines deleted
    patch VARCHAR: the change as a unified diff, where it is stored
    copied BOOLEAN: brought along by a fork
    reverted BOOLEAN: undone by the user
    """,
)

TABLES = (
    SESSIONS,
    MESSAGES,
    TURNS,
    STEPS,
    STEP_EVENTS,
    PATCHES,
    PARTS,
    FILE_OPERATIONS,
    SKILLS,
    DELEGATIONS,
    TODOS,
    DIFFS,
)
"""All tables that hold rows of sessions. What the sync remembers has a table of its own."""
