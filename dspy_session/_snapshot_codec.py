"""Snapshots ↔ JSON (`codec.wire`): what each call was shown, as a recipe.

Snapshots are views that share exchanges; written out they would make a file of n turns n² long. They are written as
recipes instead: which stretches of which exchanges, behind which head, through which projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspy_session._exchange import Exchange, Message, Projection
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Log, Position
from dspy_session.turns import TurnRecord

# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


class SnapshotWriter:
    """Writes the snapshots of one log's turns, and the tables that they refer to.

    Args:
        encoder: writes the values.
        records: the turns that are written beside; snapshots refer to them by their index.
        place: what errors say in front.
        line: where the turns stand, if they stand in a log.
    """

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


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


class SnapshotReader:
    """Reads the snapshots of one log's turns: `log` is what they refer to, read before them."""

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


def _projection(wire: Mapping[str, Any]) -> Projection:
    inputs = wire.get("inputs")
    return Projection(
        exclude=frozenset(wire["exclude"]),
        inputs=None if inputs is None else frozenset(inputs),
        extras=frozenset(wire.get("extras", ())),
    )
