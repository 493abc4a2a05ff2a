"""What came of a turn, and by which sign that can be told.

OpenCode 2 records the outcome itself. For 1.x it has to be read from what the turn left behind; each sign is
named, so that you can trust some and not others. Signs are looked at in the order of `Signal`; the first that
speaks decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dspy_session.opencode import _fields as read
from dspy_session.opencode.parts import ToolCall
from dspy_session.opencode.records import Turn

Signal = Literal[
    "reverted",
    "idle_outcome",
    "aborted",
    "error",
    "permission_rejected",
    "no_reply",
    "unfinished",
    "finish",
    "exit_code",
    "tool_status",
    "finished",
]

GOOD_FINISHES = frozenset({"stop", "end_turn"})
REJECTIONS = (
    "The user rejected permission",
    "The user has specified a rule which prevents you",
)
SHELLS = frozenset({"bash", "shell"})


@dataclass(frozen=True)
class Sign:
    """One sign of success or failure.

    Attributes:
        signal: what kind of sign it is.
        success: what it speaks for.
        detail: what was found, as the error's message or the exit status.
    """

    signal: Signal
    success: bool
    detail: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a turn.

    Attributes:
        success: whether it did what was asked, as far as can be told.
        signal: the sign that decided.
        detail: what that sign said.
        signs: all signs that were found, the deciding one first.
    """

    success: bool
    signal: Signal
    detail: str
    signs: tuple[Sign, ...]


def outcome(turn: Turn) -> Outcome:
    """What came of a turn.

    A failed tool call is no failure by itself, as models try again: only the last shell command with a bad
    exit status, or a failed call that nothing came after but words, speaks against the turn.
    """
    signs = tuple(_signs(turn))
    return Outcome(signs[0].success, signs[0].signal, signs[0].detail, signs)


def succeeded(turn: Turn) -> bool:
    """True if the turn did what was asked: for `where=`."""
    return outcome(turn).success


def failed(turn: Turn) -> bool:
    """True if it did not: for `where=`, where failures are wanted for contrast."""
    return not outcome(turn).success


def _signs(turn: Turn) -> Iterator[Sign]:
    if turn.reverted:
        yield Sign("reverted", False)
    for message in turn.messages:
        idle = read.mapping(message.raw.get("idle")).get("outcome")
        if isinstance(idle, str):
            yield Sign("idle_outcome", idle == "succeeded", idle)
    yield from _errors(turn)
    yield from _rejections(turn)
    yield from _ending(turn)


def _errors(turn: Turn) -> Iterator[Sign]:
    last = turn.replies[-1].error if turn.replies else None
    if last is not None:
        yield Sign("aborted" if last.aborted else "error", False, f"{last.name}: {last.message}")


def _rejections(turn: Turn) -> Iterator[Sign]:
    for call in turn.tool_calls:
        if (call.error or "").removeprefix("Error: ").startswith(REJECTIONS):
            yield Sign("permission_rejected", False, call.error or "")


def _ending(turn: Turn) -> Iterator[Sign]:
    if not turn.replies:
        yield Sign("no_reply", False)
        return
    last = turn.replies[-1]
    if last.completed is None:
        yield Sign("unfinished", False, "the reply was cut off, or is still being written")
    if last.finish is not None and last.finish not in GOOD_FINISHES:
        yield Sign("finish", False, last.finish)
    elif last.finish is None and not last.parts:
        yield Sign("unfinished", False, "the reply is empty")
    calls = turn.tool_calls
    shell = next((call for call in reversed(calls) if call.tool in SHELLS), None)
    if shell is not None and shell.status == "completed" and not shell.succeeded:
        yield Sign("exit_code", False, _exit(shell))
    if calls and not calls[-1].succeeded and calls[-1].tool not in SHELLS:
        yield Sign("tool_status", False, f"{calls[-1].requested_tool}: {calls[-1].error or calls[-1].status}")
    yield Sign("finished", True, last.finish or "completed")


def _exit(call: ToolCall) -> str:
    return "timed out or aborted" if call.exit_code is None else f"exit status {call.exit_code}"
