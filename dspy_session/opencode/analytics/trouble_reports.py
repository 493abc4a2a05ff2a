"""Reports on what went wrong, or had to be done again: errors, refusals, retries, limits, compactions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dspy_session.opencode.analytics.asking import Asking
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class ErrorRow:
    """A kind of error."""

    source: str = column(
        "model (a reply ended with it), tool (a call failed), retry (a try that was repeated)"
    )
    error_class: str | None = column("OpenCode's name of it; for tools, why the call failed in one word")
    tool: str | None = column("the tool")
    errors: int = column("how often")
    sessions: int = column("sessions that it happened in")
    first_at: datetime | None = column("the first time (UTC)")
    last_at: datetime | None = column("the last time (UTC)")
    last_message: str | None = column("what was said the last time")


@dataclass(frozen=True)
class RejectionRow:
    """A call of a tool that was not allowed."""

    session_id: str = column("the session")
    turn_index: int | None = column("the turn, from 0")
    tool: str = column("the tool")
    target: str | None = column("the command, or the first file")
    agent: str | None = column("the agent")
    model: str | None = column("provider/model")
    reason: str | None = column("what OpenCode told the model")
    rejected_at: datetime | None = column("when (UTC)")
    turn_succeeded: bool | None = column("whether the turn did what was asked all the same")


@dataclass(frozen=True)
class CompactionRow:
    """A compaction: a summary took the place of what came before."""

    session_id: str = column("the session")
    session_title: str = column("the session's title")
    compacted_at: datetime | None = column("when (UTC)")
    automatic: bool = column("OpenCode did it by itself, as the context was nearly full")
    model: str | None = column("the model that summed up")
    tokens_before: int = column("tokens that it was sent", "tokens")
    tokens_summary: int = column("tokens of the summary", "tokens")
    cost: float = column("what summing up cost", "USD")
    finished: bool = column("a summary was made")


@dataclass(frozen=True)
class LimitRow:
    """A limit that was reached."""

    limit: str = column(
        "output_tokens (a reply was cut off), context (a prompt was too long), rate (the provider wanted "
        "a pause), tool_time (a tool ran out of time)"
    )
    model: str | None = column("provider/model")
    times: int = column("how often")
    sessions: int = column("sessions that it happened in")
    first_at: datetime | None = column("the first time (UTC)")
    last_at: datetime | None = column("the last time (UTC)")


@dataclass(frozen=True)
class RetryRow:
    """What had to be done again with a model."""

    model: str | None = column("provider/model")
    provider_retries: int = column("tries that the provider refused or failed, and OpenCode repeated")
    streams_broken: int = column("calls made again because the stream had broken off")
    tool_retries: int = column("calls of tools that repeat one that had failed, in the same turn")
    sessions: int = column("sessions that it happened in")


class TroubleReports(Asking):
    """Reports on what went wrong, or had to be done again."""

    def errors(self) -> Report[ErrorRow]:
        """Errors by source and class, the most frequent first.

        Classes of failed tool calls: permission, timeout, aborted, invalid (no such tool, or arguments that do
        not fit), exit_code, not_found, auth, network, syntax, tool_error (anything else).
        """
        return self._report("errors", "Errors", ErrorRow)

    def rejections(self) -> Report[RejectionRow]:
        """Calls of tools that the user, or a rule of the user's, did not allow; the latest first."""
        return self._report("rejections", "Refused permissions", RejectionRow)

    def compactions(self) -> Report[CompactionRow]:
        """Compactions, the latest first."""
        return self._report("compactions", "Compactions", CompactionRow)

    def limits(self) -> Report[LimitRow]:
        """Limits that were reached, the most frequent first. OpenCode does not record limits of steps."""
        return self._report("limits", "Limits reached", LimitRow)

    def retries(self) -> Report[RetryRow]:
        """What was done again, by model; tools' retries are told one by one by `repeated_calls`."""
        return self._report("retries", "Retries", RetryRow)
