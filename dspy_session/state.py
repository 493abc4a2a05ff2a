"""One user's place in the conversation: the root log, a log for each node with a memory, and what they remember."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from dspy import History

from dspy_session._attempts import Attempts
from dspy_session._exchange import Message, Projection
from dspy_session._marks import Branch, Episode, NodeMark
from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.history import HistoryView, Position, Summary
from dspy_session.turns import Note, Turn, TurnRecord, turns_of


class Sink(Protocol):
    """Where finished turns of a state are kept beyond this process."""

    def publish(self, turn: Turn) -> None: ...

    async def apublish(self, turn: Turn) -> None: ...


class SessionState:
    """What one user's conversation consists of. Sessions read and extend it; it knows nothing of them.

    Args:
        turns: turns to begin with, in order.
        initial_history: messages in front of the turns; not turns themselves.
        l2_memory: long-term memory, as a consolidator wrote it.
        node_states: a state for each node that has a memory of its own, by the node's path.

    Attributes:
        conversation_id: the same on all forks, so that their examples never land on both sides of a split.
        l2_memory: long-term memory.
        branches: answers that were replaced by `retry`.
        pending: node turns that wait for consolidation.
        summaries: summaries of old turns, oldest first, as the `summary` window had them made.
        sink: told of each finished turn before its call returns.
        dirty_notes: turns whose score or feedback the sink has not seen.
    """

    def __init__(
        self,
        turns: Iterable[Turn] = (),
        initial_history: History | None = None,
        l2_memory: str = "",
        node_states: Mapping[str, SessionState] | None = None,
    ) -> None:
        given = list(turns)
        if not all(isinstance(turn, Turn) for turn in given):
            raise ConfigurationError("turns must be Turn objects: use session.add_turn(inputs=…, outputs=…)")
        if not isinstance(l2_memory, str):
            raise ConfigurationError(f"l2_memory must be a string, not {type(l2_memory).__name__}")
        self._mutex = threading.RLock()
        self._position = Position.of([turn.record for turn in given])
        self._notes: dict[str, Note] = {
            turn.id: Note(turn.score, turn.feedback)
            for turn in given
            if turn.score is not None or turn.feedback is not None
        }
        self._notes_shared = False
        self._head = HistoryView.of(initial_history).head
        self._has_initial = initial_history is not None
        self.conversation_id = uuid.uuid4().hex
        self.l2_memory = l2_memory
        self.node_states: dict[str, SessionState] = dict(node_states or {})
        self.branches: list[Branch] = []
        self.pending: list[Episode] = []
        self.summaries: list[Summary] = []
        self.attempts: list[Attempts] = []
        self._call_lock: Any = None
        self.sink: Sink | None = None
        self.dirty_notes: set[str] = set()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def turns(self) -> list[Turn]:
        """The turns, oldest first; a new list."""
        return list(turns_of(self.position.records(), self))

    @property
    def position(self) -> Position:
        """The place in the log."""
        if self.attempts:
            self._settle()
        return self._position

    def _settle(self) -> None:
        """Take over the attempt that `BestOfN` or `Refine` has chosen, if it has."""
        with self._mutex:
            settled = [(group, attempt) for group in self.attempts if (attempt := group.chosen()) is not None]
            self.attempts = [group for group in self.attempts if group not in [done for done, _ in settled]]
            for group, attempt in settled:
                if self._position == group.base.position:
                    self.absorb(attempt.state)
                else:
                    self.merge(group.base, attempt.state)
        for group, _ in settled:
            group.tell(self)

    @property
    def head(self) -> tuple[Message, ...]:
        """The messages in front of the turns."""
        return self._head

    @property
    def initial_history(self) -> History | None:
        """Messages in front of the turns; they are no turns, and `reset` keeps them."""
        return HistoryView(head=self._head).history() if self._has_initial else None

    @initial_history.setter
    def initial_history(self, history: History | None) -> None:
        self.set_head(history)

    def set_head(self, history: History | None, input_names: Iterable[str] = ()) -> None:
        """Replace the messages in front; `input_names` tells which of their fields went in."""
        self._head = HistoryView.of(history, input_names).head if history is not None else ()
        self._has_initial = history is not None

    def view(self, projection: Projection) -> HistoryView:
        """The whole conversation as a projection shows it."""
        position = self.position
        return HistoryView.at(position, self._head, projection, self.summary_at(position.stop))

    def summary_at(self, stop: int) -> Summary | None:
        """The newest summary that there was before the turn with the index `stop`."""
        return next((summary for summary in reversed(self.summaries) if summary.made <= stop), None)

    def __len__(self) -> int:
        return len(self.position)

    def __bool__(self) -> bool:
        return True

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def mutex(self) -> threading.RLock:
        """Held for the few steps of a change, never during a model call."""
        return self._mutex

    def move(self, position: Position) -> None:
        """Take another place; the log itself never changes."""
        self._position = position

    def next_index(self) -> int:
        """The index of the turn that comes next."""
        return self.position.stop

    def append(self, record: TurnRecord, keep: int | None = None) -> None:
        """Add a finished turn; with `keep`, let go of all but the newest turns."""
        self._position = self._position.append(record)
        self._let_go(keep)

    def _let_go(self, keep: int | None) -> None:
        if keep is not None:
            self._keep_from(self._position.stop - keep)

    def _keep_from(self, start: int) -> None:
        """Let go of the turns before an index, and of what the nodes recorded in them."""
        trimmed = self._position.keep_from(start)
        if trimmed.start == self._position.start:
            return
        self._position = trimmed
        while len(self.summaries) > 1 and self.summaries[1].made <= trimmed.start:
            del self.summaries[0]
        oldest = trimmed.records()[:1]
        for path, mark in oldest[0].nodes.items() if oldest else ():
            self.node(path)._keep_from(mark.before.stop)

    def extend(
        self, base: Position, reached: Position, added: Iterable[TurnRecord], keep: int | None = None
    ) -> None:
        """Add turns that were staged from `base` on and lead to `reached`.

        If the state has moved since, they are added after what came in between.
        """
        if self._position == base:
            self._position = reached
            self._let_go(keep)
            return
        for record in added:
            self.append(replace(record, index=self.next_index()), keep)

    def merge(self, base: SessionState, reached: SessionState, keep: int | None = None) -> None:
        """Take over what a fork has added since it was `base`, behind what came in between."""
        stop = base.position.stop
        added = reached.position.records()[max(0, stop - reached.position.start) :]
        self.extend(base.position, reached.position, added, keep)
        self.pending = [
            *self.pending,
            *(episode for episode in reached.pending if episode not in base.pending),
        ]
        for turn_id, note in reached.notes.items():
            if turn_id not in base.notes:
                self.set_note(turn_id, note)
        for path, node in reached.node_states.items():
            self.node(path).merge(base.node_states.get(path) or SessionState(), node)

    def absorb(self, other: SessionState) -> None:
        """Become what a fork of this state has become."""
        self._position, self._head, self._has_initial = other._position, other._head, other._has_initial
        self._notes, self._notes_shared = other._notes, True
        other._notes_shared = True
        self.l2_memory, self.node_states = other.l2_memory, other.node_states
        self.branches, self.pending = other.branches, other.pending
        self.summaries = other.summaries

    def undo(self, steps: int = 1) -> list[Turn]:
        """Take back the newest turns, with what the nodes recorded in them.

        Returns:
            The removed turns, oldest first.
        """
        with self._mutex:
            self._settle()
            stop = max(self._position.start, self._position.stop - max(0, steps))
            removed = self._position.records()[stop - self._position.start :]
            self._take_back(self._position.back_to(stop))
            return [Turn.of(record, self) for record in removed]

    def _take_back(self, position: Position) -> None:
        """Go back to an earlier place, and the nodes to what they had there."""
        for record in reversed(self._position.records()):
            if record.index < position.stop:
                break
            for path, mark in record.nodes.items():
                self.node(path).rewind(mark, record.id)
        self._position = position
        self.summaries = [summary for summary in self.summaries if summary.made <= position.stop]

    def rewind(self, mark: NodeMark, turn_id: str) -> None:
        """Become what this node was before a root turn."""
        # What was let go of since does not come back.
        start = min(max(mark.before.start, self._position.start), mark.before.stop)
        self._take_back(replace(mark.before, start=start))
        self.l2_memory = mark.memory
        if mark.pending is not None:
            self.pending = list(mark.pending)
        else:
            self.pending = [episode for episode in self.pending if episode.turn_id != turn_id]

    def reset(self) -> None:
        """Forget all turns, the nodes' too; the initial history and the long-term memories stay."""
        with self._mutex:
            self._position, self.attempts = Position(), []
            self.conversation_id = uuid.uuid4().hex
            self._notes, self._notes_shared = {}, False
            self.branches, self.pending, self.summaries = [], [], []
            for node in self.node_states.values():
                node.reset()

    def node(self, path: str) -> SessionState:
        """The state of a node; made when it is first asked for."""
        if path not in self.node_states:
            with self._mutex:
                self.node_states.setdefault(path, SessionState())
        return self.node_states[path]

    def fork(self) -> SessionState:
        """A state at the same place, which goes its own way. Costs the same at any length."""
        with self._mutex:
            other = SessionState()
            other._position, other._head, other._has_initial = self.position, self._head, self._has_initial
            other._notes = self._notes
            other._notes_shared = self._notes_shared = True
            other.conversation_id, other.l2_memory = self.conversation_id, self.l2_memory
            other.branches, other.pending = list(self.branches), list(self.pending)
            other.summaries = list(self.summaries)
            other.node_states = {path: node.fork() for path, node in self.node_states.items()}
            return other

    # ── notes ────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, turn_id: str) -> Note:
        """Score and feedback of a turn."""
        return self._notes.get(turn_id, Note())

    def set_note(self, turn_id: str, note: Note) -> None:
        """Give a turn its score and feedback, in this state alone."""
        if note.score is not None and (
            isinstance(note.score, bool) or not isinstance(note.score, (int, float))
        ):
            raise ConfigurationError(f"a score must be a number or None, not {note.score!r}")
        with self._mutex:
            if self._notes_shared:
                self._notes, self._notes_shared = dict(self._notes), False
            self._notes[turn_id] = note
            self.dirty_notes.add(turn_id)

    @property
    def notes(self) -> Mapping[str, Note]:
        """Score and feedback by turn id."""
        return self._notes

    def find(self, turn: Turn | str | int) -> TurnRecord:
        """The record of a turn, by itself, its id or its index.

        Raises:
            UnknownPathError: no such turn is in this state.
        """
        records = self.position.records()
        if isinstance(turn, int) and not isinstance(turn, bool):
            place = turn - self.position.start if turn >= 0 else len(records) + turn
            if 0 <= place < len(records):
                return records[place]
        else:
            wanted = turn.id if isinstance(turn, Turn) else turn
            for record in records:
                if record.id == wanted:
                    return record
        have = f"indexes {records[0].index} to {records[-1].index}" if records else "no turns"
        raise UnknownPathError(
            f"no turn {getattr(turn, 'id', turn)!r} in this conversation, which has {have}"
        )

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON data. Its size is linear in the turns.

        Values that JSON lacks are tagged; see `dspy_session.codec`.
        """
        from dspy_session._state_codec import encode_state

        return encode_state(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, types: Iterable[type] = ()) -> SessionState:
        """The state of JSON data that `to_dict` gave, of this or an earlier version.

        Args:
            data: the data.
            types: classes of your own that may come back; no other class is ever looked up.

        Raises:
            FormatError: the data is damaged, or something else.
            UnsupportedVersionError: it is of a newer version.
        """
        from dspy_session._state_codec import decode_state

        return decode_state(data, types=types)

    def save(self, path: str | Path) -> None:
        """Write `to_dict()` to a file, atomically."""
        from dspy_session.codec.files import write_json

        write_json(path, self.to_dict())

    @classmethod
    def load_from(cls, path: str | Path, *, types: Iterable[type] = ()) -> SessionState:
        """Read a state from a file that `save` wrote. Raises `FormatError` for any other file."""
        from dspy_session.codec.files import read_json

        return cls.from_dict(read_json(path), types=types)

    # ── copies ───────────────────────────────────────────────────────────────────────────────────────────

    def __copy__(self) -> SessionState:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> SessionState:
        return self.fork()

    def __getstate__(self) -> dict[str, Any]:
        return {
            k: v for k, v in self.__dict__.items() if k not in ("_mutex", "_call_lock", "attempts", "sink")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._mutex, self._call_lock, self.attempts, self.sink = threading.RLock(), None, [], None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionState):
            return NotImplemented
        return (
            self.turns == other.turns
            and self._head == other._head
            and self.l2_memory == other.l2_memory
            and self.node_states == other.node_states
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        nodes = f", nodes={sorted(self.node_states)}" if self.node_states else ""
        memory = f", l2_memory={len(self.l2_memory)} characters" if self.l2_memory else ""
        return f"SessionState(turns={len(self)}{memory}{nodes})"
