"""The turns of one log ↔ JSON (`codec.wire`): what each turn holds, its calls, and the marks of its nodes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from dspy_session._marks import Episode, NodeMark
from dspy_session._snapshot_codec import SnapshotReader, SnapshotWriter
from dspy_session.codec.values import Encoder
from dspy_session.errors import FormatError
from dspy_session.history import HistoryView, Position
from dspy_session.turns import Call, Note, TurnRecord, Usage


class LogWriter(SnapshotWriter):
    """Writes one log's turns, and the episodes that marks refer to."""

    def __init__(
        self, encoder: Encoder, records: Sequence[TurnRecord], place: str, line: Position | None = None
    ) -> None:
        super().__init__(encoder, records, place, line)
        self.episodes: dict[str, list[Episode]] = {}

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
        turns = [self.bare(record, f"{self._place}an episode") for record in episode.records]
        return {"turn": episode.turn_id, "turns": turns}

    def bare(self, record: TurnRecord, place: str) -> dict[str, Any]:
        """A turn without what is known of it but its exchange."""
        return {"id": record.id, "index": record.index, **self.exchange(record.exchange, place)}

    def _call(self, call: Call, place: str) -> dict[str, Any]:
        return {
            "path": call.path,
            "predictor": call.predictor,
            "inputs": self._encoder.fields(call.inputs, f"{place}, call of {call.path}"),
            "outputs": self._encoder.fields(call.outputs, f"{place}, call of {call.path}"),
            "snapshot": None if call.history is None else self.snapshot(call.history),
            **({} if call.seconds is None else {"seconds": call.seconds}),
        }


class LogReader(SnapshotReader):
    """Reads one log's turns. Later turns' snapshots refer to earlier ones, so they are read in order."""

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

    def call(self, wire: Mapping[str, Any]) -> Call:
        _check_kinds(wire, _CALL_FACTS, "a call")
        return Call(
            path=wire.get("path"),
            inputs=self._decoder.fields(wire.get("inputs") or {}, "call"),
            outputs=self._decoder.fields(wire.get("outputs") or {}, "call"),
            history=None if wire.get("snapshot") is None else self.view(wire["snapshot"]),
            predictor=wire.get("predictor", ""),
            seconds=wire.get("seconds"),
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
_CALL_FACTS: dict[str, tuple[type, ...]] = {"path": (str,), "predictor": (str,), "seconds": (int, float)}


def _check_kinds(wire: Mapping[str, Any], facts: Mapping[str, tuple[type, ...]], place: str) -> None:
    for name, kinds in facts.items():
        value = wire.get(name)
        if value is not None and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            raise FormatError(f"{place}: {name} is a {type(value).__name__}")


def _check_facts(wire: Mapping[str, Any], place: str) -> None:
    _check_kinds(wire, _FACTS, place)
    usage = wire.get("usage")
    for value in usage.values() if usage is not None else ():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise FormatError(f"{place}: usage holds a {type(value).__name__}")


def check_order(records: Sequence[TurnRecord]) -> None:
    for before, after in pairwise(records):
        if after.index != before.index + 1:
            raise FormatError(f"turn {before.index} is followed by turn {after.index}: turns are missing")
    if len({record.id for record in records}) != len(records):
        raise FormatError("two turns have the same id")
