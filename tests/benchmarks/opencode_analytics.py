"""How fast OpenCode's history is put into a warehouse and asked, beside `opencode stats`.

A database like that of months of work, generated: sessions of about 9 messages and 55 parts. All is wall time.

- The first sync writes a new file, the second finds nothing new, and then one session has grown by a part. At most
  twice the time of `opencode stats` is promised for the first.
- Each report is asked of the synced file, which is opened for it anew. At most a twentieth of the time of
  `opencode stats` is promised for each.

Syncs and reports run in a Python that has the library loaded; `opencode stats` is a program from its start to its
end, on tables that it made itself.
"""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dspy_session.opencode.analytics import Report, Reports, SyncReport, Warehouse
from tests.benchmarks.opencode_read import STATS, WORDS, beside_stats, generate, verdict
from tests.benchmarks.report import Item, Ratio, Table
from tests.benchmarks.suites import Run, alone
from tests.benchmarks.timing import Work, in_turns, timed

MOST_SYNC = 2.0
MOST_REPORT = 1 / 20
FIRST, SECOND, GROWN = "first sync", "second sync", "sync after one session grew"
ARGUMENTS: dict[str, tuple[Any, ...]] = {"unused_skills": (WORDS,)}
OTHER = {"ask", "rlm"}  # No report, and no report on the warehouse.


def measure(run: Run) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as folder:
        path, file = Path(folder) / "opencode.db", Path(folder) / "history.duckdb"
        generate(path, run.pick(5_000, 20))
        with beside_stats(path) as (stats, about):
            yield about
            for part in (syncing, asking):
                yield part(path, file, stats, run.pick(3, 1))


def beside(found: Mapping[str, float], name: str) -> float | None:
    """What something takes, divided by what `opencode stats` does, if that was measured."""
    return found[name] / found[STATS] if STATS in found else None


# ── syncs ───────────────────────────────────────────────────────────────────────────────────────────────


def syncing(path: Path, file: Path, stats: Mapping[str, Work], times: int) -> Table:
    """Each round begins with no file."""
    sessions = sync(path, file).seen
    works = {
        **stats,
        FIRST: timed(lambda: sync(path, file, sessions), file.unlink),
        SECOND: timed(lambda: sync(path, file, 0)),
        GROWN: timed(lambda: sync(path, file, 1), lambda: grow(path)),
    }
    found = in_turns(works, seconds=0.0, least=times, warm=0)
    shares = {name: beside(found, name) for name in (STATS, FIRST, SECOND, GROWN) if name in found}
    sizes = (
        f"{path.stat().st_size / 1e6:,.0f} MB of history, {file.stat().st_size / 1e6:,.0f} MB of warehouse"
    )
    notes = [f"{sessions:,} sessions: {sizes}."]
    first = shares[FIRST]
    if first is not None:
        notes.append(
            f"The first sync takes {first:.2f} times what `{STATS}` does, which {verdict(first, MOST_SYNC)}."
        )
    return Table(
        "Syncing a warehouse",
        ("what", "seconds|.3f", f"÷ `{STATS}`|.4f"),
        [[name, found[name], share] for name, share in shares.items()],
        notes,
        [Ratio(f"warehouse: {name}", STATS, s) for name, s in shares.items() if s and name != STATS],
    )


def sync(path: Path, file: Path, expected: int | None = None) -> SyncReport:
    """Sync as many sessions as are expected.

    Raises:
        ValueError: it read more or fewer.
    """
    report = Warehouse(file).sync(path)
    if expected is not None and report.read != expected:
        raise ValueError(f"the sync was to read {expected} sessions: {report}")
    return report


def grow(path: Path) -> None:
    """The newest session goes on: it has a part more."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "insert into part select id || 'a', message_id, session_id, time_created, time_updated, data "
            "from part order by rowid desc limit 1"
        )


# ── reports ─────────────────────────────────────────────────────────────────────────────────────────────


def asking(path: Path, file: Path, stats: Mapping[str, Work], times: int) -> Table:
    """Every report, the slowest first."""
    sync(path, file)
    asked = reports(file)
    rows = {name: len(ask()) for name, ask in asked.items()}
    found = in_turns(
        {**stats, **{name: timed(ask) for name, ask in asked.items()}}, seconds=0.0, least=times, warm=0
    )
    slowest = sorted(asked, key=lambda name: -found[name])
    shares = {name: share for name in slowest if (share := beside(found, name)) is not None}
    return Table(
        "Reports from a synced warehouse",
        ("report", "rows|,", "ms|,.1f", f"÷ `{STATS}`|.4f"),
        [[f"`{name}`", rows[name], found[name] * 1e3, shares.get(name)] for name in slowest],
        [f"`{STATS}` took {found[STATS]:.2f} s meanwhile. {told(shares)}"] if shares else [],
        [
            Ratio(f"warehouse: {what}, `{name}`", STATS, shares[name])
            for what, name in (("the same figures", "overview"), ("the slowest report", slowest[0]))
            if shares
        ],
    )


def reports(file: Path) -> dict[str, Callable[[], Report[Any]]]:
    """Every report that asks the warehouse; each opens the file anew."""
    names = [name for name, _ in inspect.getmembers(Reports, inspect.isfunction) if not name.startswith("_")]
    return {name: partial(asked_anew, file, name) for name in names if name not in OTHER}


def asked_anew(file: Path, name: str) -> Report[Any]:
    report: Report[Any] = getattr(Reports(Warehouse(file)), name)(*ARGUMENTS.get(name, ()))
    return report


def told(shares: Mapping[str, float]) -> str:
    """Which reports keep the promise."""
    late = [f"`{name}` ({share:.3f})" for name, share in shares.items() if share > MOST_REPORT]
    promise = f"the promise of {MOST_REPORT:g}"
    if not late:
        return f"Each of the {len(shares)} reports keeps {promise}."
    return f"Of {len(shares)} reports, {len(late)} miss {promise}: {', '.join(late)}."


if __name__ == "__main__":
    alone(measure)
