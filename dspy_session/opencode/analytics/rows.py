"""A session's record as the rows of the warehouse's tables: tuples in the order of the columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.analytics._failures import error_class
from dspy_session.opencode.analytics._operations import operations
from dspy_session.opencode.analytics.tables import TABLES
from dspy_session.opencode.grouping import reverted_ids
from dspy_session.opencode.outcomes import SHELLS, outcome
from dspy_session.opencode.parts import (
    CompactionPart,
    FilePart,
    Part,
    PatchPart,
    ReasoningPart,
    RetryPart,
    StepFinish,
    StepStart,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.records import Message, SessionRecord, Step, Turn
from dspy_session.opencode.skills import skill_uses
from dspy_session.opencode.tokens import ZERO, Tokens, Usage, read_usage

SUMMARY = 500
"""Characters of a tool's result that are kept."""

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]


def session_rows(record: SessionRecord, *, skipped: int = 0) -> Rows:
    """The rows of a session, by table. Times are milliseconds since the epoch.

    Args:
        record: the session.
        skipped: how many of its messages and parts could not be read.
    """
    made = _Maker(record)
    for seq, message in enumerate(record.messages):
        made.message(seq, message)
    for turn in record.turns:
        made.turn(turn)
    made.steps()
    made.skills()
    made.todos()
    made.session(skipped)
    return made.rows


class _Maker:
    """Makes the rows of one session in one pass over its messages."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.rows: Rows = {table.name: [] for table in TABLES}
        self.turn_of = {m.id: turn.index for turn in record.turns for m in turn.messages}
        self.copied = {message.id for message in record.messages[: record.copied_messages]}
        self.dead = reverted_ids(record)
        self.usage_of = {
            step.finish.id: step.usage for step in record.steps if step.finish is not None and step.finish.id
        }
        self.seq_of: dict[str, int] = {}

    def marks(self, message: Message, part: Part | None = None) -> tuple[bool, bool]:
        """`copied` and `reverted`."""
        undone = message.id in self.dead or (part is not None and part.id in self.dead)
        return message.id in self.copied, undone

    # -- one row a session --

    def session(self, skipped: int) -> None:
        record = self.record
        ended = max((m.completed or m.created for m in record.messages), default=None)
        replies = [m for m in record.messages if m.role == "assistant" and not m.is_summary]
        changed = read.mapping(record.info.get("summary"))
        root = record.worktree if record.worktree not in (None, "/", "") else record.directory
        self.rows["sessions"].append(
            (
                record.id,
                record.project_id,
                _last_name(root),
                record.worktree,
                record.directory,
                record.title,
                record.slug,
                record.version,
                record.parent_id,
                not record.is_child,
                record.is_fork,
                read.optional_text(read.mapping(record.info.get("fork")).get("sessionID")),
                replies[-1].agent if replies else None,
                record.created or None,
                record.updated or None,
                ended,
                None if ended is None else max(0, ended - record.created),
                *(read.optional_count(changed.get(name)) for name in ("additions", "deletions", "files")),
                record.archived,
                record.revert is not None,
                record.is_compacted,
                len(record.messages),
                sum(not turn.copied and not turn.reverted for turn in record.turns),
                record.stored_cost,
                skipped,
                record.origin,
            )
        )

    def todos(self) -> None:
        self.rows["todos"] += [
            (self.record.id, place, todo.content, todo.status, todo.priority)
            for place, todo in enumerate(self.record.todos)
        ]

    # -- messages and their parts --

    def message(self, seq: int, message: Message) -> None:
        raw, error = message.raw, message.error
        named = raw if "modelID" in raw else read.mapping(raw.get("model"))
        path, summary = read.mapping(raw.get("path")), read.mapping(raw.get("summary"))
        stored = message.raw.get("tokens")
        usage = read_usage(
            stored, message.stored_cost, "message", self.record.version, read.text(named.get("providerID"))
        )
        self.rows["messages"].append(
            (
                message.id,
                self.record.id,
                seq,
                self.turn_of.get(message.id),
                message.parent_id,
                message.role,
                message.agent,
                read.optional_text(named.get("providerID")),
                read.optional_text(named.get("modelID")),
                message.model or None,
                read.optional_text(raw.get("mode")),
                message.created or None,
                message.completed,
                message.stored_cost,
                *_tokens(usage.tokens),
                message.finish,
                read.optional_text(path.get("cwd")),
                read.optional_text(path.get("root")),
                read.optional_text(summary.get("title")),
                message.is_summary,
                None if error is None else error.name,
                None if error is None else error.message,
                None if error is None else error.status_code,
                None if error is None else _json(error.raw),
                *self.marks(message),
            )
        )
        for part in message.parts:
            self.part(message, part)

    def part(self, message: Message, part: Part) -> None:
        seq = len(self.rows["parts"])
        self.seq_of[part.id] = seq
        usage = self.usage_of.get(part.id) if isinstance(part, StepFinish) else None
        started, ended = getattr(part, "started", None), getattr(part, "ended", None)
        marks = self.marks(message, part)
        own = _FIELDS[type(part)](part) if type(part) in _FIELDS else {}
        get = own.get
        self.rows["parts"].append(
            (
                part.id,
                self.record.id,
                message.id,
                self.turn_of.get(message.id),
                seq,
                part.type,
                *[get(name) for name in _BEFORE_TIMES],
                started or message.created or None,
                ended,
                None if started is None or ended is None else max(0, ended - started),
                *[get(name) for name in _AFTER_TIMES],
                usage.cost if usage is not None else None,
                *(_tokens(usage.tokens) if usage is not None else _NO_TOKENS),
                *marks,
            )
        )
        if isinstance(part, (StepStart, StepFinish)):
            self.step_event(message, part, seq, usage or Usage(), marks)
        elif isinstance(part, ToolCall):
            self.tool(message, part, seq, marks)
        elif isinstance(part, PatchPart) and part.hash:
            row = (part.id, self.record.id, message.id, seq, part.hash, list(part.files))
            self.rows["patches"].append((*row, message.completed or message.created or None, *marks))

    def step_event(
        self, message: Message, part: StepStart | StepFinish, seq: int, usage: Usage, marks: tuple[bool, bool]
    ) -> None:
        done = isinstance(part, StepFinish)
        self.rows["step_events"].append(
            (
                part.id,
                self.record.id,
                message.id,
                seq,
                "finish" if done else "start",
                part.reason if isinstance(part, StepFinish) else None,
                part.snapshot,
                usage.cost,
                *_tokens(usage.tokens),
                (message.completed if done else None) or message.created or None,
                *marks,
            )
        )

    def tool(self, message: Message, call: ToolCall, seq: int, marks: tuple[bool, bool]) -> None:
        at = call.started or message.created or None
        turn = self.turn_of.get(message.id)
        self.rows["file_operations"] += [
            (
                call.id,
                place,
                self.record.id,
                message.id,
                turn,
                seq,
                each.operation,
                call.tool,
                each.path,
                each.additions,
                each.deletions,
                each.diff,
                call.succeeded,
                at,
                *marks,
            )
            for place, each in enumerate(operations(call))
        ]
        if call.tool in ("task", "subagent"):
            agent = call.input.get("subagent_type") or call.input.get("agent")
            self.rows["delegations"].append(
                (
                    call.id,
                    message.id,
                    self.record.id,
                    turn,
                    message.agent,
                    read.optional_text(agent),
                    call.child_session_id,
                    read.optional_text(call.input.get("description")),
                    call.succeeded,
                    at,
                    _ms(call.duration),
                    *marks,
                )
            )

    # -- what messages make together --

    def turn(self, turn: Turn) -> None:
        last = turn.replies[-1] if turn.replies else turn.user
        came = outcome(turn)
        summary = read.mapping(turn.user.raw.get("summary"))
        marks = turn.copied, turn.reverted
        self.rows["turns"].append(
            (
                self.record.id,
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
                _ms(turn.duration),
                len(turn.steps),
                len(turn.tool_calls),
                turn.usage.cost,
                *_tokens(turn.usage.tokens),
                came.success,
                came.signal,
                came.detail,
                *marks,
            )
        )
        self.rows["diffs"] += [
            (
                self.record.id,
                turn.user.id,
                turn.index,
                place,
                read.optional_text(each.get("file")),
                read.optional_text(each.get("status")),
                read.optional_count(each.get("additions")),
                read.optional_count(each.get("deletions")),
                read.optional_text(each.get("patch")),
                *marks,
            )
            for place, each in enumerate(turn.user.diffs)
        ]

    def steps(self) -> None:
        numbered: dict[str, int] = {}
        last = {step.message.id: step.index for step in self.record.steps}
        for step in self.record.steps:
            number = numbered[step.message.id] = numbered.get(step.message.id, -1) + 1
            self.rows["steps"].append(self.step(step, number, last[step.message.id] == step.index))

    def step(self, step: Step, number: int, last: bool) -> Row:
        message, usage = step.message, step.usage
        raw = message.raw
        named = raw if "modelID" in raw else read.mapping(raw.get("model"))
        return (
            f"{message.id}:{number}",
            self.record.id,
            message.id,
            None if message.is_summary else self.turn_of.get(message.id),
            step.index,
            message.agent,
            read.optional_text(named.get("providerID")),
            read.optional_text(named.get("modelID")),
            message.model or None,
            message.created or None,
            message.completed,
            (step.finish.reason if step.finish else None) or (message.finish if last else None),
            usage.cost,
            usage.source,
            usage.accounting,
            sorted(usage.issues),
            *_tokens(usage.tokens),
            len(step.tool_calls),
            message.error.name if last and message.error is not None else None,
            step.retried,
            message.is_summary,
            step.copied,
            step.reverted,
        )

    def skills(self) -> None:
        messages = {message.id: message for message in self.record.messages}
        for number, use in enumerate(skill_uses(self.record.messages)):
            message = messages[use.message_id]
            part = use.call or next((p for p in message.parts if isinstance(p, TextPart)), None)
            called = use.call.id if use.call is not None else f"{message.id}:{number}"
            self.rows["skills"].append(
                (
                    called,
                    message.id,
                    self.record.id,
                    self.turn_of.get(message.id),
                    None if part is None else self.seq_of.get(part.id),
                    use.name,
                    use.how,
                    use.succeeded,
                    use.at or None,
                    _ms(use.duration),
                    use.folder,
                    *self.marks(message, use.call),
                )
            )


# -- what is stored of each kind of part --

_BEFORE_TIMES = (
    "content",
    "synthetic",
    "tool_name",
    "tool_status",
    "tool_title",
    "succeeded",
    "interrupted",
    "exit_code",
    "call_id",
    "arguments",
    "command",
    "result_summary",
    "result_chars",
    "error_message",
    "error_class",
    "error_data",
    "child_session_id",
    "files",
)
_AFTER_TIMES = (
    "reasoning_text",
    "anthropic_signature",
    "compaction_auto",
    "file_mime",
    "file_name",
    "file_url",
    "file_size",
)
_NO_TOKENS = (None,) * 5


def _of_tool(call: ToolCall) -> Mapping[str, Any]:
    output = call.output
    return {
        "tool_name": call.tool,
        "tool_status": call.status,
        "tool_title": call.title,
        "succeeded": call.succeeded,
        "interrupted": call.interrupted,
        "exit_code": call.exit_code,
        "call_id": call.call_id,
        "arguments": _json(call.input, ordered=True),
        "command": read.optional_text(call.input.get("command")) if call.tool in SHELLS else None,
        "result_summary": None if output is None else output[:SUMMARY],
        "result_chars": None if output is None else len(output),
        "error_message": call.error,
        "error_class": error_class(call),
        "child_session_id": call.child_session_id,
        "files": list(call.files),
    }


def _of_file(part: FilePart) -> Mapping[str, Any]:
    held = part.url.startswith("data:")
    return {
        "file_mime": part.mime,
        "file_name": part.filename,
        "file_url": None if held else part.url,
        "file_size": part.size,
        "synthetic": part.synthetic,
    }


def _of_retry(part: RetryPart) -> Mapping[str, Any]:
    error = part.error
    return {
        "error_message": None if error is None else error.message,
        "error_data": None if error is None else _json(error.raw),
    }


_FIELDS: dict[type[Part], Any] = {
    TextPart: lambda part: {"content": part.text, "synthetic": part.synthetic},
    ReasoningPart: lambda part: {"reasoning_text": part.text, "anthropic_signature": part.signature},
    ToolCall: _of_tool,
    FilePart: _of_file,
    RetryPart: _of_retry,
    SubtaskPart: lambda part: {"content": part.prompt},
    CompactionPart: lambda part: {"compaction_auto": part.auto},
    PatchPart: lambda part: {"files": list(part.files)},
}


def _tokens(tokens: Tokens = ZERO) -> tuple[int, int, int, int, int]:
    return tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _json(value: Mapping[str, Any], *, ordered: bool = False) -> str:
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=ordered, default=str)


def _last_name(folder: str | None) -> str | None:
    parts: Iterable[str] = (folder or "").replace("\\", "/").split("/")
    return next((part for part in reversed(list(parts)) if part), None)
