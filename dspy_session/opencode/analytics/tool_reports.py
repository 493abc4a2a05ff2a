"""Reports on tools and on what was done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


class ToolReports(Asking):
    """Reports on tools."""

    def tools(self) -> Report[ToolRow]:
        """The tools, the most used first. Percentiles are interpolated between neighbours, as NumPy's are."""
        return self._report("tools", "Tools", ToolRow)
