"""Reports on sessions, days and the history as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from dspy_session.opencode.analytics.asking import Asking
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class SessionRow:
    """A session. Its figures are its own: nothing that a fork copied, nothing of its sub-agents."""

    id: str = column("OpenCode's id")
    title: str = column("the title")
    project: str | None = column("the last name of the project's root folder")
    directory: str | None = column("the folder that OpenCode was started in")
    parent_id: str | None = column("for a sub-agent's session, the session that started it")
    is_fork: bool = column("it began as a copy of another session")
    forked_from: str | None = column("the session that it was copied from, where that can be told")
    agent: str | None = column("the agent that answered last")
    models: tuple[str, ...] = column("the models that were called")
    created_at: datetime | None = column("when it was made (UTC)")
    ended_at: datetime | None = column("when the last reply ended (UTC)")
    duration_ms: int | None = column("from its beginning to its end, pauses of the user included", "ms")
    working_ms: int = column("from each prompt to the end of the last reply to it, added up", "ms")
    turns: int = column("turns that the user did not undo")
    turns_succeeded: int = column("of these, those that did what was asked")
    turns_reverted: int = column("turns that the user undid")
    calls: int = column("calls of the model, undone ones and those for compactions included")
    tool_calls: int = column("calls of tools")
    tool_failures: int = column("of these, those that did not succeed")
    errors: int = column("calls of the model that ended with an error")
    compactions: int = column("compactions of the conversation")
    tokens_input: int = column("tokens sent and not served from a cache", "tokens")
    tokens_output: int = column("tokens written, reasoning excluded", "tokens")
    tokens_reasoning: int = column("tokens thought", "tokens")
    tokens_cache_read: int = column("tokens sent and served from a cache", "tokens")
    tokens_cache_write: int = column("tokens sent and written to a cache", "tokens")
    cost: float = column("cost of its own calls, undone ones included", "USD")
    reverted_cost: float = column("the part of it that undone calls cost", "USD")
    cost_with_sub_agents: float = column("its cost and that of its sub-agents, at any depth", "USD")
    sub_agents: int = column("its sub-agents' sessions, at any depth")
    skipped: int = column("its damaged messages, parts and values, which are not counted")


@dataclass(frozen=True)
class DayRow:
    """A day of UTC on which turns began."""

    day: date = column("the day (UTC) on which the turns began")
    sessions: int = column("sessions with a turn of that day")
    turns: int = column("turns, undone ones included")
    calls: int = column("calls of the model")
    tokens_input: int = column("tokens sent and not served from a cache", "tokens")
    tokens_output: int = column("tokens written, reasoning excluded", "tokens")
    tokens_reasoning: int = column("tokens thought", "tokens")
    tokens_cache_read: int = column("tokens sent and served from a cache", "tokens")
    tokens_cache_write: int = column("tokens sent and written to a cache", "tokens")
    cost: float = column("what the calls cost, undone ones included", "USD")


@dataclass(frozen=True)
class TreeRow:
    """A session and its place below the session that began it all."""

    root: str = column("the session at the top")
    id: str = column("the session")
    parent: str | None = column("the session that started it; empty at the top")
    depth: int = column("0 at the top")
    title: str = column("the title")
    agent: str | None = column("the agent that answered last")
    is_fork: bool = column("it began as a copy of another session")
    created_at: datetime | None = column("when it was made (UTC)")
    duration_ms: int | None = column("from its beginning to its end", "ms")
    calls: int = column("its own calls of the model")
    tokens: int = column("their tokens of all kinds", "tokens")
    cost: float = column("their cost", "USD")


@dataclass(frozen=True)
class TurnRow:
    """A turn: a prompt with everything that was done for it."""

    session_id: str = column("the session")
    turn_index: int = column("its place in the session, from 0")
    kind: str = column("prompt, subtask, shell or compaction")
    agent: str | None = column("the agent that answered last")
    model: str | None = column("provider/model of the last reply")
    prompt: str | None = column("what the user typed")
    started_at: datetime | None = column("when the user sent it (UTC)")
    duration_ms: int | None = column("to the end of the last reply", "ms")
    calls: int = column("calls of the model")
    tool_calls: int = column("calls of tools")
    tokens_input: int = column("tokens sent and not served from a cache", "tokens")
    tokens_output: int = column("tokens written, reasoning excluded", "tokens")
    tokens_reasoning: int = column("tokens thought", "tokens")
    tokens_cache_read: int = column("tokens sent and served from a cache", "tokens")
    tokens_cache_write: int = column("tokens sent and written to a cache", "tokens")
    cost: float = column("cost of its calls, those for compactions left out", "USD")
    success: bool = column("whether it did what was asked, as far as can be told")
    signal: str = column("the sign that this was told by")
    detail: str | None = column("what that sign said")
    reverted: bool = column("the user undid it")


@dataclass(frozen=True)
class OverviewRow:
    """The history as a whole."""

    sessions: int = column("sessions, sub-agents' and forks included")
    messages: int = column("messages of the user and replies")
    days: int = column("days from the first session's beginning to the last change, at least 1")
    cost: float = column("cost of all calls of models", "USD")
    cost_per_day: float = column("cost divided by days", "USD")
    mean_tokens: float = column("tokens of all kinds a session, on average", "tokens")
    median_tokens: float = column("tokens of all kinds a session, the median", "tokens")
    tokens_input: int = column("tokens sent and not served from a cache", "tokens")
    tokens_output: int = column("tokens written, reasoning excluded", "tokens")
    tokens_reasoning: int = column("tokens thought", "tokens")
    tokens_cache_read: int = column("tokens sent and served from a cache", "tokens")
    tokens_cache_write: int = column("tokens sent and written to a cache", "tokens")


class SessionReports(Asking):
    """Reports on sessions, days and the history as a whole."""

    def sessions(self) -> Report[SessionRow]:
        """The sessions, the newest first; sub-agents' and forks are sessions of their own.

        `cost_with_sub_agents` counts sub-agents that the filter's project and session leave out, too.
        """
        return self._report("sessions", "Sessions", SessionRow)

    def tree(self) -> Report[TreeRow]:
        """The sessions with their sub-agents below them, the newest first; parents come before children.

        A filter by session gives that session and all below it. A sub-agent that two sessions worked with
        stands below both.
        """
        return self._report("tree", "Sessions and sub-agents", TreeRow)

    def turns(self) -> Report[TurnRow]:
        """The turns, the latest first."""
        return self._report("turns", "Turns", TurnRow)

    def cost_by_day(self) -> Report[DayRow]:
        """Days (UTC) on which turns began, in order, with what those turns took; days without are left out."""
        return self._report("cost_by_day", "Cost by day", DayRow)

    def overview(self) -> Report[OverviewRow]:
        """One row: the figures that `opencode stats` prints, what forks copied left out."""
        return self._report("overview", "Overview", OverviewRow)

    def stored_overview(self) -> Report[OverviewRow]:
        """One row: the figures of `opencode stats`, counted as it counts them.

        What a fork copied is counted again, in the fork, and costs are those of the sessions' heads. Compare it
        with `overview()`, which counts everything once.
        """
        return self._report("stored_overview", "Overview as OpenCode counts", OverviewRow)
