"""Turns and steps as rows of the warehouse's tables: what the messages of a session make together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.analytics._part_rows import token_values
from dspy_session.opencode.outcomes import outcome
from dspy_session.opencode.records import Message, SessionRecord, Step, Turn

Row = tuple[Any, ...]


def turn_row(session_id: str, turn: Turn) -> Row:
    """A row of `turns`."""
    last = turn.replies[-1] if turn.replies else turn.user
    came = outcome(turn)
    summary = read.mapping(turn.user.raw.get("summary"))
    return (
        session_id,
        turn.index,
        turn.user.id,
        turn.replies[-1].id if turn.replies else None,
        turn.kind,
        last.agent,
        last.model or turn.user.model or None,
        turn.prompt,
        turn.response,
        read.optional_text(summary.get("title")),
        turn.started or None,
        turn.ended,
        milliseconds(turn.duration),
        len(turn.steps),
        len(turn.tool_calls),
        turn.usage.cost,
        *token_values(turn.usage),
        came.success,
        came.signal,
        came.detail,
        turn.copied,
        turn.reverted,
    )


def diff_rows(session_id: str, turn: Turn) -> list[Row]:
    """The rows of `diffs` of a turn."""
    return [
        (
            session_id,
            turn.user.id,
            turn.index,
            place,
            read.optional_text(each.get("file")),
            read.optional_text(each.get("status")),
            read.optional_count(each.get("additions")),
            read.optional_count(each.get("deletions")),
            read.optional_text(each.get("patch")),
            turn.copied,
            turn.reverted,
        )
        for place, each in enumerate(turn.user.diffs)
    ]


def step_rows(record: SessionRecord, turn_of: Mapping[str, int]) -> list[Row]:
    """The rows of `steps` of a session.

    Args:
        record: the session.
        turn_of: the turns' places by the ids of their messages.
    """
    numbered: dict[str, int] = {}
    last = {step.message.id: step.index for step in record.steps}
    found = []
    for step in record.steps:
        message = step.message
        number = numbered[message.id] = numbered.get(message.id, -1) + 1
        turn_index = None if message.is_summary else turn_of.get(message.id)
        found.append(_step(record.id, step, number, last[message.id] == step.index, turn_index))
    return found


def _step(session_id: str, step: Step, number: int, last: bool, turn_index: int | None) -> Row:
    message, usage = step.message, step.usage
    provider, model = named(message)
    return (
        f"{message.id}:{number}",
        session_id,
        message.id,
        turn_index,
        step.index,
        message.agent,
        provider,
        model,
        message.model or None,
        message.created or None,
        message.completed,
        (step.finish.reason if step.finish else None) or (message.finish if last else None),
        usage.cost,
        usage.source,
        usage.accounting,
        sorted(usage.issues),
        *token_values(usage),
        len(step.tool_calls),
        message.error.name if last and message.error is not None else None,
        step.retried,
        message.is_summary,
        step.copied,
        step.reverted,
    )


def named(message: Message) -> tuple[str | None, str | None]:
    """The ids of provider and model."""
    raw = message.raw
    named = raw if "modelID" in raw else read.mapping(raw.get("model"))
    return read.optional_text(named.get("providerID")), read.optional_text(named.get("modelID"))


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as whole milliseconds."""
    return None if seconds is None else round(seconds * 1000)
