"""The append-only log of turns, places in it, and the histories that are views of it.

A `Log` only grows. A `Position` is a place in one: the turns from `start` to `stop`; undo, fork and trim make
another position and copy nothing. A `HistoryView` is what one call was given: some messages in front, then a
stretch of the log's exchanges as a projection shows them. `SessionHistory` is the `dspy.History` of a view; its
messages come into being when somebody reads them.

Views hold the list of exchanges, not the log: a log's records hold views, and a view that held records would keep
every conversation that was ever trimmed alive through the snapshots of its successors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pydantic
from dspy import History

from dspy_session._exchange import ALL_FIELDS, Exchange, Message, Projection, keep
from dspy_session.errors import HistoryTypeError
from dspy_session.turns import TurnRecord


class Log:
    """Turns in the order in which they were recorded. Item `i` of the lists is the turn with index `base + i`."""

    __slots__ = ("base", "exchanges", "lock", "records")

    def __init__(self, records: Iterable[TurnRecord] = (), base: int = 0) -> None:
        self.records = list(records)
        self.exchanges = [record.exchange for record in self.records]
        self.base = base
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Log:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Log, (self.records, self.base))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: the turns with the indexes `start` to `stop - 1`."""

    log: Log = field(default_factory=Log)
    start: int = 0
    stop: int = 0

    @classmethod
    def of(cls, records: Sequence[TurnRecord]) -> Position:
        """The end of a new log. The records' indexes must follow each other."""
        base = records[0].index if records else 0
        return cls(Log(records, base), base, base + len(records))

    def __len__(self) -> int:
        return self.stop - self.start

    def records(self) -> list[TurnRecord]:
        """The turns, oldest first."""
        base = self.log.base
        return self.log.records[self.start - base : self.stop - base]

    def last(self) -> TurnRecord | None:
        """The newest turn."""
        return self.log.records[self.stop - 1 - self.log.base] if len(self) else None

    def append(self, record: TurnRecord) -> Position:
        """The place after one more turn. O(1) unless another branch has already grown from here."""
        log = self.log
        with log.lock:
            if log.base + len(log.records) == self.stop:
                log.records.append(record)
                log.exchanges.append(record.exchange)
                return Position(log, self.start, self.stop + 1)
        return Position(Log([*self.records(), record], self.start), self.start, self.stop + 1)

    def back_to(self, stop: int) -> Position:
        """The place before the turn with the index `stop`."""
        return replace(self, stop=max(self.start, min(stop, self.stop)))

    def keep_last(self, count: int) -> Position:
        """The last `count` turns; what is before them is let go once it outweighs what is kept."""
        return self.keep_from(self.stop - count)

    def keep_from(self, start: int) -> Position:
        """The turns from the index `start` on; what is before them is let go once it outweighs what is kept."""
        start = min(max(self.start, start), self.stop)
        if start == self.start:
            return self
        trimmed = replace(self, start=start)
        if start - self.log.base > len(trimmed):
            return replace(trimmed, log=Log(trimmed.records(), start))
        return trimmed


SUMMARY_FIELD = "conversation_summary"


@dataclass(frozen=True, slots=True)
class Summary:
    """Old turns as one text, which a window shows in their place.

    Attributes:
        text: what stands for the turns.
        covers: the index after the last turn that it covers.
        made: the index after the last turn that there was when it was made; earlier views lack it.
        head: the text as the message that is shown.
    """

    text: str
    covers: int
    made: int
    head: tuple[Message, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # One message for all views, so that it is rendered, and written to files, once.
        message = Message({SUMMARY_FIELD: self.text}, {SUMMARY_FIELD}, cached=True)
        object.__setattr__(self, "head", (message,))


@dataclass(frozen=True, slots=True)
class HistoryView:
    """What one call is shown: `head`, then the exchanges with the indexes `start` to `stop - 1`.

    Attributes:
        head: messages that come first: the initial history, a summary, or an explicit history.
        exchanges: a log's list; item `i` has the index `base + i`.
        projection: which fields of the exchanges are shown.
        summary: the newest summary of the oldest exchanges, for a window that shows it in their place.
    """

    head: tuple[Message, ...] = ()
    exchanges: list[Exchange] = field(default_factory=list)
    base: int = 0
    start: int = 0
    stop: int = 0
    projection: Projection = ALL_FIELDS
    summary: Summary | None = None

    @classmethod
    def of(cls, history: History | None, input_names: Iterable[str] = ()) -> HistoryView:
        """The view of an explicit history. `input_names` tells which of a plain dict's fields went in."""
        if history is None:
            return EMPTY
        if not isinstance(history, History):
            raise HistoryTypeError(f"Expected history to be dspy.History, got {type(history).__name__}")
        if isinstance(history, SessionHistory) and history.unchanged:
            return history.view
        names = frozenset(input_names)
        return cls(head=tuple(as_message(message, names, copy=True) for message in messages_of(history)))

    @classmethod
    def at(
        cls,
        position: Position,
        head: tuple[Message, ...],
        projection: Projection,
        summary: Summary | None = None,
    ) -> HistoryView:
        """Everything up to a position."""
        log = position.log
        return cls(head, log.exchanges, log.base, position.start, position.stop, projection, summary)

    def __len__(self) -> int:
        return len(self.head) + self.stop - self.start

    def __iter__(self) -> Iterator[Message]:
        yield from self.head
        for exchange in self.exchanges[self.start - self.base : self.stop - self.base]:
            yield exchange.message(self.projection)

    def messages(self) -> list[Message]:
        """The messages, oldest first."""
        return list(self)

    def backwards(self) -> Iterator[Message]:
        """The messages, newest first."""
        for index in range(self.stop - 1, self.start - 1, -1):
            yield self.exchanges[index - self.base].message(self.projection)
        yield from reversed(self.head)

    def last(self, count: int, *, keep_head: bool = False) -> HistoryView:
        """The newest `count` messages; with `keep_head`, the newest `count` of the log and all of the head."""
        if keep_head:
            return replace(self, start=max(self.start, self.stop - count))
        missing = count - (self.stop - self.start)
        if missing >= 0:
            return replace(self, head=self.head[max(0, len(self.head) - missing) :])
        return replace(self, head=(), start=self.stop - count)

    def history(self, record: TurnRecord | None = None) -> SessionHistory:
        """A `dspy.History` of this view, with a message list of its own."""
        return SessionHistory.of(self, record)

    def __deepcopy__(self, memo: dict[int, Any]) -> HistoryView:
        return self

    def detached(self) -> HistoryView:
        """The same messages without the rest of the log that they come from."""
        return _restore_view(self.messages())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HistoryView) and self.messages() == other.messages()

    def __hash__(self) -> int:
        return hash(len(self))


EMPTY = HistoryView()


def _restore_view(messages: list[Message]) -> HistoryView:
    return HistoryView(head=tuple(messages))


def as_message(value: Mapping[str, Any], input_names: frozenset[str], *, copy: bool = False) -> Message:
    """A plain dict of a history as a message: its inputs are the fields called like the program's inputs.

    If none is, the first of several fields is taken for the input: an exchange has a question.
    """
    if isinstance(value, Message):
        return value
    names = [name for name in value if name in input_names]
    if not names and len(value) > 1:
        names = [next(iter(value))]
    return Message(keep(value, "the history's field") if copy else value, names)


def messages_of(history: Any) -> list[Mapping[str, Any]]:
    """The messages of a history, or of a dict that a saved one came back as; those of a view know their inputs."""
    if isinstance(history, SessionHistory):
        return history.shown()
    if isinstance(history, History):
        return list(history.messages)
    if isinstance(history, Mapping):
        return list(history.get("messages") or ())
    return []


# Shared by all histories, of which there is one a turn: pydantic only reads it, for a history is frozen.
_FIELDS_SET = {"messages"}


class SessionHistory(History):  # type: ignore[misc]
    """A `dspy.History` of a view of a conversation.

    It is O(1) to make and to copy: `messages`, a list of plain dicts that the holder may change, is built when it
    is first read. Equal to any `dspy.History` with the same messages; hashable and picklable.
    """

    @classmethod
    def of(cls, view: HistoryView, record: TurnRecord | None = None) -> SessionHistory:
        """The history of a view, without reading it; with the turn that it was given to, if there was one."""
        self = cls.__new__(cls)
        object.__setattr__(self, "__dict__", {"_view": view, "_record": record})
        object.__setattr__(self, "__pydantic_fields_set__", _FIELDS_SET)
        object.__setattr__(self, "__pydantic_extra__", None)
        object.__setattr__(self, "__pydantic_private__", None)
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "messages" and "_view" in self.__dict__:
            messages = self.__dict__["messages"] = [message.plain() for message in self.__dict__["_view"]]
            return messages
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def view(self) -> HistoryView:
        """The view that this is the history of."""
        view: HistoryView = self.__dict__["_view"]
        return view

    @property
    def record(self) -> TurnRecord | None:
        """The turn that was given this history: a call that repeats it needs what the nodes had then."""
        record: TurnRecord | None = self.__dict__["_record"]
        return record

    @property
    def untouched(self) -> bool:
        """Whether nobody has read, and so perhaps changed, the message list."""
        return "messages" not in self.__dict__

    @property
    def unchanged(self) -> bool:
        """Whether the messages are the view's, read or not."""
        return self.untouched or self.__dict__["messages"] == list(self.view)

    def shown(self) -> list[Mapping[str, Any]]:
        """The messages as they are now; those that nobody changed are the view's own."""
        own: list[Mapping[str, Any]] = list(self.view)
        if self.untouched:
            return own
        now: list[dict[str, Any]] = self.__dict__["messages"]
        return [own[i] if i < len(own) and own[i] == message else message for i, message in enumerate(now)]

    def added(self) -> list[dict[str, Any]]:
        """The messages that a holder appended to the list."""
        return [] if self.untouched else self.__dict__["messages"][len(self.view) :]

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        return self._plain().model_dump(**kwargs)  # type: ignore[no-any-return]

    def model_dump_json(self, **kwargs: Any) -> str:
        return self._plain().model_dump_json(**kwargs)  # type: ignore[no-any-return]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> History:
        return self._plain().model_copy(update=dict(update or {}), deep=deep)

    @pydantic.model_serializer(mode="plain")
    def _serialize(self) -> dict[str, Any]:
        return {"messages": self.messages}

    def _plain(self) -> History:
        return History(messages=list(self.messages))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, History) and bool(self.messages == other.messages)

    def __hash__(self) -> int:
        # Equal histories may differ in the types of equal numbers and in the order of keys: hash only what is
        # the same in all of them.
        messages = self.shown()
        last = messages[-1] if messages else {}
        return hash((len(messages), frozenset((k, v) for k, v in last.items() if isinstance(v, str))))

    def __copy__(self) -> SessionHistory:
        if self.unchanged:
            return SessionHistory.of(self.view, self.record)
        return SessionHistory.of(_restore_view(_as_messages(self.shown())))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> SessionHistory:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_history, (_as_messages(self.shown()),))

    def __repr__(self) -> str:
        return f"History(messages={self.messages!r})"

    def __str__(self) -> str:
        return f"messages={self.messages!r}"


def _as_messages(shown: list[Mapping[str, Any]]) -> list[Message]:
    return [as_message(message, frozenset(), copy=True) for message in shown]


def _restore_history(messages: list[Message]) -> SessionHistory:
    return SessionHistory.of(_restore_view(messages))
