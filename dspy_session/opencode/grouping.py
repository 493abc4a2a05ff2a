"""How messages make steps and turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dspy_session.opencode.parts import (
    CompactionPart,
    FilePart,
    Part,
    ReasoningPart,
    StepFinish,
    StepStart,
    SubtaskPart,
    TextPart,
    ToolCall,
)
from dspy_session.opencode.records import Message, SessionRecord, Step, Turn, twin
from dspy_session.opencode.steps import TurnKind

_SPOKEN = (TextPart, ReasoningPart, ToolCall)


def steps(session: SessionRecord) -> tuple[Step, ...]:
    """The session's calls of the model, in order."""
    found: list[Step] = []
    copied = {message.id for message in session.messages[: session.copied_messages]}
    dead = reverted_ids(session)
    for message in session.messages:
        if message.role != "assistant" or message.is_shell:
            continue
        for parts, retried in _tries(message.parts):
            undone = message.id in dead or any(part.id in dead for part in parts[:1])
            found.append(
                Step(len(found), message, parts, session.version, retried, message.id in copied, undone)
            )
    return tuple(found)


def _tries(parts: tuple[Part, ...]) -> Iterator[tuple[tuple[Part, ...], bool]]:
    """The parts of each call in a message. A call whose try broke off in mid-stream is made again."""
    current: list[Part] = []
    retried = False
    for part in parts:
        if isinstance(part, StepStart) and any(isinstance(p, (StepStart, *_SPOKEN)) for p in current):
            yield tuple(current), retried
            retried = not any(isinstance(p, StepFinish) for p in current)
            current = []
        current.append(part)
    yield tuple(current), retried


def reverted_ids(session: SessionRecord) -> frozenset[str]:
    """Ids of the messages and parts that the user undid."""
    revert = session.revert
    if revert is None:
        return frozenset()
    ids = [message.id for message in session.messages]
    if revert["messageID"] not in ids:
        return frozenset()
    at = ids.index(revert["messageID"])
    part_ids = [part.id for part in session.messages[at].parts]
    if revert.get("partID") in part_ids:
        cut = part_ids.index(revert["partID"])
        return frozenset([*part_ids[cut:], *(ids[at:] if cut == 0 else ids[at + 1 :])])
    return frozenset(ids[at:])


def turns(session: SessionRecord) -> tuple[Turn, ...]:
    """The session's turns, in order."""
    groups, owner = _groups(session.messages), twin(session)
    copied = {message.id for message in session.messages[: session.copied_messages]}
    dead = reverted_ids(session)
    by_message: dict[str, list[Step]] = {}
    for step in session.steps:
        by_message.setdefault(step.message.id, []).append(step)
    found: list[Turn] = []
    for group in groups:
        user = group[0]
        own = [s for m in group if not m.is_summary for s in by_message.get(m.id, ())]
        found.append(
            Turn(
                len(found),
                user,
                tuple(group),
                tuple(own),
                _kind(group),
                user.id in copied,
                user.id in dead,
                owner,
            )
        )
    return tuple(found)


def live(session: SessionRecord) -> tuple[Turn, ...]:
    """The turns that count: neither undone nor copied from another session."""
    return tuple(turn for turn in standing(session) if not turn.copied)


def standing(session: SessionRecord) -> tuple[Turn, ...]:
    """The turns that were not undone. One of which only the end was undone is kept, without that end."""
    dead = reverted_ids(session)
    return tuple(_trimmed(turn, dead) if dead else turn for turn in session.turns if not turn.reverted)


def merged(session: SessionRecord) -> Turn | None:
    """The whole session as one turn: its first prompt, and all that was done; None if nothing was asked."""
    kept = [turn for turn in live(session) if turn.kind in ("prompt", "subtask")]
    if not kept:
        return None
    messages = tuple(message for turn in kept for message in turn.messages)
    steps = tuple(step for turn in kept for step in turn.steps)
    return replace(kept[0], messages=messages, steps=steps)


def _trimmed(turn: Turn, dead: frozenset[str]) -> Turn:
    kept = {
        m.id: Message(m.raw, (p for p in m.parts if p.id not in dead))
        for m in turn.messages
        if m.id not in dead
    }
    steps = [
        replace(step, message=kept[step.message.id], parts=tuple(p for p in step.parts if p.id not in dead))
        for step in turn.steps
        if not step.reverted
    ]
    return replace(turn, messages=tuple(kept.values()), steps=tuple(steps))


def _groups(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages by turn. A reply goes to the turn of the prompt that it names, else to the latest."""
    groups: list[list[Message]] = []
    turn_of: dict[str, list[Message]] = {}
    for message in messages:
        group: list[Message] | None
        if message.role == "assistant":
            group = turn_of.get(message.parent_id or "") or (groups[-1] if groups else None)
        elif message.role != "user":
            if groups:
                groups[-1].append(message)
            continue
        else:
            group = groups[-1] if groups and _serves(message, groups[-1]) else None
        if group is None:
            group = []
            groups.append(group)
        group.append(message)
        turn_of[message.id] = group
    return groups


def _serves(message: Message, group: list[Message]) -> bool:
    """True if OpenCode itself made this user message, to carry on the turn before it."""
    compactions = message.of(CompactionPart)
    if compactions:
        return compactions[0].auto
    texts = message.of(TextPart)
    if texts and all(text.synthetic for text in texts) and not message.of(FilePart):
        return any(m.of(CompactionPart) for m in group) or bool(group[0].of(SubtaskPart))
    return _replays(message, group)


def _replays(message: Message, group: list[Message]) -> bool:
    """True for the copy of a prompt that OpenCode makes after the provider refused it as too long."""
    overflow = any(part.overflow for m in group[1:] for part in m.of(CompactionPart))
    replayed = sum(m.role == "user" and not m.of(CompactionPart) for m in group) > 1
    return overflow and not replayed and message.typed.startswith(group[0].typed)


def _kind(group: list[Message]) -> TurnKind:
    user = group[0]
    if user.of(CompactionPart):
        return "compaction"
    if user.of(SubtaskPart):
        return "subtask"
    ran = [m for m in group if m.role == "assistant"]
    synthetic = user.of(TextPart) and all(text.synthetic for text in user.of(TextPart))
    if synthetic and ran and all(m.is_shell for m in ran):
        return "shell"
    return "prompt"
