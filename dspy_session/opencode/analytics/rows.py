"""A session's record as rows of the warehouse's tables: tuples in the order of the columns of their shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.analytics._operations import OPERATIONS, operations
from dspy_session.opencode.analytics._part_rows import (
    HEAD,
    KINDS,
    OTHER,
    TAIL,
    Kind,
    as_json,
    called,
    token_values,
)
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics._turn_rows import diff_rows, milliseconds, named, step_rows, turn_row
from dspy_session.opencode.analytics.tables import PARTS, TABLES
from dspy_session.opencode.grouping import reverted_ids
from dspy_session.opencode.parts import PatchPart, StepFinish, StepStart, TextPart, ToolCall
from dspy_session.opencode.records import Message, SessionRecord
from dspy_session.opencode.skills import skill_uses
from dspy_session.opencode.tokens import Usage, read_usage

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]

DELEGATING = ("task", "subagent")
"""The tools that start a sub-agent."""
_NOTHING = Usage()


@dataclass(frozen=True)
class Shape:
    """Columns of a table in which rows come; those that are not among them are NULL."""

    table: Table
    columns: tuple[str, ...]


def _shape(kind: Kind) -> Shape:
    return Shape(PARTS, (*HEAD, *kind.columns, *TAIL))


SHAPES: dict[str, Shape] = {
    **{table.name: Shape(table, table.names) for table in TABLES if table is not PARTS},
    **{kind.name: _shape(kind) for kind in (*KINDS.values(), OTHER)},
}
"""The shapes that `session_rows` gives rows in. Each kind of part has its own: most of the columns of `parts`
concern few of them, and a NULL takes as long to make as a value."""


def session_rows(record: SessionRecord, *, skipped: int = 0) -> Rows:
    """The rows of a session, by shape. Times are milliseconds since the epoch.

    Args:
        record: the session.
        skipped: how many of its messages and parts could not be read.
    """
    made = _Maker(record)
    for seq, message in enumerate(record.messages):
        made.message(seq, message)
    for turn in record.turns:
        made.rows["turns"].append(turn_row(made.id, turn))
        made.rows["diffs"] += diff_rows(made.id, turn)
    made.rows["steps"] += step_rows(record, made.turn_of)
    made.skills()
    made.todos()
    made.session(skipped)
    return made.rows


@dataclass(frozen=True, slots=True)
class _Place:
    """What the rows of a message and of its parts have in common."""

    message: Message
    id: str
    turn: int | None
    made: int | None
    ended: int | None
    copied: bool
    undone: bool


class _Maker:
    """Makes the rows of one session in one pass over its messages."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.id = record.id
        self.rows: Rows = {name: [] for name in SHAPES}
        self.turn_of = {m.id: turn.index for turn in record.turns for m in turn.messages}
        self.copied = {message.id for message in record.messages[: record.copied_messages]}
        self.dead = reverted_ids(record)
        self.usage_of = {
            step.finish.id: step.usage for step in record.steps if step.finish is not None and step.finish.id
        }
        self.seq = 0

    def place(self, message: Message) -> _Place:
        """Where a message stands."""
        name, made = message.id, message.created or None
        turn, copied = self.turn_of.get(name), name in self.copied
        return _Place(message, name, turn, made, message.completed, copied, name in self.dead)

    # -- one row a session --

    def session(self, skipped: int) -> None:
        record = self.record
        ended = max((m.completed or m.created for m in record.messages), default=None)
        replies = [m for m in record.messages if m.role == "assistant" and not m.is_summary]
        changed = read.mapping(record.info.get("summary"))
        root = record.worktree if record.worktree not in (None, "/", "") else record.directory
        self.rows["sessions"].append(
            (
                self.id,
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
            (self.id, place, todo.content, todo.status, todo.priority)
            for place, todo in enumerate(self.record.todos)
        ]

    # -- messages and their parts --

    def message(self, seq: int, message: Message) -> None:
        at = self.place(message)
        raw, error = message.raw, message.error
        provider, model = named(message)
        path, summary = read.mapping(raw.get("path")), read.mapping(raw.get("summary"))
        cost, version = message.stored_cost, self.record.version
        usage = read_usage(raw.get("tokens"), cost, "message", version, provider or "")
        self.rows["messages"].append(
            (
                at.id,
                self.id,
                seq,
                at.turn,
                message.parent_id,
                message.role,
                message.agent,
                provider,
                model,
                message.model or None,
                read.optional_text(raw.get("mode")),
                at.made,
                at.ended,
                cost,
                *token_values(usage),
                message.finish,
                read.optional_text(path.get("cwd")),
                read.optional_text(path.get("root")),
                read.optional_text(summary.get("title")),
                message.is_summary,
                None if error is None else error.name,
                None if error is None else error.message,
                None if error is None else error.status_code,
                None if error is None else as_json(error.raw),
                at.copied,
                at.undone,
            )
        )
        self.parts(at)

    def parts(self, at: _Place) -> None:
        rows, session, message, turn, made, copied = self.rows, self.id, at.id, at.turn, at.made, at.copied
        for seq, part in enumerate(at.message.parts, self.seq):
            name = part.id
            undone = at.undone or name in self.dead
            kind = KINDS.get(type(part), OTHER)
            usage = self.usage_of.get(name) if kind.counts else None
            own = kind.values(part, made, usage)
            rows[kind.name].append((name, session, message, turn, seq, part.type, *own, copied, undone))
            if isinstance(part, ToolCall):
                self.tool(at, part, seq, undone, own)
            elif isinstance(part, (StepStart, StepFinish)):
                self.step_event(at, part, seq, usage or _NOTHING, undone)
            elif isinstance(part, PatchPart) and part.hash:
                row = (name, session, message, seq, part.hash, list(part.files), at.ended or made)
                rows["patches"].append((*row, copied, undone))
        self.seq += len(at.message.parts)

    def step_event(
        self, at: _Place, part: StepStart | StepFinish, seq: int, usage: Usage, undone: bool
    ) -> None:
        done = isinstance(part, StepFinish)
        self.rows["step_events"].append(
            (
                part.id,
                self.id,
                at.id,
                seq,
                "finish" if done else "start",
                part.reason if isinstance(part, StepFinish) else None,
                part.snapshot,
                usage.cost,
                *token_values(usage),
                (at.ended if done else None) or at.made,
                at.copied,
                undone,
            )
        )

    def tool(self, at: _Place, call: ToolCall, seq: int, undone: bool, own: Row) -> None:
        tool, succeeded, child, files = called(own)
        if tool not in OPERATIONS and tool not in DELEGATING:
            return
        made = call.started or at.made
        self.rows["file_operations"] += [
            (
                call.id,
                place,
                self.id,
                at.id,
                at.turn,
                seq,
                each.operation,
                tool,
                each.path,
                each.additions,
                each.deletions,
                each.diff,
                succeeded,
                made,
                at.copied,
                undone,
            )
            for place, each in enumerate(operations(call, tool, files))
        ]
        if tool in DELEGATING:
            agent = call.input.get("subagent_type") or call.input.get("agent")
            self.rows["delegations"].append(
                (
                    call.id,
                    at.id,
                    self.id,
                    at.turn,
                    at.message.agent,
                    read.optional_text(agent),
                    child,
                    read.optional_text(call.input.get("description")),
                    succeeded,
                    made,
                    milliseconds(call.duration),
                    at.copied,
                    undone,
                )
            )

    # -- what messages make together --

    def skills(self) -> None:
        uses = skill_uses(self.record.messages)
        if not uses:
            return
        messages = {message.id: message for message in self.record.messages}
        parts = [part for message in self.record.messages for part in message.parts]
        seq_of = {id(part): seq for seq, part in enumerate(parts)}
        for number, use in enumerate(uses):
            message = messages[use.message_id]
            at = self.place(message)
            part = use.call or next((p for p in message.parts if isinstance(p, TextPart)), None)
            self.rows["skills"].append(
                (
                    use.call.id if use.call is not None else f"{message.id}:{number}",
                    message.id,
                    self.id,
                    at.turn,
                    seq_of.get(id(part)),
                    use.name,
                    use.how,
                    use.succeeded,
                    use.at or None,
                    milliseconds(use.duration),
                    use.folder,
                    at.copied,
                    at.undone or (use.call is not None and use.call.id in self.dead),
                )
            )


def _last_name(folder: str | None) -> str | None:
    parts: Iterable[str] = (folder or "").replace("\\", "/").split("/")
    return next((part for part in reversed(list(parts)) if part), None)
