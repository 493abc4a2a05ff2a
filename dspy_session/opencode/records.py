"""A conversation of OpenCode as frozen records: session, turn, step.

A **session** is a conversation. Its **messages** are what OpenCode stores, in order. A **turn** is one prompt
of the user with everything that was done for it; a **step** is one call of the model. Records are lazy: a
session's messages are read when first asked for, a field when looked at. Times are milliseconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.messages import Message as Message
from dspy_session.opencode.messages import Todo as Todo
from dspy_session.opencode.parts import (
    CompactionPart,
    Failure,
    ToolCall,
)
from dspy_session.opencode.steps import Step as Step
from dspy_session.opencode.steps import Turn as Turn
from dspy_session.opencode.steps import Used
from dspy_session.opencode.times import moment
from dspy_session.opencode.tokens import Usage

if TYPE_CHECKING:
    from dspy_session.opencode.skills import SkillUse


@dataclass(frozen=True)
class Content:
    """What belongs to a session besides its head: messages in order, and the to-do list."""

    messages: tuple[Message, ...] = ()
    todos: tuple[Todo, ...] = ()


@dataclass(frozen=True, eq=False)
class SessionRecord(Used):
    """A conversation. Its messages are read when they are first asked for, then kept.

    Attributes:
        info: the session's head, in the shape of `opencode export`'s `info`.
        load: reads the rest.
        origin: the file or database that it was read from.
        worktree: the root of the project, where it is known.
        holds: what its source can hold (see `sources.base.HOLDINGS`).
    """

    info: Mapping[str, Any]
    load: Callable[[], Content] = field(repr=False, default=Content)
    origin: str = ""
    worktree: str | None = None
    holds: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"SessionRecord(id={self.id!r}, title={self.title!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionRecord):
            return NotImplemented
        return self.info == other.info and self.messages == other.messages and self.todos == other.todos

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        kept = _Loaded(self.content)
        return SessionRecord, (self.info, kept, self.origin, self.worktree, self.holds)

    # -- the head --

    @property
    def id(self) -> str:
        """OpenCode's session id."""
        return read.text(self.info.get("id"))

    @property
    def title(self) -> str:
        """The title; OpenCode's default one if it never made another."""
        return read.text(self.info.get("title"))

    @property
    def slug(self) -> str | None:
        """Its short name, as `calm-cactus`."""
        return read.optional_text(self.info.get("slug"))

    @property
    def directory(self) -> str | None:
        """The folder that OpenCode was started in."""
        return read.optional_text(self.info.get("directory"))

    @property
    def project_id(self) -> str | None:
        """OpenCode's id of the project; a repository may have had several over time."""
        return read.optional_text(self.info.get("projectID"))

    @property
    def parent_id(self) -> str | None:
        """For a sub-agent's session: the session that started it."""
        return read.optional_text(self.info.get("parentID"))

    @property
    def version(self) -> str:
        """The release that created it. A session may span releases."""
        return read.text(self.info.get("version"))

    @property
    def created(self) -> int:
        """When it was made (ms)."""
        return read.count(read.mapping(self.info.get("time")).get("created"))

    @property
    def updated(self) -> int:
        """When its head was last touched (ms): a prompt, a title; not the end of the last reply."""
        return read.count(read.mapping(self.info.get("time")).get("updated")) or self.created

    @property
    def archived(self) -> bool:
        """True if the user put it away."""
        return bool(read.mapping(self.info.get("time")).get("archived"))

    @property
    def created_at(self) -> datetime:
        """When it was made, in UTC."""
        return moment(self.created)

    @property
    def stored_cost(self) -> float | None:
        """US dollars as the session's head has them: copies and undone turns included."""
        return read.optional_number(self.info.get("cost"))

    @property
    def revert(self) -> Mapping[str, Any] | None:
        """Where the user undid the conversation, if it stands undone: `{messageID, partID?, …}`."""
        stored = read.mapping(self.info.get("revert"))
        return stored if stored.get("messageID") else None

    @property
    def is_child(self) -> bool:
        """True for a sub-agent's session."""
        return self.parent_id is not None

    # -- the rest --

    @cached_property
    def content(self) -> Content:
        """Messages and to-do list, read from the source."""
        return self.load()

    @property
    def messages(self) -> tuple[Message, ...]:
        """All stored messages, also undone ones and those that a compaction hides from the model."""
        return self.content.messages

    @property
    def todos(self) -> tuple[Todo, ...]:
        """The to-do list as it stands."""
        return self.content.todos

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The calls of the model, in order; undone and copied ones too, marked as such."""
        from dspy_session.opencode.grouping import steps

        return steps(self)

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The turns, in order; undone and copied ones too, marked as such."""
        from dspy_session.opencode.grouping import turns

        return turns(self)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """All calls of tools, in order."""
        return tuple(part for message in self.messages for part in message.of(ToolCall))

    @property
    def skills(self) -> tuple[SkillUse, ...]:
        """The skills loaded, by the model's calls and by the user's slash commands, in order."""
        from dspy_session.opencode.skills import skill_uses

        return skill_uses(self.messages)

    @property
    def child_ids(self) -> tuple[str, ...]:
        """The sub-agents' sessions that its `task` calls name."""
        named = (call.child_session_id for call in self.tool_calls)
        return tuple(dict.fromkeys(each for each in named if each and each != self.id))

    @property
    def copied_messages(self) -> int:
        """How many messages were copied from another session when this one was forked: 0 if it was not."""
        fork = read.mapping(self.info.get("fork"))
        if fork:
            boundary = read.optional_text(fork.get("boundary"))
            ids = [message.id for message in self.messages]
            if boundary in ids:
                return ids.index(boundary)
        return next((i for i, m in enumerate(self.messages) if m.created >= self.created), len(self.messages))

    @property
    def is_fork(self) -> bool:
        """True if it began as a copy of another session.

        OpenCode 1.x stores no link: a fork is told by messages that are older than itself.
        """
        return bool(read.mapping(self.info.get("fork"))) or self.copied_messages > 0

    def _used(self) -> Iterable[Usage]:
        """Tokens and cost of its own steps: no copies, no sub-agents (for these see `History.usage`)."""
        return (step.usage for step in self.steps if not step.copied)

    @property
    def is_compacted(self) -> bool:
        """True if the model lost sight of a part of it to a compaction."""
        return any(m.is_summary or m.of(CompactionPart) for m in self.messages)

    @property
    def errors(self) -> tuple[Failure, ...]:
        """Errors of its messages."""
        return tuple(message.error for message in self.messages if message.error is not None)

    def prompt(self, step: Step) -> list[dict[str, Any]]:
        """The chat that was sent to the model for this step, in OpenAI's chat form.

        The system prompt, the tools' definitions and reminders that OpenCode keeps in memory alone are
        not stored, and so not in it. What was undone and deleted after the step is missing too.
        """
        from dspy_session.opencode.chat import prompt

        return prompt(self.messages, step)


def twin(session: SessionRecord) -> SessionRecord:
    """A record with the same head and content.

    A session's turns refer to its twin and not to itself: a circle would keep every session that was read, and
    all of its JSON, until Python's collector of circles comes by.
    """
    kept = _Loaded(session.content)
    return SessionRecord(session.info, kept, session.origin, session.worktree, session.holds)


@dataclass(frozen=True)
class _Loaded:
    """A loader for a session whose content is at hand already (so that a record can be pickled)."""

    content: Content

    def __call__(self) -> Content:
        return self.content


def loaded_session(
    info: Mapping[str, Any], messages: Sequence[Message], todos: Sequence[Todo] = (), **where: Any
) -> SessionRecord:
    """A session record whose content is at hand already. `where`: origin, worktree, holds."""
    return SessionRecord(info, _Loaded(Content(tuple(messages), tuple(todos))), **where)
