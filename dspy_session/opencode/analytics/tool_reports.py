"""Reports on tools and on what was done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dspy_session.opencode.analytics.asking import Asking
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class ToolRow:
    """A tool."""

    tool: str = column("the tool")
    calls: int = column("calls, undone ones included")
    sessions: int = column("sessions that called it")
    succeeded: int = column("calls that did what was asked: a shell's exit status is looked at, too")
    failed: int = column("calls that ended otherwise")
    unfinished: int = column("calls that never ended, or have not yet")
    success_rate: float = column("succeeded / calls", "share")
    repeats: int = column("calls that equal an earlier one of the same turn")
    retries: int = column("repeats of a call that had failed")
    total_ms: int = column("time in all calls", "ms")
    mean_ms: float | None = column("time of a call, on average", "ms")
    p50_ms: float | None = column("time of a call, the median", "ms")
    p90_ms: float | None = column("time that 90% of the calls keep within", "ms")
    p95_ms: float | None = column("time that 95% of the calls keep within", "ms")
    exit_codes: Mapping[int, int] | None = column("exit statuses of shell commands, with how often each came")
    result_chars: int = column("characters that it gave back", "characters")


@dataclass(frozen=True)
class RepeatedCallRow:
    """A call that was made more than once in a turn."""

    session_id: str = column("the session")
    turn_index: int | None = column("the turn, from 0")
    tool: str = column("the tool")
    arguments: str = column("the arguments as JSON")
    calls: int = column("how often it was made")
    failed: int = column("how often it did not succeed")
    succeeded_at_last: bool = column("whether the last one succeeded")
    total_ms: int = column("time in all of them", "ms")
    first_at: datetime | None = column("the first one (UTC)")
    last_at: datetime | None = column("the last one (UTC)")


@dataclass(frozen=True)
class VerificationRow:
    """A shell command that was run again in a session after files had been changed."""

    session_id: str = column("the session")
    command: str = column("the command")
    runs: int = column("how often it was run")
    after_changes: int = column("runs again, after files were changed in between")
    without_changes: int = column("runs again, though nothing had been changed in between")
    failed: int = column("runs that did not succeed")
    turned_good: int = column("runs that succeeded after one that had not")
    turned_bad: int = column("runs that did not succeed after one that had")
    succeeded_at_last: bool = column("whether the last run succeeded")
    total_ms: int = column("time in all runs", "ms")
    first_at: datetime | None = column("the first run (UTC)")
    last_at: datetime | None = column("the last run (UTC)")


@dataclass(frozen=True)
class EditFormatRow:
    """A way of changing files, as one model used it."""

    model: str | None = column("provider/model")
    format: str = column("the tool: edit, write, multiedit, patch or apply_patch")
    attempts: int = column("calls")
    succeeded: int = column("calls that changed the file")
    success_rate: float = column("succeeded / attempts", "share")
    retries: int = column("calls for the same files after one that had failed, in the same turn")
    mean_ms: float | None = column("time of a call, on average; waiting for a permission included", "ms")
    error_classes: Mapping[str, int] | None = column("why calls failed, with how often")


@dataclass(frozen=True)
class TodoRow:
    """A session's list of things to do, as it stands."""

    session_id: str = column("the session")
    session_title: str = column("the session's title")
    todos: int = column("entries")
    completed: int = column("done")
    in_progress: int = column("under way")
    pending: int = column("not begun")
    cancelled: int = column("given up")
    open: tuple[str, ...] = column("those under way and not begun, in order")


class ToolReports(Asking):
    """Reports on tools."""

    def tools(self) -> Report[ToolRow]:
        """The tools, the most used first. Percentiles are interpolated between neighbours, as NumPy's are."""
        return self._report("tools", "Tools", ToolRow)

    def repeated_calls(self) -> Report[RepeatedCallRow]:
        """Calls with the same arguments within a turn, the most repeated first."""
        return self._report("repeated_calls", "Repeated calls", RepeatedCallRow)

    def verifications(self) -> Report[VerificationRow]:
        """Shell commands that were run again after edits, as tests are; the most repeated first."""
        return self._report("verifications", "Repeated verification", VerificationRow)

    def edit_formats(self) -> Report[EditFormatRow]:
        """Ways of changing files by model, with how often each succeeded."""
        return self._report("edit_formats", "Edit formats", EditFormatRow)

    def todos(self) -> Report[TodoRow]:
        """Lists of things to do as they stand, of the newest session first."""
        return self._report("todos", "To do", TodoRow)
