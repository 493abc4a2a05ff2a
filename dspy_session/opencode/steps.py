"""Steps and turns: what was done for a prompt. Times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from dspy_session.opencode.messages import Message
from dspy_session.opencode.parts import (
    AgentPart,
    FilePart,
    Part,
    ReasoningPart,
    StepFinish,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.tokens import Tokens, Usage, read_usage, total_usage

if TYPE_CHECKING:
    from dspy_session.opencode.records import SessionRecord

TurnKind = Literal["prompt", "subtask", "shell", "compaction"]


class Used:
    """Short ways to what `usage` holds."""

    @cached_property
    def usage(self) -> Usage:
        """Tokens and cost, and how far they can be trusted."""
        return total_usage(self._used())

    def _used(self) -> Iterable[Usage]:
        """The usages that make up this one."""
        return ()

    @property
    def tokens(self) -> Tokens:
        """Its tokens, in today's meaning."""
        return self.usage.tokens

    @property
    def cost(self) -> float:
        """Its cost in US dollars, as stored; `usage` tells from where, and what is wrong with it."""
        return self.usage.cost


@dataclass(frozen=True, eq=False)
class Step(Used):
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

    def _used(self) -> Iterable[Usage]:
        """The step's own mark is the truth; the message's figures stand in for it."""
        provider = self.message.provider
        if self.finish is not None:
            return [read_usage(self.finish.tokens, self.finish.cost, "step", self.version, provider)]
        last = not self.parts or self.parts[-1] is self.message.parts[-1]
        if not last or any(isinstance(part, StepFinish) for part in self.message.parts):
            return []
        stored = self.message.raw.get("tokens")
        used = read_usage(stored, self.message.stored_cost, "message", self.version, provider)
        return [used] if used.tokens or used.cost else []

    @property
    def completion(self) -> dict[str, Any] | None:
        """What came back, as an assistant message in OpenAI's chat form; None if nothing did."""
        from dspy_session.opencode.chat import completion

        return completion(self)


@dataclass(frozen=True, eq=False)
class Turn(Used):
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

    @cached_property
    def replies(self) -> tuple[Message, ...]:
        """The model's messages, summaries for compactions left out."""
        return tuple(m for m in self.messages if m.role == "assistant" and not m.is_summary)

    @cached_property
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

    def _used(self) -> Iterable[Usage]:
        return (step.usage for step in self.steps)

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


def unquoted(typed: str) -> str:
    """The text without the quotation marks that `opencode run "two words"` stores around it."""
    stripped = typed.rstrip("\n")
    inner = stripped[1:-1]
    quoted = len(stripped) >= 2 and stripped[0] == stripped[-1] == '"'
    if not quoted or '"' in inner.replace('\\"', ""):
        return typed
    return inner.replace('\\"', '"')
