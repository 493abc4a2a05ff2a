"""The columns that each kind of part fills in the table `parts`. All others are NULL for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.analytics._cutting import beginning
from dspy_session.opencode.analytics._failures import error_class
from dspy_session.opencode.outcomes import SHELLS
from dspy_session.opencode.parts import (
    CompactionPart,
    FilePart,
    Part,
    PatchPart,
    ReasoningPart,
    RetryPart,
    StepFinish,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.tokens import Usage

SUMMARY = 500
"""Characters of a tool's result that are kept, at most."""

HEAD = ("id", "session_id", "message_id", "turn_index", "seq", "part_type")
TAIL = ("copied", "reverted")
TIMES = ("created_at", "ended_at", "duration_ms")
TOKENS = ("tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write")

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of part.

    Attributes:
        name: of the shape that its rows have.
        columns: the columns that it fills, in order.
        values: their values, from the part, the time at which its message was made, and what a step used.
        counts: it bears tokens and cost.
    """

    name: str
    columns: tuple[str, ...]
    values: Callable[[Any, int | None, Usage | None], Values]
    counts: bool = False


def _times(started: int | None, ended: int | None, made: int | None) -> Values:
    lasted = None if started is None or ended is None else max(0, ended - started)
    return started or made, ended, lasted


def _of_text(part: TextPart, made: int | None, usage: Usage | None) -> Values:
    return part.text, part.synthetic, *_times(part.started, part.ended, made)


def _of_reasoning(part: ReasoningPart, made: int | None, usage: Usage | None) -> Values:
    return part.text, part.signature, *_times(part.started, part.ended, made)


def _of_tool(call: ToolCall, made: int | None, usage: Usage | None) -> Values:
    output, succeeded, tool, given = call.output, call.succeeded, call.tool, call.input
    return (
        tool,
        call.status,
        call.title,
        succeeded,
        call.interrupted,
        call.exit_code,
        call.call_id,
        arguments(given),
        read.optional_text(given.get("command")) if tool in SHELLS else None,
        None if output is None else beginning(output, SUMMARY),
        None if output is None else len(output),
        call.error,
        None if succeeded else error_class(call),
        call.child_session_id,
        list(call.files),
        *_times(call.started, call.ended, made),
    )


def _of_file(part: FilePart, made: int | None, usage: Usage | None) -> Values:
    address = None if part.url.startswith("data:") else part.url
    return part.mime, part.filename, address, part.size, part.synthetic, made


def _of_retry(part: RetryPart, made: int | None, usage: Usage | None) -> Values:
    error = part.error
    made = part.created or made
    return (None, None, made) if error is None else (error.message, as_json(error.raw), made)


def _of_finish(part: StepFinish, made: int | None, usage: Usage | None) -> Values:
    if usage is None:
        return (*(None,) * 6, made)
    return usage.cost, *token_values(usage), made


OTHER = Kind("other parts", ("created_at",), lambda part, made, usage: (made,))

KINDS: dict[type[Part], Kind] = {
    TextPart: Kind("texts", ("content", "synthetic", *TIMES), _of_text),
    ReasoningPart: Kind("reasoning", ("reasoning_text", "anthropic_signature", *TIMES), _of_reasoning),
    ToolCall: Kind(
        "tool calls",
        (
            *("tool_name", "tool_status", "tool_title", "succeeded", "interrupted", "exit_code", "call_id"),
            *("arguments", "command", "result_summary", "result_chars", "error_message", "error_class"),
            *("child_session_id", "files", *TIMES),
        ),
        _of_tool,
    ),
    FilePart: Kind(
        "files", ("file_mime", "file_name", "file_url", "file_size", "synthetic", "created_at"), _of_file
    ),
    RetryPart: Kind("retries", ("error_message", "error_data", "created_at"), _of_retry),
    StepFinish: Kind("step finishes", ("cost", *TOKENS, "created_at"), _of_finish, counts=True),
    SubtaskPart: Kind("subtasks", ("content", "created_at"), lambda part, made, usage: (part.prompt, made)),
    CompactionPart: Kind(
        "compactions", ("compaction_auto", "created_at"), lambda part, made, usage: (part.auto, made)
    ),
    PatchPart: Kind("patched", ("files", "created_at"), lambda part, made, usage: (list(part.files), made)),
}


def token_values(usage: Usage) -> tuple[int, int, int, int, int]:
    """The five kinds of tokens, in the order of the columns."""
    tokens = usage.tokens
    return tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write


def called(own: Values) -> tuple[str, bool, str | None, list[str]]:
    """Of the values of a tool call: the tool, whether it succeeded, the sub-agent's session, the files."""
    return own[0], own[3], own[13], own[14]


_ordered = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str).encode


def arguments(given: Mapping[str, Any]) -> str:
    """The arguments of a call as JSON, keys in order."""
    return _ordered(given if type(given) is dict else dict(given))


def as_json(value: Mapping[str, Any]) -> str:
    """JSON as the standard has it: without NaN and infinities, which Python would write."""
    return json.dumps(_finite(dict(value)), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
