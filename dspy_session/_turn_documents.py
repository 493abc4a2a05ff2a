"""A state as the documents that a store keeps: a head, one document a turn, annotations for what comes later.

A turn's document stands by itself: it holds the turn as `codec.wire` describes it, the turns of its nodes, and the
tables of its snapshots; runs of its snapshots refer to turns of the line by their index. Scores, memories,
summaries and pending episodes are annotations, because they come after the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from dspy_session._state_codec import LogReader, LogWriter, summaries_of, summaries_wire
from dspy_session.codec.upgrades import checked
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.codec.wire import VERSION
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Log, Position
from dspy_session.state import Episode, NodeMark, SessionState
from dspy_session.turns import Note, TurnRecord

WHAT = "stored conversation"
Document = dict[str, Any]


class StoredTurn(Protocol):
    """A turn as a store gives it."""

    @property
    def index(self) -> int: ...
    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def annotations(self) -> Sequence[Mapping[str, Any]]: ...


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def head_document(state: SessionState, history_field: str) -> Document:
    """What is written once, when a conversation begins."""
    writer = LogWriter(Encoder(), (), "")
    return {
        "version": VERSION,
        "conversation": state.conversation_id,
        "history_field": history_field,
        "turns": [],
        "initial_history": None if state.initial_history is None else writer.messages(state.head),
    }


def turn_document(state: SessionState, record: TurnRecord) -> Document:
    """One turn with its node turns."""
    document = _document(record, state.position, f"turn {record.index}, ")
    nodes = {}
    for path, mark in record.nodes.items():
        added = mark.after.records()[mark.before.stop - mark.after.start :]
        wire = document.get("nodes", {}).get(path, {})
        nodes[path] = {
            # Episodes that wait are annotations here.
            **{name: value for name, value in wire.items() if name != "pending"},
            "turns": [_document(node, mark.after, f"turn {record.index}, node {path}, ") for node in added],
        }
    return {**document, "nodes": nodes} if nodes else document


def _document(record: TurnRecord, line: Position, place: str) -> Document:
    writer = LogWriter(Encoder(), [record], place, line)
    wire = writer.turn(record, Note())
    del wire["score"]
    tables = {name: table for name, table in writer.tables().items() if table}
    return {**wire, "snapshots": tables} if tables else wire


def note_annotation(turn_id: str, note: Note) -> Document:
    """A turn's score and feedback."""
    return {"kind": "note", "turn": turn_id, "score": note.score, "feedback": note.feedback}


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

    A turn whose snapshot reaches back to turns that were not loaded, or that was redacted, is marked as not exact.

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
        _read_turns(state, turns, decoder)
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
    initial = head.get("initial_history")
    if initial is not None:
        messages = LogReader(decoder, {}, frozenset()).messages(initial)
        state.set_head(HistoryView(head=messages).history())
    return state


def _read_turns(state: SessionState, turns: Sequence[StoredTurn], decoder: Decoder) -> None:
    readers = [_reader(turn.data, decoder) for turn in turns]
    records = [
        reader.record({**turn.data, "index": turn.index}, None)
        for reader, turn in zip(readers, turns, strict=True)
    ]
    state.move(Position.of(records))
    nodes: dict[str, list[TurnRecord]] = {}
    for reader, record, turn in zip(readers, records, turns, strict=True):
        _complete(reader, record, turn.data, state.position.log)
        _read_nodes(state, record, turn.data, decoder, nodes)
        for annotation in turn.annotations:
            if annotation.get("kind") == "note":
                state.set_note(record.id, Note(annotation.get("score"), annotation.get("feedback")))


def _reader(document: Mapping[str, Any], decoder: Decoder) -> LogReader:
    reader = LogReader(decoder, document, frozenset())
    reader.partial = True
    return reader


def _complete(reader: LogReader, record: TurnRecord, document: Mapping[str, Any], log: Log) -> None:
    reader.log = log
    record.view = reader.view(document.get("snapshot"))
    record.calls = tuple(reader.call(call) for call in document.get("calls", ()))
    if reader.cut or document.get("redacted"):
        record.exact = False


def _read_nodes(
    state: SessionState,
    record: TurnRecord,
    document: Mapping[str, Any],
    decoder: Decoder,
    nodes: dict[str, list[TurnRecord]],
) -> None:
    marks = {}
    for path, wire in (document.get("nodes") or {}).items():
        node = state.node(path)
        before = node.position
        if path not in nodes:
            nodes[path] = []
            before = Position(Log((), wire["before"]), wire["before"], wire["before"])
            node.move(before)
        for turn in wire.get("turns", ()):
            reader = _reader(turn, decoder)
            added = reader.record({**turn, "index": node.position.stop}, None)
            node.append(added)
            _complete(reader, added, turn, node.position.log)
        marks[path] = NodeMark(before, node.position, wire.get("memory", ""))
    record.nodes = marks


def _read_annotation(state: SessionState, annotation: Mapping[str, Any], decoder: Decoder) -> None:
    path = annotation.get("path") or ""
    if annotation.get("kind") == "memory":
        (state.node(path) if path else state).l2_memory = annotation["text"]
    elif annotation.get("kind") == "episodes":
        state.node(path).pending = [_episode(wire, decoder) for wire in annotation["episodes"]]
    elif annotation.get("kind") == "summaries":
        (state.node(path) if path else state).summaries = summaries_of(annotation["summaries"])


def _episode(wire: Mapping[str, Any], decoder: Decoder) -> Episode:
    records = []
    for document in wire["turns"]:
        reader = _reader(document, decoder)
        record = reader.record(document, None)
        _complete(reader, record, document, Log())
        records.append(record)
    return Episode(wire["turn"], tuple(records))
