"""A conversation of OpenCode as frozen records: session, turn, step.

A **session** is a conversation. Its **messages** are what OpenCode stores, in order. A **turn** is one prompt
of the user with everything that was done for it; a **step** is one call of the model. Records are lazy: a
session's messages are read when first asked for, a field when looked at. Times are milliseconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from dspy_session.opencode import _fields as read
from dspy_session.opencode.messages import Message as Message
from dspy_session.opencode.messages import Todo as Todo
from dspy_session.opencode.parts import (
    AgentPart,
    CompactionPart,
    Failure,
    FilePart,
    Part,
    ReasoningPart,
    StepFinish,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.times import moment
from dspy_session.opencode.tokens import Usage, read_usage, total_usage

if TYPE_CHECKING:
    from dspy_session.opencode.skills import SkillUse

TurnKind = Literal["prompt", "subtask", "shell", "compaction"]


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the model.

    Attributes:
        index: its place among the session's steps, from 0.
        message: the message that holds it. Up to release 0.x a message holds all steps of a turn.
        parts: its own parts.
        version: the release that created the session.
        retried: an earlier try of this call, in the same message, broke off in mid-stream.
        copied: it was made in another session, from which this one was forked.
        reverted: the user undid it.
    """

    index: int
    message: Message
    parts: tuple[Part, ...]
    version: str = ""
    retried: bool = False
    copied: bool = False
    reverted: bool = False

    @cached_property
    def finish(self) -> StepFinish | None:
        """The mark at its end; None if it was cut off."""
        return next((part for part in self.parts if isinstance(part, StepFinish)), None)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model called."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def text(self) -> str:
        """What the model wrote."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart) and not part.ignored)

    @property
    def reasoning(self) -> str:
        """What the model thought, as far as it is recorded."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @cached_property
    def usage(self) -> Usage:
        """Its tokens and cost. The step's own mark is the truth; the message's figures stand in for it."""
        provider = self.message.provider
        if self.finish is not None:
            return read_usage(self.finish.tokens, self.finish.cost, "step", self.version, provider)
        stored = self.message.raw.get("tokens")
        used = read_usage(stored, self.message.stored_cost, "message", self.version, provider)
        last = not self.parts or self.parts[-1] is self.message.parts[-1]
        marked = any(isinstance(part, StepFinish) for part in self.message.parts)
        return used if last and not marked and (used.tokens or used.cost) else Usage()

    @property
    def completion(self) -> dict[str, Any] | None:
        """What came back, as an assistant message in OpenAI's chat form; None if nothing did."""
        from dspy_session.opencode.chat import completion

        return completion(self)


@dataclass(frozen=True, eq=False)
class Turn:
    """One prompt of the user, with everything that was done for it.

    What OpenCode adds by itself belongs to the turn that it serves: a compaction in mid-turn, the order to go
    on after it, the replay of a prompt that had been too long, the order to sum up a sub-agent's work.

    Attributes:
        index: its place in the session, from 0.
        user: the user's message.
        messages: all its messages, the user's first.
        steps: its calls of the model, those for compactions left out.
        kind: "prompt"; "subtask" (a command that starts a sub-agent), "shell" (a `!` command), "compaction".
        copied: it was made in another session, from which this one was forked.
        reverted: the user undid it.
        session: the session that it belongs to.
    """

    index: int
    user: Message
    messages: tuple[Message, ...]
    steps: tuple[Step, ...] = ()
    kind: TurnKind = "prompt"
    copied: bool = False
    reverted: bool = False
    session: SessionRecord | None = field(default=None, repr=False)

    @property
    def replies(self) -> tuple[Message, ...]:
        """The model's messages, summaries for compactions left out."""
        return tuple(m for m in self.messages if m.role == "assistant" and not m.is_summary)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """All calls of tools, in order, with those that OpenCode made for the user."""
        return tuple(part for m in self.replies for part in m.parts if isinstance(part, ToolCall))

    @property
    def prompt(self) -> str:
        """What the user typed, without the quotation marks that `opencode run` puts around it."""
        typed = self.user.typed
        if typed or self.kind != "subtask":
            return unquoted(typed)
        return "\n".join(part.prompt for part in self.user.of(SubtaskPart))

    @property
    def response(self) -> str:
        """The model's last words of the turn, or ""."""
        return next((said for message in reversed(self.replies) if (said := message.said)), "")

    @property
    def attachments(self) -> tuple[FilePart, ...]:
        """Files that the user attached."""
        return self.user.of(FilePart)

    @property
    def mentions(self) -> tuple[str, ...]:
        """Agents that the user mentioned."""
        return tuple(part.name for part in self.user.of(AgentPart))

    @cached_property
    def usage(self) -> Usage:
        """Tokens and cost of its steps."""
        return total_usage(step.usage for step in self.steps)

    @property
    def started(self) -> int:
        """When the user sent it (ms)."""
        return self.user.created

    @property
    def ended(self) -> int | None:
        """When the last reply ended (ms); None if it was cut off or never came."""
        return self.replies[-1].completed if self.replies else None

    @property
    def duration(self) -> float | None:
        """Seconds from the prompt to the end of the last reply."""
        return None if self.ended is None else max(0, self.ended - self.started) / 1000


@dataclass(frozen=True)
class Content:
    """What belongs to a session besides its head: messages in order, and the to-do list."""

    messages: tuple[Message, ...] = ()
    todos: tuple[Todo, ...] = ()


@dataclass(frozen=True, eq=False)
class SessionRecord:
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

    @cached_property
    def usage(self) -> Usage:
        """Tokens and cost of its own steps: no copies, no sub-agents (for these see `History.usage`)."""
        return total_usage(step.usage for step in self.steps if not step.copied)

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


@dataclass(frozen=True)
class _Loaded:
    """A loader for a session whose content is at hand already (so that a record can be pickled)."""

    content: Content

    def __call__(self) -> Content:
        return self.content


def unquoted(typed: str) -> str:
    """The text without the quotation marks that `opencode run "two words"` stores around it."""
    stripped = typed.rstrip("\n")
    inner = stripped[1:-1]
    quoted = len(stripped) >= 2 and stripped[0] == stripped[-1] == '"'
    if not quoted or '"' in inner.replace('\\"', ""):
        return typed
    return inner.replace('\\"', '"')


def loaded_session(
    info: Mapping[str, Any], messages: Sequence[Message], todos: Sequence[Todo] = (), **where: Any
) -> SessionRecord:
    """A session record whose content is at hand already. `where`: origin, worktree, holds."""
    return SessionRecord(info, _Loaded(Content(tuple(messages), tuple(todos))), **where)
