"""What a store has of a state: what differs from it is to be written, or to be taken back.

`Kept` is taken when a commit is put together, not when it is done: turns that come in meanwhile belong to
the next.
`follow` and `merge_memories` bring turns that were made on an older line behind what others have added since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dspy_session._marks import Episode, NodeMark
from dspy_session._turn_documents import (
    NESTED,
    Document,
    episodes_annotation,
    head_annotation,
    memory_annotation,
    node_at,
    note_annotation,
    summaries_annotation,
)
from dspy_session.history import Position
from dspy_session.state import SessionState
from dspy_session.turns import Note, TurnRecord

Memory = tuple[str, tuple[Episode, ...]]


class Kept:
    """A state as a store has it.

    Attributes:
        state: a fork of the state at that moment.
        position: its place.
    """

    def __init__(self, state: SessionState) -> None:
        self.state = state.fork()
        self.position = self.state.position

    def shared(self, now: Position) -> int:
        """Up to which index the turns of a line are these."""
        kept = self.position
        if now.log is kept.log:
            return min(now.stop, kept.stop)
        if now.start < kept.start:
            # A line that was begun anew.
            return now.start
        shared = now.start
        ours, theirs = now.records(), kept.records()[now.start - kept.start :]
        for one, other in zip(ours, theirs, strict=False):
            if one is not other:
                break
            shared += 1
        return shared

    def restore(self, state: SessionState) -> None:
        """Make a state what the store has. Scores and feedback stay, to be written with the next commit."""
        noted = {turn_id: state.note(turn_id) for turn_id in state.dirty_notes}
        state.absorb(self.state.fork())
        for turn_id, note in noted.items():
            state.set_note(turn_id, note)

    def annotations(
        self, state: SessionState, new: Iterable[TurnRecord], *, back: bool, head: bool = True
    ) -> list[Document]:
        """What is to be said of a state beside its new turns.

        Args:
            state: the state.
            new: the turns that are written with it.
            back: the line was moved back, so that what was said at a later place counts no more.
            head: whether the messages in front of the turns may have to be written.
        """
        wanted = {record.id for record in new if state.note(record.id) != Note()}
        if state.dirty_notes:
            wanted |= state.dirty_notes & {record.id for record in state.position.records()}
        said = [note_annotation(turn_id, state.note(turn_id)) for turn_id in sorted(wanted)]
        if head and (back or _head(state) != _head(self.state)):
            said.append(head_annotation(state))
        had = memories(self.state)
        for path, (memory, pending) in memories(state).items():
            before = had.get(path, ("", ()))
            if back or memory != before[0]:
                said.append(memory_annotation(path, memory))
            if back or pending != before[1]:
                said.append(episodes_annotation(path, pending))
        had_summaries = _nodes(self.state)
        for path, node in _nodes(state).items():
            known = had_summaries[path].summaries if path in had_summaries else []
            if node.summaries != known or (back and node.summaries):
                said.append(summaries_annotation(path, node))
        return said


def _head(state: SessionState) -> Any:
    return None if state.initial_history is None else state.head


def memories(state: SessionState, path: str = "") -> dict[str, Memory]:
    """Long-term memory and waiting episodes of a state and, by their paths, of its nodes."""
    return {name: (node.l2_memory, tuple(node.pending)) for name, node in _nodes(state, path).items()}


def _nodes(state: SessionState, path: str = "") -> dict[str, SessionState]:
    """A state and, by their paths, its nodes."""
    found = {path: state}
    for name, node in state.node_states.items():
        found.update(_nodes(node, f"{path}{NESTED}{name}" if path else name))
    return found


def follow(state: SessionState, record: TurnRecord) -> None:
    """Add a turn behind what a state has: it gets the next index, and so do its nodes' turns."""
    marks = {}
    for path, mark in record.nodes.items():
        node = state.node(path)
        before = node.position
        for added in mark.after.records()[max(0, mark.before.stop - mark.after.start) :]:
            follow(node, replace(added))
        marks[path] = NodeMark(before, node.position, node.l2_memory)
    record.index = state.next_index()
    if marks:
        record.nodes = marks
    state.append(record)


def merge_memories(base: SessionState, ours: SessionState, theirs: SessionState) -> None:
    """Bring into `theirs` what became of the memories since `base` in `ours`.

    Where both changed a memory theirs stays; the episodes that ours was made of wait again.
    """
    before, there = memories(base), memories(theirs)
    for path, (memory, pending) in memories(ours).items():
        old_memory, old_pending = before.get(path, ("", ()))
        their_memory, their_pending = there.get(path, ("", ()))
        gone: set[str] = set()
        node = node_at(theirs, path)
        if their_memory == old_memory:
            node.l2_memory = memory
            gone = {episode.turn_id for episode in old_pending} - {episode.turn_id for episode in pending}
        known = {episode.turn_id for episode in (*old_pending, *their_pending)}
        node.pending = [episode for episode in their_pending if episode.turn_id not in gone]
        node.pending += [episode for episode in pending if episode.turn_id not in known]
