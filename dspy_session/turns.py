"""One exchange of a conversation, and what is known of it.

`TurnRecord` adds to an exchange what is true of the moment: when, which model, and the view of the conversation that
the call was given. It is shared by forks and never changes. `Turn` is what users hold: a record seen through one
state, so that a score given on a fork stays there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dspy_session import display
from dspy_session._exchange import Exchange, keep, private

if TYPE_CHECKING:
    import dspy

    from dspy_session.history import HistoryView

_NO_NODES: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a turn's model calls took, as far as DSPy knows.

    Attributes:
        prompt_tokens: tokens sent.
        completion_tokens: tokens received.
        total_tokens: tokens as the provider counts them.
        cost: US dollars; None where DSPy knows no price.
        calls: number of model calls.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: float | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One predictor's call inside a turn.

    Attributes:
        path: the predictor's path in the program, as `named_predictors()` gives it; None for a predictor that
            the program made while it ran.
        inputs: the fields the predictor was given, the history apart.
        outputs: the fields it answered.
        history: the conversation that it was shown.
        predictor: the class of the predictor's signature, by name.
        seconds: how long it took, the model's time included; None where an earlier file does not tell.
    """

    path: str | None
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    history: HistoryView | None = None
    predictor: str = ""
    seconds: float | None = field(default=None, compare=False)


@dataclass(slots=True, eq=False)
class TurnRecord:
    """A recorded turn; shared by all states that contain it.

    Attributes:
        index: absolute place in the conversation, from 0; trimming does not renumber.
        view: the history that the call was given.
        exact: False if the snapshot was rebuilt from a file that held none, or if a value was replaced.
        replaces: the id of the turn that this one is an edit of.
        nodes: what each node with a memory had and added in this turn, by path.
    """

    index: int
    exchange: Exchange
    view: HistoryView
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float | None = None
    model: str | None = None
    usage: Usage | None = None
    exact: bool = True
    replaces: str | None = None
    calls: tuple[Call, ...] = ()
    nodes: Mapping[str, Any] = field(default_factory=lambda: _NO_NODES)


@dataclass(frozen=True, slots=True)
class Note:
    """What was said of a turn afterwards."""

    score: float | None = None
    feedback: str | None = None


class _Notes(Protocol):
    def note(self, turn_id: str) -> Note: ...

    def set_note(self, turn_id: str, note: Note) -> None: ...


class _OwnNotes:
    """The notes of a turn that belongs to no state."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def note(self, turn_id: str) -> Note:
        return self._note

    def set_note(self, turn_id: str, note: Note) -> None:
        self._note = note


class Turn:
    """One exchange of a conversation.

    Read-only but for `score` and `feedback`, which belong to the session or state that the turn was read from.
    The dicts are the reader's own copies.

    Args:
        index: absolute place in the conversation, from 0.
        inputs: field names to values.
        outputs: field names to values.
        history_snapshot: what the call was given; an empty history by default.
        score: a number, or None.
        feedback: a sentence about the answer, or None.
        extras: what else the prediction carried.
        id: unique; made up if not given.
    """

    __slots__ = ("_cache", "_notes", "_record", "_snapshot")
    _shown: ClassVar[tuple[str, ...]] = ("index", "inputs", "outputs", "history_snapshot", "score")

    def __init__(
        self,
        index: int,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        history_snapshot: dspy.History | None = None,
        score: float | None = None,
        *,
        feedback: str | None = None,
        extras: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> None:
        from dspy_session.history import HistoryView

        exchange = Exchange(
            keep(inputs, "the input"), keep(outputs, "the output"), keep(extras or {}, "the extra")
        )
        view = HistoryView.of(history_snapshot, input_names=inputs)
        self._record = TurnRecord(index, exchange, view)
        if id is not None:
            self._record.id = id
        self._notes: _Notes = _OwnNotes(Note(score, feedback))
        self._cache: dict[str, Any] | None = None
        self._snapshot: dspy.History | None = None

    @classmethod
    def of(cls, record: TurnRecord, notes: _Notes | None = None) -> Turn:
        """The turn of a record, seen through the notes of one state."""
        self = cls.__new__(cls)
        self._record = record
        self._notes = notes or _OwnNotes(Note())
        self._cache = self._snapshot = None
        return self

    @property
    def record(self) -> TurnRecord:
        """The shared, unchanging part."""
        return self._record

    @property
    def id(self) -> str:
        """Unique, and the same on every fork."""
        return self._record.id

    @property
    def index(self) -> int:
        """Place in the conversation, from 0; trimming does not renumber."""
        return self._record.index

    def _own(self, name: str, make: Callable[[], Any]) -> Any:
        if self._cache is None:
            self._cache = {}
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    @property
    def inputs(self) -> dict[str, Any]:
        """The program's inputs."""
        return self._own("inputs", lambda: private(self._record.exchange.inputs))  # type: ignore[no-any-return]

    @property
    def outputs(self) -> dict[str, Any]:
        """The program's declared outputs."""
        return self._own("outputs", lambda: private(self._record.exchange.outputs))  # type: ignore[no-any-return]

    @property
    def extras(self) -> dict[str, Any]:
        """What else the prediction carried, such as a trajectory."""
        return self._own("extras", lambda: private(self._record.exchange.extras or {}))  # type: ignore[no-any-return]

    @property
    def history_snapshot(self) -> dspy.History:
        """Exactly the history that the call was given."""
        if self._snapshot is None:
            self._snapshot = self._record.view.history(self._record)
        return self._snapshot

    @property
    def score(self) -> float | None:
        """What a metric or a human gave."""
        return self._notes.note(self.id).score

    @score.setter
    def score(self, score: float | None) -> None:
        self._notes.set_note(self.id, Note(score, self.feedback))

    @property
    def feedback(self) -> str | None:
        """Why the score is what it is."""
        return self._notes.note(self.id).feedback

    @feedback.setter
    def feedback(self, feedback: str | None) -> None:
        self._notes.set_note(self.id, Note(self.score, feedback))

    @property
    def created_at(self) -> datetime | None:
        """When the turn was recorded, in UTC; None if a file did not say."""
        created = self._record.created
        return None if created is None else datetime.fromtimestamp(created, timezone.utc)

    @property
    def model(self) -> str | None:
        """The model that answered; several are joined by commas. None where no model call was seen."""
        return self._record.model

    @property
    def usage(self) -> Usage | None:
        """Tokens and cost of the turn's model calls; None where DSPy keeps no call history."""
        return self._record.usage

    @property
    def exact(self) -> bool:
        """Whether `history_snapshot` is exactly what was sent, so that a replay sends the same bytes."""
        return self._record.exact

    @property
    def calls(self) -> tuple[Call, ...]:
        """The predictors' calls, in the order in which they ended; empty unless `record="calls"`."""
        return self._record.calls

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Turn):
            return NotImplemented
        return self.id == other.id and all(
            getattr(self, name) == getattr(other, name) for name in (*self._shown, "extras", "feedback")
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> Turn:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Turn:
        return Turn.of(self._record, _OwnNotes(self._notes.note(self.id)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Alone, a turn must not carry the whole log along that its views point into.
        record = replace(self._record, view=self._record.view.detached(), nodes=_NO_NODES)
        record.calls = tuple(
            replace(call, history=call.history and call.history.detached()) for call in record.calls
        )
        return (_restore_turn, (record, self._notes.note(self.id)))

    def __repr__(self) -> str:
        return display.record_text("Turn", {name: getattr(self, name) for name in self._shown})

    def _repr_html_(self) -> str:
        return display.turn_html(self)

    def print_calls(self) -> None:
        """Print the predictors' calls of this turn as a tree (`record="calls"`)."""
        print(display.calls_text(self))


def _restore_turn(record: TurnRecord, note: Note) -> Turn:
    return Turn.of(record, _OwnNotes(note))


def turns_of(records: Iterable[TurnRecord], notes: _Notes) -> Iterator[Turn]:
    """Turns of records, seen through the notes of one state."""
    return (Turn.of(record, notes) for record in records)
