"""Sessions, a batch at a time, as Arrow tables: what is put into the warehouse in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspy_session.opencode import _arrow
from dspy_session.opencode.analytics._state import SKIPPED, SYNCED
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics.rows import SHAPES, Row, Rows, Shape, session_rows
from dspy_session.opencode.analytics.tables import PARTS, TABLES
from dspy_session.opencode.records import SessionRecord
from dspy_session.opencode.sources.base import Skip, heard

MOST_SESSIONS = 1000
MOST_PARTS = 60_000
"""A batch is full with so many sessions, or so many parts: memory stays bounded."""

STORED = (*TABLES, SYNCED, SKIPPED)
"""The tables that a batch has rows for."""

_SHAPES = {**SHAPES, **{table.name: Shape(table, table.names) for table in (SYNCED, SKIPPED)}}

ARROW = {
    "VARCHAR": "string",
    "JSON": "string",
    "BIGINT": "int64",
    "BOOLEAN": "bool",
    "DOUBLE": "double",
    "TIMESTAMP": "timestamp[ms]",
    "VARCHAR[]": "list<string>",
}


def whole(table: Table) -> Shape:
    """The shape of rows with all columns."""
    return Shape(table, table.names)


@dataclass(frozen=True)
class Job:
    """A session to be read.

    Attributes:
        record: the session; its content is not read yet.
        synced: its row of the table `synced`.
    """

    record: SessionRecord
    synced: Row

    def __reduce__(self) -> tuple[Any, ...]:
        # A record would take its content along; the one who reads it is elsewhere.
        record = self.record
        return _job, (record.info, record.load, record.origin, record.worktree, record.holds, self.synced)


def _job(*told: Any) -> Job:
    *record, synced = told
    return Job(SessionRecord(*record), synced)


@dataclass
class Batch:
    """Sessions as tables.

    Attributes:
        tables: Arrow tables by name; a table without rows is left out.
        read: the ids of the sessions in it: their old rows go.
        failed: the ids of sessions that could not be read: their old rows stay.
        reasoning: how many of its parts are reasoning.
    """

    tables: dict[str, Any] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reasoning: int = 0

    @property
    def skipped(self) -> list[Skip]:
        """What could not be read in it."""
        rows = self.tables["skipped"].to_pylist() if "skipped" in self.tables else []
        return [Skip(row["path"], row["place"], row["reason"]) for row in rows]

    def add(self, shape: Shape, rows: Sequence[Row]) -> dict[str, list[int]]:
        """Add rows of a table; gives the places of values that do not fit, by column."""
        if not rows:
            return {}
        types = {column.name: ARROW[column.type] for column in shape.table.columns}
        made, unfit = _arrow.table({name: types[name] for name in shape.columns}, rows, "analytics")
        name = shape.table.name
        self.tables[name] = _arrow.joined(self.tables[name], made) if name in self.tables else made
        return unfit

    def apart(self) -> Iterator[Batch]:
        """Each of its sessions as a batch of its own."""
        for session_id in (*self.read, *self.failed):
            own = Batch(read=[session_id]) if session_id in self.read else Batch(failed=[session_id])
            for table in STORED:
                if table.name in self.tables:
                    rows = _arrow.only(self.tables[table.name], table.session, session_id)
                    if rows.num_rows:
                        own.tables[table.name] = rows
            yield own

    def refused(self, reason: str) -> Batch:
        """What is told of its session instead of its rows."""
        batch = Batch(failed=[*self.read, *self.failed])
        origin = self.tables["sessions"].column("origin")[0].as_py() if "sessions" in self.tables else ""
        told = f"the session could not be stored: {reason}"
        batch.add(whole(SKIPPED), [(session_id, origin, None, told) for session_id in batch.failed])
        return batch

    def count(self, name: str) -> int:
        """How many rows it has for a table."""
        return self.tables[name].num_rows if name in self.tables else 0


def batches(jobs: Iterable[Job]) -> Iterator[Batch]:
    """Read sessions, in batches. What cannot be read becomes a row of `skipped`."""
    gathered, batch, parts = _none(), Batch(), 0
    for job in jobs:
        rows = _read(job)
        (batch.read if rows["synced"] else batch.failed).append(job.record.id)
        for name, found in rows.items():
            gathered[name] += found
            parts += len(found) if _SHAPES[name].table is PARTS else 0
        batch.reasoning += len(rows.get("reasoning", ()))
        if len(batch.read) + len(batch.failed) >= MOST_SESSIONS or parts >= MOST_PARTS:
            yield _finished(batch, gathered)
            gathered, batch, parts = _none(), Batch(), 0
    if batch.read or batch.failed:
        yield _finished(batch, gathered)


def _none() -> Rows:
    return {name: [] for name in _SHAPES}


def _read(job: Job) -> Rows:
    record = job.record
    with heard() as skips:
        try:
            _ = record.content
            rows = session_rows(record, skipped=len(set(skips)))
            rows["synced"] = [job.synced]
        except Exception as error:
            # Whatever is wrong with one session, the others are read.
            rows = {"synced": []}
            reason = f"the session could not be read: {type(error).__name__}: {error}"
            return {**rows, "skipped": [(record.id, record.origin, None, reason)]}
    rows["skipped"] = [(record.id, skip.path, skip.row, skip.reason) for skip in dict.fromkeys(skips)]
    return rows


def _finished(batch: Batch, gathered: Rows) -> Batch:
    left_out: Counter[str] = Counter()
    for name, shape in _SHAPES.items():
        rows, table = gathered[name], shape.table
        for column, places in batch.add(shape, rows).items():
            session = shape.columns.index(table.session)
            reason = f"a value that does not fit {table.name}.{column} was left out"
            gathered["skipped"] += [(rows[at][session], "", str(rows[at][0]), reason) for at in places]
            left_out.update(rows[at][session] for at in places)
    if left_out:
        _count_again(batch, gathered["sessions"], left_out)
    return batch


def _count_again(batch: Batch, sessions: list[Row], left_out: Counter[str]) -> None:
    """Add to what was skipped of each session the values of its rows that did not fit."""
    shape = _SHAPES["sessions"]
    session, skipped = (shape.columns.index(name) for name in (shape.table.session, "skipped"))
    rows = [(*row[:skipped], row[skipped] + left_out[row[session]], *row[skipped + 1 :]) for row in sessions]
    batch.tables.pop(shape.table.name, None)
    batch.add(shape, rows)
