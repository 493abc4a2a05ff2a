"""A state as the documents that a store keeps: a head, one document a turn, annotations for what comes later.

A turn's document stands by itself: it holds the turn as `codec.wire` describes it, the turns of its nodes, and the
tables of its snapshots; runs of its snapshots refer to turns of the line by their index. Scores, memories,
summaries and pending episodes are annotations, because they come after the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from dspy_session._log_codec import LogReader, LogWriter
from dspy_session._marks import Episode, NodeMark
from dspy_session._state_codec import summaries_of, summaries_wire
from dspy_session.codec.upgrades import checked
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.codec.wire import VERSION
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Log, Position
from dspy_session.state import SessionState
from dspy_session.turns import Note, TurnRecord

WHAT = "stored conversation"
Document = dict[str, Any]

NESTED = "\x1f"
"""Between the path of a part that is a session and the path of a node in it: in no attribute's name."""


def node_at(state: SessionState, path: str) -> SessionState:
    """The state of a node, or of a node of a node; of the root for the empty path."""
    for name in path.split(NESTED) if path else ():
        state = state.node(name)
    return state


class StoredTurn(Protocol):
    """A turn as a store gives it."""

    @property
    def index(self) -> int: ...
    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def annotations(self) -> Sequence[Mapping[str, Any]]: ...


# ── writing


def head_document(state: SessionState, history_field: str) -> Document:
    """What is written once, when a conversation begins."""
    return {
        "version": VERSION,
        "conversation": state.conversation_id,
        "history_field": history_field,
        "turns": [],
        "initial_history": _head(state),
    }


def _head(state: SessionState) -> list[Any] | None:
    writer = LogWriter(Encoder(), (), "")
    return None if state.initial_history is None else writer.messages(state.head)


def turn_document(record: TurnRecord, line: Position, known: Iterable[TurnRecord] = ()) -> Document:
    """One turn with its node turns, and theirs.

    Args:
        record: the turn.
        line: the line that it is a turn of.
        known: turns that are on the line as other objects, by whose index snapshots may refer to them.
    """
    return _turn(record, line, "", known)


def _turn(record: TurnRecord, line: Position, place: str, known: Iterable[TurnRecord] = ()) -> Document:
    document = _document(record, line, place, known)
    nodes = {}
    for path, mark in record.nodes.items():
        # A node that keeps few turns may have let go of some of this very turn.
        added = mark.after.records()[max(0, mark.before.stop - mark.after.start) :]
        wire = document["nodes"][path]
        nodes[path] = {
            # Episodes that wait are annotations here.
            **{name: value for name, value in wire.items() if name != "pending"},
            "turns": [
                _turn(node, mark.after, f"{place}turn {record.index}, node {path}, ") for node in added
            ],
        }
    return {**document, "nodes": nodes} if nodes else document


def _document(record: TurnRecord, line: Position, place: str, known: Iterable[TurnRecord] = ()) -> Document:
    records = [record]
    if record.view.exchanges is not line.log.exchanges and len(record.view):
        # After a step back the line goes on in another list: its turns are to be recognised one by one.
        records = [*known, *line.records(), record]
    # What a state lets go of stays in the store.
    writer = LogWriter(Encoder(), records, place, replace(line, start=line.log.base))
    wire = writer.turn(record, Note())
    del wire["score"]
    tables = {name: table for name, table in writer.tables().items() if table}
    return {**wire, "snapshots": tables} if tables else wire


def note_annotation(turn_id: str, note: Note) -> Document:
    """A turn's score and feedback."""
    return {"kind": "note", "turn": turn_id, "score": note.score, "feedback": note.feedback}


def head_annotation(state: SessionState) -> Document:
    """The messages in front of the turns, where they were changed after the conversation had begun."""
    return {"kind": "head", "messages": _head(state)}


def memory_annotation(path: str, memory: str) -> Document:
    """A node's long-term memory; the empty path is the root."""
    return {"kind": "memory", "path": path, "text": memory}


def episodes_annotation(path: str, episodes: Iterable[Episode]) -> Document:
    """What of a node waits for consolidation."""
    waiting = [
        {"turn": e.turn_id, "turns": [_document(r, Position(), f"node {path}, ") for r in e.records]}
        for e in episodes
    ]
    return {"kind": "episodes", "path": path, "episodes": waiting}


def summaries_annotation(path: str, state: SessionState) -> Document:
    """The summaries of a log's old turns; the empty path is the root."""
    return {"kind": "summaries", "path": path, "summaries": summaries_wire(state)}


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


def state_of(
    head: Mapping[str, Any],
    turns: Sequence[StoredTurn],
    annotations: Iterable[Mapping[str, Any]],
    *,
    types: Iterable[type] = (),
    annotated: Iterable[Any] = (),
) -> SessionState:
    """The state of stored documents; of a conversation's newest turns, if only those were loaded.

    A turn whose snapshot reaches back to turns that were not loaded, or that was redacted, is marked as not
    exact.

    Args:
        head: the head document.
        turns: the loaded turns, oldest first.
        annotations: those that speak of no turn.
        types: classes that values may have.
        annotated: annotations whose classes values may have.

    Raises:
        FormatError: a document is damaged or of a newer version.
    """
    decoder = Decoder(types, annotated)
    try:
        checked(head, WHAT)
        state = _opened(head, decoder)
        _Lines(decoder).root(state, turns)
        for annotation in annotations:
            _read_annotation(state, annotation, decoder)
        state.dirty_notes.clear()
        return state
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FormatError(f"the {WHAT} is damaged ({type(error).__name__}: {error})") from error


def _opened(head: Mapping[str, Any], decoder: Decoder) -> SessionState:
    state = SessionState()
    state.conversation_id = head["conversation"]
    _set_head(state, head.get("initial_history"), decoder)
    return state


def _set_head(state: SessionState, messages: Any, decoder: Decoder) -> None:
    read = None if messages is None else LogReader(decoder, {}, frozenset()).messages(messages)
    state.set_head(None if read is None else HistoryView(head=read).history())


class _Lines:
    """Reads the turns of a state's line and of its nodes' lines, and says which are not exact."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        # What was sent is not known any more of these, nor of turns that were shown them.
        self._redacted: set[int] = set()

    def root(self, state: SessionState, turns: Sequence[StoredTurn]) -> None:
        loaded = []
        for turn in turns:
            reader = _reader(turn.data, self._decoder)
            loaded.append((reader, reader.record({**turn.data, "index": turn.index}, None), turn))
        state.move(Position.of([record for _, record, _ in loaded]))
        for reader, record, turn in loaded:
            redacted = bool(turn.data.get("redacted"))
            self._complete(state, reader, record, turn.data, redacted)
            for annotation in turn.annotations:
                if annotation.get("kind") == "note":
                    state.set_note(record.id, Note(annotation.get("score"), annotation.get("feedback")))

    def _complete(
        self,
        state: SessionState,
        reader: LogReader,
        record: TurnRecord,
        document: Mapping[str, Any],
        redacted: bool,
    ) -> None:
        _complete(reader, record, document, state.position.log)
        if redacted:
            self._redacted.add(id(record.exchange))
        view = record.view
        shown = view.exchanges[view.start - view.base : view.stop - view.base] if self._redacted else ()
        nodes = self._nodes(state, record, document, redacted)
        if redacted or not nodes or any(id(exchange) in self._redacted for exchange in shown):
            record.exact = False

    def _nodes(
        self, state: SessionState, record: TurnRecord, document: Mapping[str, Any], redacted: bool
    ) -> bool:
        """Read the nodes' turns; whether all of them are exact."""
        marks, exact = {}, True
        for path, wire in (document.get("nodes") or {}).items():
            # Redaction may have taken the node's turns away.
            node, turns = state.node(path), wire.get("turns", ())
            before = node.position
            first = wire["after"] - len(turns) if turns else wire["before"]
            if before.stop != first:
                # Nothing of it is loaded, or it let go of turns between these and the earlier ones.
                node.move(Position(Log((), first), first, first))
                before = before if len(before) else node.position
            for turn in turns:
                reader = _reader(turn, self._decoder)
                added = reader.record({**turn, "index": node.position.stop}, None)
                node.append(added)
                self._complete(node, reader, added, turn, redacted)
                exact = exact and added.exact
            marks[path] = NodeMark(before, node.position, wire.get("memory", ""))
        if marks:
            record.nodes = marks
        return exact


def _reader(document: Mapping[str, Any], decoder: Decoder) -> LogReader:
    reader = LogReader(decoder, document, frozenset())
    reader.partial = True
    return reader


def _complete(reader: LogReader, record: TurnRecord, document: Mapping[str, Any], log: Log) -> None:
    reader.log = log
    record.view = reader.view(document.get("snapshot"))
    record.calls = tuple(reader.call(call) for call in document.get("calls", ()))
    if reader.cut:
        record.exact = False


def _read_annotation(state: SessionState, annotation: Mapping[str, Any], decoder: Decoder) -> None:
    kind = annotation.get("kind")
    if kind == "head":
        _set_head(state, annotation["messages"], decoder)
    elif kind == "memory":
        node_at(state, annotation.get("path") or "").l2_memory = annotation["text"]
    elif kind == "episodes":
        node = node_at(state, annotation.get("path") or "")
        node.pending = [_episode(wire, decoder) for wire in annotation["episodes"]]
    elif kind == "summaries":
        node_at(state, annotation.get("path") or "").summaries = summaries_of(annotation["summaries"])


def _episode(wire: Mapping[str, Any], decoder: Decoder) -> Episode:
    records = []
    for document in wire["turns"]:
        reader = _reader(document, decoder)
        record = reader.record(document, None)
        _complete(reader, record, document, Log())
        records.append(record)
    return Episode(wire["turn"], tuple(records))
