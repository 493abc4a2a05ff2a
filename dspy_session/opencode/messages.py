"""Messages and to-do entries, as OpenCode stores them. Times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from dspy_session.opencode import _fields as read
from dspy_session.opencode._fields import Field, Record
from dspy_session.opencode.parts import (
    Part,
    ReasoningPart,
    StepFinish,
    StepStart,
    TextPart,
    ToolCall,
    optional_failure,
)

P = TypeVar("P", bound=Part)


class Todo(Record):
    """One entry of a session's to-do list, as it stands now."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("content", "status")
    content = Field(read.text, "content", doc="What is to be done.")
    status = Field(read.text, "status", doc="pending, in_progress, completed or cancelled.")
    priority = Field(read.text, "priority", doc="high, medium or low.")


class Message(Record):
    """A message of the user or of the model.

    Attributes:
        parts: its parts, in the order in which they were made.
    """

    __slots__ = ("parts",)
    shown: ClassVar[tuple[str, ...]] = ("id", "role", "agent")
    parts: tuple[Part, ...]

    id = Field(read.text, "id", doc="OpenCode's id.")
    session_id = Field(read.text, "sessionID", doc="The session that it belongs to.")
    role = Field(read.text, "role", doc="`user` or `assistant`.")
    created = Field(read.count, "time", "created", doc="When it was made (ms).")
    completed = Field(
        read.optional_count, "time", "completed", doc="When the reply ended (ms); None if cut off."
    )
    parent_id = Field(read.optional_text, "parentID", doc="For a reply: the user's message.")
    finish = Field(read.optional_text, "finish", doc="Why the reply ended: stop, tool-calls, length, …")
    error = Field(optional_failure, "error", doc="What went wrong with the reply.")
    is_summary = Field(read.flag, "summary", doc="This reply sums up the conversation for a compaction.")
    variant = Field(read.optional_text, "variant", doc="The model's variant, as `high`.")
    stored_cost = Field(read.number, "cost", doc="US dollars, as stored.")
    structured = Field(lambda value: value, "structured", doc="The structured reply, if one was asked for.")
    system = Field(
        lambda value: value, "system", doc="A system text of this prompt (a list of them up to 1.0)."
    )

    def __init__(self, raw: Mapping[str, Any], parts: Iterable[Part] = ()) -> None:
        super().__init__(raw)
        object.__setattr__(self, "parts", tuple(parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and super().__eq__(other) and self.parts == other.parts

    __hash__ = Record.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return Message, (self.raw, self.parts)

    @property
    def agent(self) -> str | None:
        """The agent that was asked, or that answered."""
        return read.optional_text(self.raw.get("agent")) or read.optional_text(self.raw.get("mode"))

    @property
    def model(self) -> str:
        """`provider/model`, or "" if none was recorded."""
        named = self.raw if "modelID" in self.raw else read.mapping(self.raw.get("model"))
        provider, model = read.text(named.get("providerID")), read.text(named.get("modelID"))
        return f"{provider}/{model}" if provider else model

    @property
    def provider(self) -> str:
        """The provider's id, or ""."""
        named = self.raw if "providerID" in self.raw else read.mapping(self.raw.get("model"))
        return read.text(named.get("providerID"))

    @property
    def diffs(self) -> tuple[Mapping[str, Any], ...]:
        """For a prompt: what the turn changed, as `{file, patch, additions, deletions, status}`."""
        stored = read.mapping(self.raw.get("summary")).get("diffs")
        return tuple(each for each in read.items(stored) if isinstance(each, dict))

    def of(self, kind: type[P]) -> tuple[P, ...]:
        """The parts of one kind."""
        return tuple(part for part in self.parts if isinstance(part, kind))

    @property
    def typed(self) -> str:
        """What the user typed: neither OpenCode's own additions nor text hidden from the model."""
        return "\n".join(p.text for p in self.of(TextPart) if not p.synthetic and not p.ignored)

    @property
    def said(self) -> str:
        """What the model wrote, thinking aside."""
        return "\n\n".join(p.text for p in self.of(TextPart) if p.text and not p.ignored)

    @property
    def is_shell(self) -> bool:
        """True if this is no reply: OpenCode ran a tool for the user (`!`, or a sub-agent command)."""
        stepped = any(
            isinstance(part, (StepStart, StepFinish, TextPart, ReasoningPart)) for part in self.parts
        )
        return self.role == "assistant" and not stepped and any(isinstance(p, ToolCall) for p in self.parts)
