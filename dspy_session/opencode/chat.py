"""What the model saw, and what it answered, in OpenAI's chat form.

OpenCode keeps messages, not requests. It makes each request from the messages that it holds at that moment:
a compaction hides what came before it, pruned outputs are blanked, failed replies are left out, interrupted
tools are named as such. This module does the same from the stored rows, as of the moment of a step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from dspy_session.opencode.parts import (
    CompactionPart,
    FilePart,
    Part,
    ReasoningPart,
    StepStart,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.tokens import release_of

if TYPE_CHECKING:
    from dspy_session.opencode.records import Message, Step

Chat = list[dict[str, Any]]

COMPACTED = "What did we do so far?"
SUBTASK = "The following tool was executed by the user"
PRUNED = "[Old tool result content cleared]"
INTERRUPTED = "[Tool execution was interrupted]"
ATTACHED = "Attached media from tool result:"


@dataclass(frozen=True)
class Manner:
    """How a release makes its requests (measured by running them).

    Attributes:
        thinking: what becomes of the model's thinking: "sent" back; sent to another model as plain "text", to
            the same one as thinking; or left "out".
        empty_text: a reply that was stopped before its first word is sent as an empty one.
        ties_reversed: of two messages made in the same millisecond, the later is sent first.
    """

    thinking: Literal["text", "sent", "out"] = "text"
    empty_text: bool = False
    ties_reversed: bool = False

    @classmethod
    def of(cls, version: str) -> Manner:
        """That of a release, as `1.18.33`; the newest for an unknown one."""
        release = release_of(version)
        if release is None or release >= (1, 14):
            return cls()
        return cls("sent" if release >= (1, 1) else "out", True, (1, 2) <= release < (1, 3))


NEWEST = Manner()


def prompt(messages: Sequence[Message], step: Step) -> Chat:
    """The chat that was sent for a step: everything before it that the model could see then."""
    manner = Manner.of(step.version)
    at = next(i for i, message in enumerate(messages) if message.id == step.message.id)
    before = visible(messages[:at])
    if manner.ties_reversed:
        before = [m for _, tied in groupby(before, lambda m: m.created) for m in reversed(list(tied))]
    now, model = step.message.created, step.message.model
    chat = [sent for message in before for sent in render(message, now, model, manner)]
    earlier = _earlier_parts(step)
    return [*chat, *_reply(earlier, now, manner, same_model=True)] if earlier else chat


def completion(step: Step) -> dict[str, Any] | None:
    """The assistant message that came back; None if the call brought nothing."""
    replies = [said for said in _reply(step.parts, 0, NEWEST, same_model=True) if said["role"] == "assistant"]
    if replies:
        return replies[0]
    return {"role": "assistant", "content": ""} if step.finish is not None else None


def conversation(messages: Sequence[Message]) -> Chat:
    """The whole chat as the model would see it if it were asked now."""
    last = messages[-1] if messages else None
    now = max((message.created for message in messages), default=0) + 1
    return [sent for m in visible(messages) for sent in render(m, now, last.model if last else "")]


def visible(messages: Sequence[Message]) -> list[Message]:
    """What the model sees: from the last finished compaction on, the kept tail moved behind it."""
    at = _last_compaction(messages)
    if at is None:
        return list(messages)
    mark = next(iter(messages[at].of(CompactionPart)), None)
    tail_id = mark.tail_start_id if mark else None
    start = next((i for i, message in enumerate(messages[:at]) if message.id == tail_id), at)
    summary = [m for m in messages[at + 1 :] if m.is_summary and m.parent_id == messages[at].id]
    rest = [m for m in messages[at + 1 :] if m not in summary]
    return [messages[at], *summary, *messages[start:at], *rest]


def _last_compaction(messages: Sequence[Message]) -> int | None:
    summed = {m.parent_id for m in messages if m.is_summary and m.finish and not m.error}
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.of(CompactionPart) and message.id in summed:
            return at
        if message.is_summary and not message.raw.get("parentID") and message.completed:
            # Up to 1.0 a summary stands by itself, without a message that asks for it.
            return at
    return None


def render(message: Message, now: int, model: str, manner: Manner = NEWEST) -> Iterator[dict[str, Any]]:
    """The chat messages that OpenCode makes of one stored message.

    Args:
        now: the moment of the request (ms); outputs pruned by then are blanked.
        model: the model asked.
        manner: how the release makes requests.
    """
    if message.role == "user":
        sent = list(_user_content(message.parts))
        if sent:
            yield {"role": "user", "content": _plain(sent)}
    elif message.role == "assistant" and not _dropped(message):
        yield from _reply(message.parts, now, manner, same_model=message.model == model)


def _dropped(message: Message) -> bool:
    """OpenCode leaves out a reply that failed, unless the user stopped it after it had brought something."""
    if message.error is None:
        return False
    brought = any(not isinstance(part, (StepStart, ReasoningPart)) for part in message.parts)
    return not (message.error.aborted and brought)


def _user_content(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    for part in parts:
        if isinstance(part, TextPart) and not part.ignored and part.text:
            yield {"type": "text", "text": part.text}
        elif isinstance(part, FilePart) and not part.inlined:
            yield _media(part)
        elif isinstance(part, CompactionPart):
            yield {"type": "text", "text": COMPACTED}
        elif isinstance(part, SubtaskPart):
            yield {"type": "text", "text": SUBTASK}


def _plain(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A single text as a string, as providers' libraries send it."""
    if len(content) == 1 and content[0]["type"] == "text":
        return str(content[0]["text"])
    return content


def _media(part: FilePart) -> dict[str, Any]:
    if part.mime.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "file", "file": {"filename": part.filename or "file", "file_data": part.url}}


def _reply(parts: Iterable[Part], now: int, manner: Manner, *, same_model: bool) -> Iterator[dict[str, Any]]:
    """One assistant message for each call of the model, each followed by its tools' results."""
    media: list[dict[str, Any]] = []
    for block in _blocks(parts):
        said = _assistant(block, manner, same_model)
        if said is None:
            continue
        yield said
        for call in block:
            if isinstance(call, ToolCall):
                yield {"role": "tool", "tool_call_id": call.call_id, "content": result(call, now)}
                if not _pruned(call, now):
                    media += [_media(each) for each in call.attachments if not each.inlined]
    if media:
        yield {"role": "user", "content": [{"type": "text", "text": ATTACHED}, *media]}


def _blocks(parts: Iterable[Part]) -> Iterator[list[Part]]:
    block: list[Part] = []
    for part in parts:
        if isinstance(part, StepStart):
            yield block
            block = []
        else:
            block.append(part)
    yield block


def _assistant(block: Sequence[Part], manner: Manner, same_model: bool) -> dict[str, Any] | None:
    content, reasoning = "", ""
    calls: list[dict[str, Any]] = []
    as_text = manner.thinking == "text" and not same_model
    for part in block:
        if isinstance(part, ReasoningPart) and not as_text:
            reasoning += "" if manner.thinking == "out" else part.text
        elif isinstance(part, ToolCall):
            calls.append(_call(part))
        elif isinstance(part, (TextPart, ReasoningPart)) and not part.raw.get("ignored"):
            content += part.text
    empty = manner.empty_text and any(isinstance(part, TextPart) for part in block)
    if not (content or reasoning or calls or empty):
        return None
    said: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        said["reasoning_content"] = reasoning
    if calls:
        said["tool_calls"] = calls
    return said


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.tool, "arguments": dumps(call.input)}
    return {"id": call.call_id, "type": "function", "function": function}


def result(call: ToolCall, now: int) -> str:
    """What the model was told that a tool gave back, at a moment (ms)."""
    if call.status == "completed":
        return PRUNED if _pruned(call, now) else call.output or ""
    if call.status == "error":
        return call.error or ""
    return INTERRUPTED


def _pruned(call: ToolCall, now: int) -> bool:
    return call.pruned is not None and call.pruned <= now


def _earlier_parts(step: Step) -> tuple[Part, ...]:
    """The finished calls before a step in its own message (0.x keeps a whole turn in one message)."""
    if step.retried or not step.parts:
        return ()
    first = next((i for i, part in enumerate(step.message.parts) if part is step.parts[0]), 0)
    return step.message.parts[:first]


def dumps(value: Mapping[str, Any]) -> str:
    """JSON as JavaScript's `JSON.stringify` writes it."""
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"))
