"""Places of a conversation that are kept beside its newest one, so that it can be taken back there.

A `NodeMark` is where a node stood around one root turn, an `Episode` what of a node waits to become a memory, and a
`Branch` where the conversation stood with an answer that was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspy_session.history import Position
from dspy_session.turns import Note, TurnRecord

if TYPE_CHECKING:
    from dspy_session.state import SessionState


@dataclass(frozen=True, slots=True)
class NodeMark:
    """What a node had before and after one root turn, so that the turn can be undone and replayed.

    Attributes:
        before: its place in its own log when the turn began.
        after: its place when the turn was committed.
        memory: its long-term memory when the turn was committed.
        pending: the episodes that waited for consolidation then; None if that is not known.
    """

    before: Position
    after: Position
    memory: str = ""
    pending: tuple[Episode, ...] | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """Node turns that wait to be folded into the node's long-term memory.

    Attributes:
        turn_id: the root turn in which they happened.
        records: the node's turns of that root turn.
    """

    turn_id: str
    records: tuple[TurnRecord, ...]


@dataclass(slots=True)
class Branch:
    """An answer that was replaced by another; kept as the place after it."""

    position: Position
    notes: dict[str, Note] = field(default_factory=dict)
    nodes: Mapping[str, SessionState] = field(default_factory=dict)


def replaced(state: SessionState, old: TurnRecord) -> None:
    """Keep an answer that is about to be replaced as a branch, and go back to before it."""
    note = state.note(old.id)
    nodes = {path: node.fork() for path, node in state.node_states.items()}
    state.branches.append(Branch(state.position, {} if note == Note() else {old.id: note}, nodes))
    state.undo(1)
