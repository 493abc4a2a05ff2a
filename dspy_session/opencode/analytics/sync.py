"""Keeping a warehouse in step with a history: sessions that changed are read again, whole."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspy_session.opencode.analytics._batches import Batch, Job
from dspy_session.opencode.analytics._statements import statement
from dspy_session.opencode.analytics._workers import read
from dspy_session.opencode.analytics.tables import FORM, TABLES
from dspy_session.opencode.history import History, Listed, open_source
from dspy_session.opencode.sources.base import UNKNOWN, Fingerprint, Skip, heard

if TYPE_CHECKING:
    from dspy_session.opencode.analytics.warehouse import Warehouse

Progress = Callable[[int, int], None]
"""Called with the sessions that are done and those that are to be read."""

_log = logging.getLogger("dspy_session.opencode.analytics")
_MOMENT = 50
"""Milliseconds within which two changes may bear one time."""


@dataclass(frozen=True)
class SyncReport:
    """What a sync did.

    Attributes:
        seen: the sessions of the history.
        read: those that were new or had changed, and were read.
        unchanged: those that were not read.
        failed: those that could not be read; what the warehouse held of them stays.
        missing: sessions that the warehouse has from these places and that are there no more. They are kept:
            OpenCode's history may be cleared, what it cost was spent.
        rows: the rows that were written, by table.
        reasoning: the reasoning parts among them.
        skipped: what could not be read.
        seconds: how long it took.
    """

    seen: int = 0
    read: int = 0
    unchanged: int = 0
    failed: int = 0
    missing: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    reasoning: int = 0
    skipped: tuple[Skip, ...] = ()
    seconds: float = 0.0

    @property
    def loaded(self) -> str:
        """What was loaded, in one line."""
        events, patches = (self.rows.get(name, 0) for name in ("step_events", "patches"))
        return f"Loaded {events} step_events, {patches} patches, {self.reasoning} reasoning parts"

    def __str__(self) -> str:
        told = [f"{self.seen} sessions: {self.read} read, {self.unchanged} unchanged"]
        told += [f"{self.failed} failed"] if self.failed else []
        told += [f"{self.missing} no longer there, kept"] if self.missing else []
        left_out = f"; {len(self.skipped)} skipped" if self.skipped else ""
        return f"{', '.join(told)}. {self.loaded}{left_out}; {self.seconds:.1f} s"


def sync(
    warehouse: Warehouse,
    history: History | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SyncReport:
    """Bring a warehouse up to date: see `Warehouse.sync`."""
    if isinstance(history, History):
        with warehouse:
            return _Sync(warehouse, history, progress).run([])
    with heard() as damaged:
        opened = open_source(history)
    with opened, warehouse:
        return _Sync(warehouse, opened, progress).run(damaged)


class _Sync:
    """One run."""

    def __init__(self, warehouse: Warehouse, history: History, progress: Progress | None) -> None:
        self.warehouse = warehouse
        self.history = history
        self.progress = progress or (lambda done, total: None)
        self.started = time.perf_counter()
        self.looked = time.time_ns() // 1_000_000
        self.name = " ".join(sorted(map(repr, history.sources)))
        self.rows = dict.fromkeys((table.name for table in TABLES), 0)
        self.reasoning = 0
        self.failed = 0
        self.skipped: list[Skip] = []

    def run(self, damaged: list[Skip]) -> SyncReport:
        """Sync. `damaged`: what could not be read when the history was opened."""
        look = self.history.fingerprint()
        seen = self.unchanged(look)
        if seen is not None:
            return SyncReport(seen, unchanged=seen, rows=self.rows, seconds=self.seconds)
        with heard() as found:
            listed = self.history.listed()
        damaged = list(dict.fromkeys([*damaged, *found]))
        known = {row["session_id"]: row for row in self.warehouse.query(statement("known"))}
        jobs = [self.job(each) for each in listed if self.changed(each, known.get(each.record.id))]
        self.read(jobs)
        self.warehouse.settle(
            self.look_row(look, len(listed)), damaged, [str(s.path) for s in self.history.sources]
        )
        report = SyncReport(
            seen=len(listed),
            read=len(jobs) - self.failed,
            unchanged=len(listed) - len(jobs),
            failed=self.failed,
            missing=self.missing({each.record.id for each in listed}, known),
            rows=self.rows,
            reasoning=self.reasoning,
            skipped=tuple(dict.fromkeys([*damaged, *self.skipped])),
            seconds=self.seconds,
        )
        _log.info("%s", report.loaded)
        return report

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.started

    # -- what changed --

    def unchanged(self, look: Fingerprint | None) -> int | None:
        """The sessions of the history, if it is as it was at the last sync; else None."""
        if look is None:
            return None
        found = self.warehouse.query(statement("last_look"), {"history": self.name, "form": FORM})
        same = bool(found) and found[0]["fingerprint"] == look.value
        return found[0]["sessions"] if same else None

    def changed(self, listed: Listed, known: Mapping[str, Any] | None) -> bool:
        """True if the session is to be read: it is new, it changed, or a better place has it now."""
        if known is None or known["form"] != FORM:
            return True
        if known["source"] != repr(listed.source):
            return self.standing(listed) > (known["rank"], known["updated"], known["changed"])
        return not known["fingerprint"] or known["fingerprint"] != listed.fingerprint.value

    def standing(self, listed: Listed) -> tuple[int, int, int]:
        return listed.rank, listed.record.updated, listed.fingerprint.newest

    def missing(self, listed: set[str], known: Mapping[str, Mapping[str, Any]]) -> int:
        places = set(map(repr, self.history.sources))
        return sum(row["source"] in places and name not in listed for name, row in known.items())

    def remembered(self, found: Fingerprint) -> str:
        """What to compare with next time; nothing if the change may not be over yet."""
        settled = not self.looked - _MOMENT <= found.newest <= self.looked + _MOMENT
        return found.value if settled and found is not UNKNOWN else ""

    # -- what is written --

    def job(self, listed: Listed) -> Job:
        rank, updated, newest = self.standing(listed)
        value = self.remembered(listed.fingerprint)
        row = listed.record.id, repr(listed.source), rank, updated, newest, value, FORM, self.looked
        return Job(listed.record, row)

    def read(self, jobs: list[Job]) -> None:
        done = 0
        self.progress(done, len(jobs))
        for batch in read(jobs):
            self.skipped += self.warehouse.put(batch)
            self.count(batch)
            done += len(batch.read) + len(batch.failed)
            self.progress(done, len(jobs))
        if jobs:
            self.warehouse.name_fork_sources()

    def count(self, batch: Batch) -> None:
        for name in self.rows:
            self.rows[name] += batch.count(name)
        self.reasoning += batch.reasoning
        self.failed += len(batch.failed)

    def look_row(self, look: Fingerprint | None, sessions: int) -> tuple[Any, ...]:
        value = "" if look is None or self.failed else self.remembered(look)
        return self.name, 0 if look is None else look.newest, value, sessions, FORM, self.looked
