"""States ↔ their stored shape (`codec.wire`): a log of turns, what its nodes have, what was replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pydantic

from dspy_session._exchange import ALL_FIELDS, Projection
from dspy_session._log_codec import LogReader, LogWriter, check_order
from dspy_session._marks import Branch, Episode, NodeMark
from dspy_session.codec.upgrades import checked
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.codec.wire import VERSION
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Log, Position, Summary
from dspy_session.state import SessionState
from dspy_session.turns import Note, TurnRecord

WHAT = "session state"

# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def _own_part(records: Sequence[TurnRecord], shared: set[str]) -> Sequence[TurnRecord]:
    """A branch's turns from the first one on that the state does not have."""
    first = next((i for i, record in enumerate(records) if record.id not in shared), len(records))
    return records[first:]


def _branch_nodes(state: SessionState, branch: Branch, writer: LogWriter) -> dict[str, Any]:
    """What the nodes had after an answer that was replaced; turns that they still have are not repeated."""
    wire = {}
    for path, node in branch.nodes.items():
        kept = {record.id for record in state.node(path).position.records()}
        own = [record for record in node.position.records() if record.id not in kept]
        wire[path] = {
            "stop": own[0].index if own else node.position.stop,
            "turns": [writer.bare(record, f"node {path}") for record in own],
            "memory": node.l2_memory,
        }
    return wire


def summaries_wire(state: SessionState) -> list[dict[str, Any]]:
    """A state's summaries as JSON data."""
    return [{"text": s.text, "covers": s.covers, "made": s.made} for s in state.summaries]


def summaries_of(wires: Iterable[Mapping[str, Any]]) -> list[Summary]:
    """The summaries of JSON data."""
    return [Summary(str(wire["text"]), int(wire["covers"]), int(wire["made"])) for wire in wires]


def encode_state(state: SessionState, *, encoder: Encoder | None = None, place: str = "") -> dict[str, Any]:
    """A state as JSON data.

    Args:
        state: the state.
        encoder: a strict one makes values that cannot keep their type errors.
        place: what errors say in front of the turn, for the state of a node.
    """
    encoder = encoder or Encoder()
    with state.mutex:
        records = state.position.records()
        writer = LogWriter(encoder, records, place, state.position)
        branches = [(branch, branch.position.records()) for branch in state.branches]
        turns = [writer.turn(record, state.note(record.id)) for record in records]
        shared = {record.id for record in records}
        wire: dict[str, Any] = {
            "version": VERSION,
            "conversation": state.conversation_id,
            "turns": turns,
            "initial_history": writer.messages(state.head) if state.initial_history is not None else None,
            "l2_memory": state.l2_memory,
            "node_states": {
                path: encode_state(node, encoder=encoder, place=f"{place}node {path}, ")
                for path, node in state.node_states.items()
            },
        }
        if branches:
            wire["branches"] = [
                [writer.turn(r, branch.notes.get(r.id, Note())) for r in _own_part(own, shared)]
                for branch, own in branches
            ]
            nodes = [_branch_nodes(state, branch, writer) for branch, _ in branches]
            if any(nodes):
                wire["branch_nodes"] = nodes
        if state.summaries:
            wire["summaries"] = summaries_wire(state)
        if episodes := writer.episode_tables():
            wire["episodes"] = episodes
        if state.pending:
            wire["pending"] = [writer.episode(episode) for episode in state.pending]
        wire["snapshots"] = writer.tables()
        return wire


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


def _reviver(annotations: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    """Plain values of early files get the types that the program's signature declares."""

    @cache
    def adapter(name: str) -> pydantic.TypeAdapter[Any]:
        annotation: Any = annotations.get(name)
        return pydantic.TypeAdapter(annotation)

    def revive(name: str, value: Any) -> Any:
        try:
            return adapter(name).validate_python(value)
        except Exception:
            return value

    return revive


def decode_state(
    data: Mapping[str, Any],
    *,
    types: Iterable[type] = (),
    annotations: Mapping[str, Any] | None = None,
    node_annotations: Iterable[Any] = (),
    input_names: frozenset[str] = frozenset(),
    projection: Projection = ALL_FIELDS,
    rebuild: Callable[[HistoryView], HistoryView] | None = None,
) -> SessionState:
    """The state of JSON data of this or an earlier version.

    Args:
        data: what `encode_state` gave.
        types: classes that may come back.
        annotations: of the program's fields; their classes may come back too, and early files' values get them.
        node_annotations: of the fields of the program's predictors; their classes may come back, too.
        input_names: the program's inputs, for histories of early files.
        projection: which fields histories show, where a file holds no snapshots.
        rebuild: the window through which such histories are seen.

    Raises:
        FormatError: the data is damaged or something else.
    """
    fields = annotations or {}
    decoder = Decoder(types, [*fields.values(), *node_annotations])
    try:
        wire = checked(data, WHAT)
        return _state(wire, decoder, _reviver(fields), input_names, projection, rebuild)
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise FormatError(f"the {WHAT} is damaged ({type(error).__name__}: {error})") from error


def _state(
    wire: Mapping[str, Any],
    decoder: Decoder,
    revive: Callable[[str, Any], Any],
    input_names: frozenset[str],
    projection: Projection,
    rebuild: Callable[[HistoryView], HistoryView] | None,
) -> SessionState:
    nodes = {
        path: _state(node, decoder, revive, frozenset(), ALL_FIELDS, None)
        for path, node in (wire.get("node_states") or {}).items()
    }
    reader = LogReader(decoder, wire, input_names)
    state = _begun(wire, reader, nodes)
    turns = wire.get("turns", [])
    records = [reader.record(turn, revive) for turn in turns]
    check_order(records)
    position = Position.of(records)
    reader.log = position.log
    state.move(position)
    episodes = {
        path: [_episode(reader, episode) for episode in known]
        for path, known in (wire.get("episodes") or {}).items()
    }
    for record, turn in zip(records, turns, strict=True):
        _complete(record, turn, reader, state, episodes)
        if turn.get("score") is not None or turn.get("feedback") is not None:
            state.set_note(record.id, Note(turn.get("score"), turn.get("feedback")))
        if turn.get("early"):
            record.view = _early_view(turn, reader, state, record, projection, rebuild)
    state.summaries = summaries_of(wire.get("summaries", ()))
    state.branches = _branches(state, reader, wire)
    state.pending = [_episode(reader, episode) for episode in wire.get("pending", ())]
    return state


def _begun(wire: Mapping[str, Any], reader: LogReader, nodes: Mapping[str, SessionState]) -> SessionState:
    """The state without its turns, and what needs them."""
    memory = wire.get("l2_memory") or ""
    if not isinstance(memory, str):
        raise FormatError(f"the {WHAT} is damaged: l2_memory is no text")
    state = SessionState(l2_memory=memory, node_states=nodes)
    initial = wire.get("initial_history")
    state._head = reader.messages(initial or ())
    state._has_initial = initial is not None
    if wire.get("conversation"):
        state.conversation_id = wire["conversation"]
    return state


def _complete(
    record: TurnRecord,
    turn: Mapping[str, Any],
    reader: LogReader,
    state: SessionState,
    episodes: Mapping[str, Sequence[Episode]] | None = None,
) -> None:
    """What of a record needs the whole log to be there."""
    record.view = reader.view(turn.get("snapshot"))
    record.calls = tuple(reader.call(call) for call in turn.get("calls", ()))
    record.nodes = {
        path: _node_mark(state, path, mark, (episodes or {}).get(path, ()))
        for path, mark in (turn.get("nodes") or {}).items()
    }


def _node_mark(
    state: SessionState, path: str, wire: Mapping[str, Any], episodes: Sequence[Episode]
) -> NodeMark:
    whole = state.node(path).position
    # What the node has let go of since is not in the file.
    start, before, after = (
        min(max(wire[at], whole.start), whole.stop) for at in ("start", "before", "after")
    )
    position = replace(whole, start=start, stop=before)
    pending = None
    if (waiting := wire.get("pending")) is not None:
        first, last = waiting
        pending = tuple(episodes[first:last])
    return NodeMark(position, replace(position, stop=after), wire.get("memory", ""), pending)


def _early_view(
    turn: Mapping[str, Any],
    reader: LogReader,
    state: SessionState,
    record: TurnRecord,
    projection: Projection,
    rebuild: Callable[[HistoryView], HistoryView] | None,
) -> HistoryView:
    written = turn.get("written_snapshot")
    if written is not None:
        record.exact = True
        return HistoryView(head=reader.messages(written))
    before = HistoryView.at(state.position.back_to(record.index), state.head, projection)
    return before if rebuild is None else rebuild(before)


def _branches(state: SessionState, reader: LogReader, wire: Mapping[str, Any]) -> list[Branch]:
    branches = wire.get("branches", ())
    nodes = wire.get("branch_nodes") or [{}] * len(branches)
    return [_branch(state, reader, own, own_nodes) for own, own_nodes in zip(branches, nodes, strict=True)]


def _branch(
    state: SessionState,
    reader: LogReader,
    own: Sequence[Mapping[str, Any]],
    own_nodes: Mapping[str, Mapping[str, Any]],
) -> Branch:
    nodes = {path: _branch_node(state.node(path), reader, node) for path, node in own_nodes.items()}
    # Its turns are marked by where the nodes stood there, not by where they went on after `retry`.
    there = SessionState(node_states={**state.node_states, **nodes})
    notes: dict[str, Note] = {}
    records = state.position.records()
    if own:
        records = [record for record in records if record.index < own[0]["index"]]
    for turn in own:
        record = reader.record(turn, None)
        _complete(record, turn, reader, there)
        notes[record.id] = Note(turn.get("score"), turn.get("feedback"))
        records.append(record)
    check_order(records)
    return Branch(Position.of(records), notes, nodes)


def _branch_node(node: SessionState, reader: LogReader, wire: Mapping[str, Any]) -> SessionState:
    fork = node.fork()
    position = node.position.back_to(wire["stop"])
    for turn in wire["turns"]:
        position = _branched(position, reader.record(turn, None))
    fork.move(position)
    fork.l2_memory, fork.pending = wire["memory"], []
    return fork


def _branched(position: Position, record: TurnRecord) -> Position:
    return Position(Log([*position.records(), record], position.start), position.start, position.stop + 1)


def _episode(reader: LogReader, wire: Mapping[str, Any]) -> Episode:
    return Episode(wire["turn"], tuple(reader.record(turn, None) for turn in wire["turns"]))
