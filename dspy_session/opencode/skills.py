"""Which skills were loaded: by the model's `skill` tool, and by the user's slash command.

A slash command leaves no tool call. OpenCode puts the skill's text into the prompt, with a line that names
the skill's folder; that line is all there is to tell it by. Which skills were on offer is not recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from dspy_session.opencode import _fields as read
from dspy_session.opencode.messages import Message
from dspy_session.opencode.parts import TextPart, ToolCall

_FOLDER = re.compile(r"^Base directory for this skill: (?:file://)?(.+?)/?$", re.MULTILINE)


@dataclass(frozen=True)
class SkillUse:
    """A skill that was loaded, or asked for in vain.

    Attributes:
        name: the skill.
        how: "tool" if the model loaded it, "command" if the user did.
        succeeded: False if there is no such skill.
        at: when (ms).
        message_id: the message that holds it.
        folder: where the skill lies, if that was recorded.
        call: the tool call, for `how="tool"`.
    """

    name: str
    how: Literal["tool", "command"]
    succeeded: bool
    at: int
    message_id: str
    folder: str | None = None
    call: ToolCall | None = None

    @property
    def duration(self) -> float | None:
        """Seconds that loading took, for `how="tool"`."""
        return self.call.duration if self.call is not None else None


def skill_uses(messages: Iterable[Message]) -> tuple[SkillUse, ...]:
    """The skills that a conversation loaded, in order."""
    return tuple(use for message in messages for use in _of_message(message))


def _of_message(message: Message) -> Iterator[SkillUse]:
    for part in message.parts:
        if isinstance(part, ToolCall) and part.tool == "skill":
            named = [part.metadata.get("name"), part.input.get("name"), part.input.get("id")]
            name = next((each for each in named if isinstance(each, str)), "")
            folder = read.optional_text(part.metadata.get("dir"))
            at = part.started or message.created
            yield SkillUse(name, "tool", part.succeeded, at, message.id, folder, part)
        elif isinstance(part, TextPart) and message.role == "user":
            yield from _of_text(part, message)


def _of_text(part: TextPart, message: Message) -> Iterator[SkillUse]:
    skill = read.mapping(part.metadata.get("skill"))
    if skill:
        name = read.text(skill.get("name")) or read.text(skill.get("id"))
        yield SkillUse(name, "command", True, message.created, message.id)
        return
    found = _FOLDER.search(part.text)
    if found:
        folder = found.group(1)
        name = re.split(r"[/\\]", folder)[-1]
        yield SkillUse(name, "command", True, message.created, message.id, folder)
