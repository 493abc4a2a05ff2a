"""States ↔ their stored shape (`codec.wire`).

Snapshots are views that share exchanges; written out they would make a file of n turns n² long. They are written as
recipes instead: which stretches of which exchanges, behind which head, through which projection.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pydantic

from dspy_session._exchange import ALL_FIELDS, Exchange, Message, Projection
from dspy_session._marks import Branch, Episode, NodeMark
from dspy_session.codec.upgrades import checked
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.codec.wire import VERSION
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Log, Position, Summary
from dspy_session.state import SessionState
from dspy_session.turns import Call, Note, TurnRecord, Usage

WHAT = "session state"

# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


class LogWriter:
    """Writes one log's turns and the tables that their snapshots refer to."""

    def __init__(
        self, encoder: Encoder, records: Sequence[TurnRecord], place: str, line: Position | None = None
    ) -> None:
        self._encoder, self._place = encoder, place
        # A view into the very log that is written needs no search for where its exchanges stand.
        self._line = line
        self._turn_of = {id(record.exchange): record.index for record in records}
        self._past_of: dict[int, int] = {}
        self._heads: dict[tuple[int, ...], int] = {}
        self._kept: list[Any] = []
        self._stretches: dict[int, tuple[list[tuple[int, int]], list[int], int]] = {}
        self.heads: list[Any] = []
        self.projections: list[Any] = []
        self._projection_of: dict[Projection, int] = {}
        self.episodes: dict[str, list[Episode]] = {}
        self.past: list[Any] = []

    def tables(self) -> dict[str, Any]:
        return {"heads": self.heads, "projections": self.projections, "past": self.past}

    def messages(self, head: Iterable[Message]) -> list[Any]:
        return [
            {
                "values": self._encoder.fields(message, f"{self._place}history"),
                "inputs": sorted(message.input_names),
            }
            for message in head
        ]

    def exchange(self, exchange: Exchange, place: str) -> dict[str, Any]:
        parts = {"inputs": exchange.inputs, "outputs": exchange.outputs, "extras": exchange.extras or {}}
        return {
            name: self._encoder.fields(values, f"{place}, {name}") for name, values in parts.items() if values
        }

    def turn(self, record: TurnRecord, note: Note) -> dict[str, Any]:
        place = f"{self._place}turn {record.index}"
        wire: dict[str, Any] = {
            "id": record.id,
            "index": record.index,
            "inputs": {},
            "outputs": {},
            **self.exchange(record.exchange, place),
            "snapshot": self.snapshot(record.view),
            "score": note.score,
        }
        optional = {
            "feedback": note.feedback,
            "created": record.created,
            "model": record.model,
            "usage": None if record.usage is None else asdict(record.usage),
            "exact": None if record.exact else False,
            "replaces": record.replaces,
            "calls": [self._call(call, place) for call in record.calls] or None,
            "nodes": {path: self._mark(path, mark) for path, mark in record.nodes.items()} or None,
        }
        wire.update({name: value for name, value in optional.items() if value is not None})
        return wire

    def _mark(self, path: str, mark: NodeMark) -> dict[str, Any]:
        wire: dict[str, Any] = {
            "start": mark.before.start,
            "before": mark.before.stop,
            "after": mark.after.stop,
        }
        if mark.memory:
            wire["memory"] = mark.memory
        if mark.pending is not None:
            known = self.episodes.setdefault(path, [])
            known += [episode for episode in mark.pending if episode not in known[-len(mark.pending) :]]
            # Episodes wait in the order of their turns: those of a mark are the newest that there were.
            wire["pending"] = [len(known) - len(mark.pending), len(known)]
        return wire

    def episode_tables(self) -> dict[str, Any]:
        """The episodes that marks refer to, by node."""
        return {
            path: [self.episode(episode) for episode in known]
            for path, known in self.episodes.items()
            if known
        }

    def episode(self, episode: Episode) -> dict[str, Any]:
        turns = [
            {
                "id": record.id,
                "index": record.index,
                **self.exchange(record.exchange, f"{self._place}an episode"),
            }
            for record in episode.records
        ]
        return {"turn": episode.turn_id, "turns": turns}

    def _call(self, call: Call, place: str) -> dict[str, Any]:
        return {
            "path": call.path,
            "predictor": call.predictor,
            "inputs": self._encoder.fields(call.inputs, f"{place}, call of {call.path}"),
            "outputs": self._encoder.fields(call.outputs, f"{place}, call of {call.path}"),
            "snapshot": None if call.history is None else self.snapshot(call.history),
        }

    def snapshot(self, view: HistoryView) -> dict[str, Any]:
        wire: dict[str, Any] = {}
        if view.head:
            wire["head"] = self._head(view.head)
        if view.stop > view.start:
            wire["projection"] = self._projection(view.projection)
            wire["runs"] = self._runs(view)
        return wire

    def _head(self, head: tuple[Message, ...]) -> int:
        key = tuple(map(id, head))
        if key not in self._heads:
            self._heads[key] = len(self.heads)
            self._kept.append(head)
            self.heads.append(self.messages(head))
        return self._heads[key]

    def _projection(self, projection: Projection) -> int:
        if projection not in self._projection_of:
            self._projection_of[projection] = len(self.projections)
            inputs = projection.inputs
            self.projections.append(
                {
                    "exclude": sorted(projection.exclude),
                    "inputs": None if inputs is None else sorted(inputs),
                    "extras": sorted(projection.extras),
                }
            )
        return self._projection_of[projection]

    def _runs(self, view: HistoryView) -> list[list[int]]:
        line = self._line
        if line is not None and view.exchanges is line.log.exchanges and view.start >= line.start:
            return [[0, view.start, view.stop]]
        places, ends = self._stretch(view)
        runs = []
        at = view.start - view.base
        stop = view.stop - view.base
        while at < stop:
            end = min(ends[at], stop)
            kind, first = places[at]
            runs.append([kind, first, first + end - at])
            at = end
        return runs

    def _stretch(self, view: HistoryView) -> tuple[list[tuple[int, int]], list[int]]:
        """Where each exchange of a list is to be found, and where the run that it is in ends."""
        first, stop = view.start - view.base, view.stop - view.base
        places, ends, known_from = self._stretches.get(id(view.exchanges), ([], [], stop))
        if len(places) >= stop and known_from <= first:
            return places, ends
        exchanges = view.exchanges[: max(stop, len(places))]
        # Exchanges of the list that no snapshot shows would be written for nothing: they get places on demand.
        first = min(first, known_from)
        places = [self._place_of(exchange, i >= first) for i, exchange in enumerate(exchanges)]
        ends = [len(places)] * len(places)
        for i in range(len(places) - 2, -1, -1):
            follows = places[i + 1] == (places[i][0], places[i][1] + 1)
            ends[i] = ends[i + 1] if follows else i + 1
        self._kept.append(view.exchanges)
        self._stretches[id(view.exchanges)] = places, ends, first
        return places, ends

    def _place_of(self, exchange: Exchange, wanted: bool) -> tuple[int, int]:
        index = self._turn_of.get(id(exchange))
        if index is not None:
            return 0, index
        if id(exchange) not in self._past_of:
            if not wanted:
                return -1, -1
            self._past_of[id(exchange)] = len(self.past)
            self._kept.append(exchange)
            self.past.append(self.exchange(exchange, f"{self._place}an earlier turn"))
        return 1, self._past_of[id(exchange)]


def _own_part(records: Sequence[TurnRecord], shared: set[str]) -> Sequence[TurnRecord]:
    """A branch's turns from the first one on that the state does not have."""
    first = next((i for i, record in enumerate(records) if record.id not in shared), len(records))
    return records[first:]


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


class LogReader:
    """Reads one log's turns. Later turns' snapshots refer to earlier ones, so they are read in order."""

    def __init__(self, decoder: Decoder, data: Mapping[str, Any], input_names: frozenset[str]) -> None:
        self._decoder, self._input_names = decoder, input_names
        tables = data.get("snapshots") or {}
        self.heads = [self.messages(head) for head in tables.get("heads", ())]
        self.projections = [_projection(wire) for wire in tables.get("projections", ())]
        self.past = [self.exchange(wire, "an earlier turn") for wire in tables.get("past", ())]
        self.log = Log()
        # Of a conversation that is loaded in part, snapshots may reach back further than what is there.
        self.partial = self.cut = False
        self._mixed: dict[tuple[tuple[int, int, int], ...], list[Exchange]] = {}

    def messages(self, wires: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
        return tuple(self._message(wire) for wire in wires)

    def _message(self, wire: Mapping[str, Any]) -> Message:
        values = self._decoder.fields(wire["values"], "history")
        inputs = wire["inputs"]
        if inputs is None:
            inputs = [name for name in values if name in self._input_names]
            inputs = inputs or list(values)[:1]
        return Message(values, inputs)

    def exchange(self, wire: Mapping[str, Any], place: str) -> Exchange:
        parts = (
            self._decoder.fields(wire.get(name) or {}, place) for name in ("inputs", "outputs", "extras")
        )
        return Exchange(*parts)

    def record(self, wire: Mapping[str, Any], revive: Callable[[str, Any], Any] | None) -> TurnRecord:
        index = wire["index"]
        place = f"turn {index}"
        _check_facts(wire, place)
        exchange = self.exchange(wire, place)
        if wire.get("early") and revive is not None:
            for values in (exchange.inputs, exchange.outputs):
                values.update({name: revive(name, value) for name, value in values.items()})
        usage = wire.get("usage")
        return TurnRecord(
            index=index,
            exchange=exchange,
            view=HistoryView(),
            id=wire.get("id") or uuid.uuid4().hex,
            created=wire.get("created"),
            model=wire.get("model"),
            usage=None if usage is None else Usage(**usage),
            exact=wire.get("exact", True),
            replaces=wire.get("replaces"),
        )

    def view(self, wire: Mapping[str, Any] | None) -> HistoryView:
        if not wire:
            return HistoryView()
        head = self.heads[wire["head"]] if "head" in wire else ()
        runs = tuple((kind, start, stop) for kind, start, stop in wire.get("runs", ()))
        if not runs:
            return HistoryView(head=head)
        if not all(type(number) is int for run in runs for number in run):
            raise FormatError(f"a snapshot's runs are no whole numbers: {wire['runs']!r}")
        projection = self.projections[wire["projection"]]
        if len(runs) == 1 and runs[0][0] == 0:
            _, start, stop = runs[0]
            start, stop = self._in_bounds(start, stop, self.log.base, len(self.log.exchanges))
            return HistoryView(head, self.log.exchanges, self.log.base, start, stop, projection)
        exchanges, length = self._gather(runs)
        return HistoryView(head, exchanges, 0, 0, length, projection)

    def _gather(self, runs: tuple[tuple[int, int, int], ...]) -> tuple[list[Exchange], int]:
        """The exchanges of several runs. Snapshots that differ in where they end share one list."""
        runs = tuple(
            (kind, *self._in_bounds(start, stop, *self._source(kind)[1:])) for kind, start, stop in runs
        )
        kind, start, stop = runs[-1]
        key = (*runs[:-1], (kind, start, -1))
        if key not in self._mixed:
            self._mixed[key] = [exchange for run in runs[:-1] for exchange in self._run(*run)]
        gathered = self._mixed[key]
        before = sum(last - first for _, first, last in runs[:-1])
        gathered += self._run(kind, start, stop)[len(gathered) - before :]
        return gathered, before + stop - start

    def _source(self, kind: int) -> tuple[list[Exchange], int, int]:
        source, base = (self.log.exchanges, self.log.base) if kind == 0 else (self.past, 0)
        return source, base, len(source)

    def _run(self, kind: int, start: int, stop: int) -> list[Exchange]:
        source, base, _ = self._source(kind)
        return source[start - base : stop - base]

    def _in_bounds(self, start: int, stop: int, base: int, count: int) -> tuple[int, int]:
        if self.partial and start < base:
            self.cut = True
            start, stop = base, max(base, stop)
        if not base <= start <= stop <= base + count:
            raise FormatError(f"a snapshot refers to turns {start} to {stop}, which the file does not hold")
        return start, stop

    def call(self, wire: Mapping[str, Any]) -> Call:
        return Call(
            path=wire.get("path"),
            inputs=self._decoder.fields(wire.get("inputs") or {}, "call"),
            outputs=self._decoder.fields(wire.get("outputs") or {}, "call"),
            history=None if wire.get("snapshot") is None else self.view(wire["snapshot"]),
            predictor=wire.get("predictor", ""),
        )


_FACTS: dict[str, tuple[type, ...]] = {
    "index": (int,),
    "id": (str,),
    "created": (int, float),
    "model": (str,),
    "replaces": (str,),
    "feedback": (str,),
    "exact": (bool,),
}


def _check_facts(wire: Mapping[str, Any], place: str) -> None:
    for name, kinds in _FACTS.items():
        value = wire.get(name)
        if value is not None and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            raise FormatError(f"{place}: {name} is a {type(value).__name__}")
    usage = wire.get("usage")
    for value in usage.values() if usage is not None else ():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise FormatError(f"{place}: usage holds a {type(value).__name__}")


def _projection(wire: Mapping[str, Any]) -> Projection:
    inputs = wire.get("inputs")
    return Projection(
        exclude=frozenset(wire["exclude"]),
        inputs=None if inputs is None else frozenset(inputs),
        extras=frozenset(wire.get("extras", ())),
    )


def _reviver(annotations: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    """Plain values of early files get the types that the program's signature declares."""

    def revive(name: str, value: Any) -> Any:
        annotation = annotations.get(name)
        if annotation is None or annotation is str or isinstance(annotation, str):
            return value
        try:
            return pydantic.TypeAdapter(annotation).validate_python(value)
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
    memory = wire.get("l2_memory") or ""
    if not isinstance(memory, str):
        raise FormatError(f"the {WHAT} is damaged: l2_memory is no text")
    state = SessionState(l2_memory=memory, node_states=nodes)
    reader = LogReader(decoder, wire, input_names)
    initial = wire.get("initial_history")
    state._head = reader.messages(initial or ())
    state._has_initial = initial is not None
    if wire.get("conversation"):
        state.conversation_id = wire["conversation"]
    turns = wire.get("turns", [])
    records = [reader.record(turn, revive) for turn in turns]
    _check_order(records)
    position = Position.of(records)
    reader.log = position.log
    state.move(position)
    episodes = {
        path: [_episode(state, reader, episode) for episode in known]
        for path, known in (wire.get("episodes") or {}).items()
    }
    for record, turn in zip(records, turns, strict=True):
        _complete(record, turn, reader, state, episodes)
        if turn.get("score") is not None or turn.get("feedback") is not None:
            state.set_note(record.id, Note(turn.get("score"), turn.get("feedback")))
        if turn.get("early"):
            record.view = _early_view(turn, reader, state, record, projection, rebuild)
    state.summaries = summaries_of(wire.get("summaries", ()))
    state.branches = [_branch(state, reader, own) for own in wire.get("branches", ())]
    for branch, own_nodes in zip(state.branches, wire.get("branch_nodes", ()), strict=False):
        branch.nodes = {
            path: _branch_node(state.node(path), reader, node) for path, node in own_nodes.items()
        }
    state.pending = [_episode(state, reader, episode) for episode in wire.get("pending", ())]
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


def _check_order(records: Sequence[TurnRecord]) -> None:
    for before, after in pairwise(records):
        if after.index != before.index + 1:
            raise FormatError(f"turn {before.index} is followed by turn {after.index}: turns are missing")
    if len({record.id for record in records}) != len(records):
        raise FormatError("two turns have the same id")


def _node_mark(
    state: SessionState, path: str, wire: Mapping[str, Any], episodes: Sequence[Episode]
) -> NodeMark:
    whole = state.node(path).position
    # What the node has let go of since is not in the file.
    start, before, after = (
        min(max(wire[at], whole.start), whole.stop) for at in ("start", "before", "after")
    )
    position = replace(whole, start=start, stop=before)
    first, last = wire.get("pending") or (0, 0)
    pending = tuple(episodes[first:last]) if "pending" in wire else None
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


def _branch(state: SessionState, reader: LogReader, own: Sequence[Mapping[str, Any]]) -> Branch:
    notes: dict[str, Note] = {}
    records = state.position.records()
    if own:
        records = [record for record in records if record.index < own[0]["index"]]
    for turn in own:
        record = reader.record(turn, None)
        _complete(record, turn, reader, state)
        notes[record.id] = Note(turn.get("score"), turn.get("feedback"))
        records.append(record)
    _check_order(records)
    return Branch(Position.of(records), notes)


def _branch_nodes(state: SessionState, branch: Branch, writer: LogWriter) -> dict[str, Any]:
    """What the nodes had after an answer that was replaced; turns that they still have are not repeated."""
    wire = {}
    for path, node in branch.nodes.items():
        kept = {record.id for record in state.node(path).position.records()}
        own = [record for record in node.position.records() if record.id not in kept]
        wire[path] = {
            "stop": own[0].index if own else node.position.stop,
            "turns": [
                {"id": record.id, "index": record.index, **writer.exchange(record.exchange, f"node {path}")}
                for record in own
            ],
            "memory": node.l2_memory,
        }
    return wire


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


def _episode(state: SessionState, reader: LogReader, wire: Mapping[str, Any]) -> Episode:
    records = [reader.record(turn, None) for turn in wire["turns"]]
    for record, turn in zip(records, wire["turns"], strict=True):
        _complete(record, turn, reader, state)
    return Episode(wire["turn"], tuple(records))
