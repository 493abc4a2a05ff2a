"""How fast a large history is put into a warehouse and asked: 5,000 sessions, about 280,000 parts, 440 MB.

    OPENCODE_BINARY=opencode python tests/benchmarks/opencode_analytics.py [--sessions 5000] [--database PATH]

Measured side by side in one run, in wall time, each the best of three:
- stats: `opencode stats --models` over a copy of the database, if `OPENCODE_BINARY` names a program;
- first sync: into a new file;
- second sync: nothing has changed; grown: one session has;
- each report, from the file, with what opening it costs.
The promises, each as a ratio to stats: the first sync at most 2, each report at most 1/20.
"""

from __future__ import annotations

import argparse
import inspect
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import opencode_read

from dspy_session.opencode.analytics.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]
FIRST_SYNC = 2.0
REPORT = 1 / 20
TIMES = 3
RECORDING = ROOT / "tests" / "opencode" / "recordings" / "v1.18.33.db"
Timed = dict[str, float]


def generate(path: Path, sessions: int) -> None:
    """A year's work in the tables of a real release: a recording of one, emptied and filled again.

    The program refuses a database that it did not make itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.db"
        opencode_read.generate(bare, sessions)
        shutil.copyfile(RECORDING, path)
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("ATTACH ? AS bare", (str(bare),))
        db.execute("BEGIN")
        for table in ("part", "message", "session", "todo", "project", "event", "event_sequence"):
            db.execute(f"DELETE FROM main.{table}")
        for table in ("project", "session", "message", "part"):
            fill(db, table)
        db.execute("COMMIT")
        db.execute("DETACH bare")
        db.execute("VACUUM")
        db.close()


def fill(db: sqlite3.Connection, table: str) -> None:
    """Copy the columns that both have; times that only the real table has are those of the session's start."""
    ours, theirs = (
        [row[1] for row in db.execute(f"PRAGMA {schema}.table_info({table})")] for schema in ("main", "bare")
    )
    values = {name: name for name in ours if name in theirs}
    created = "time_created" if "time_created" in theirs else str(opencode_read.START)
    values |= {
        name: f"coalesce({values.get(name, 'NULL')}, {created})" for name in ours if name.startswith("time_u")
    }
    if "time_created" in ours:
        values.setdefault("time_created", created)
    names, taken = ", ".join(values), ", ".join(values.values())
    db.execute(f"INSERT INTO main.{table} ({names}) SELECT {taken} FROM bare.{table}")


def reports(file: Path) -> dict[str, Callable[[], Any]]:
    """Every report that can be asked for without saying more, each opening the file anew."""
    from dspy_session.opencode.analytics.reports import Reports

    asked: dict[str, Callable[[], Any]] = {}
    for name, method in inspect.getmembers(Reports, inspect.isfunction):
        needed = [
            each
            for each in inspect.signature(method).parameters.values()
            if each.default is inspect.Parameter.empty
        ]
        if not name.startswith("_") and all(each.name == "self" or each.kind in (2, 4) for each in needed):
            asked[name] = lambda name=name: getattr(Reports(Warehouse(file)), name)()
    return asked


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(works: dict[str, Callable[[], Any]], times: int = TIMES) -> Timed:
    """The least wall time of each, in seconds, taken in turns: other programs disturb all alike."""
    found: Timed = {}
    for _ in range(times):
        for name, work in works.items():
            found[name] = min(found.get(name, float("inf")), timed(work))
    return found


def stats(program: str, database: Path, home: Path) -> Callable[[], Any]:
    """`opencode stats` over a copy, as it writes to its database."""
    copy = Path(shutil.copyfile(database, home / "copy.db"))
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "OPENCODE_DB": str(copy), "TERM": "dumb"}

    def run() -> None:
        ran = subprocess.run(
            [program, "stats", "--models"], env=env, cwd=home, capture_output=True, timeout=600
        )
        if b"Total Cost" not in ran.stdout:
            raise SystemExit(f"opencode stats failed:\n{(ran.stdout + ran.stderr).decode()}")

    run()
    return run


def touch(database: Path) -> None:
    """One session goes on."""
    db = sqlite3.connect(database)
    with db:
        db.execute("UPDATE part SET time_updated = time_updated + 1 WHERE id = (SELECT max(id) FROM part)")
    db.close()


def measure(database: Path, home: Path) -> int:
    """Measure and print; the exit status tells whether the promises are kept."""
    program, file = os.environ.get("OPENCODE_BINARY"), home / "history.duckdb"

    def first() -> None:
        file.unlink(missing_ok=True)
        Warehouse(file).sync(database)

    works: dict[str, Callable[[], Any]] = {"stats": stats(program, database, home)} if program else {}
    taken = best({**works, "first sync": first})
    taken |= best({"second sync": lambda: Warehouse(file).sync(database)})
    for _ in range(TIMES):
        touch(database)
        grown = timed(lambda: Warehouse(file).sync(database))
        taken["grown"] = min(taken.get("grown", grown), grown)
    taken |= best(reports(file))
    print(
        f"{database.stat().st_size / 1e6:.0f} MB of history, {file.stat().st_size / 1e6:.0f} MB of warehouse"
    )
    kept = True
    for name, seconds in taken.items():
        most = (
            FIRST_SYNC
            if name == "first sync"
            else None
            if name in ("stats", "second sync", "grown")
            else REPORT
        )
        told = f"   {seconds / taken['stats']:.4f} of stats" if "stats" in taken else ""
        if most is not None and "stats" in taken:
            kept = kept and seconds <= most * taken["stats"]
            told += f" (at most {most:g})"
        print(f"{name:20} {seconds:8.3f} s{told}")
    peaks = [
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(f"memory: at most {peaks[0]:.0f} MB here and {peaks[1]:.0f} MB in a child, stats among them")
    if not program:
        print("OPENCODE_BINARY is not set: nothing to compare with")
    return 0 if kept else 1


def main() -> int:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument(
        "--database", type=Path, help="measure a copy of this one, generated if it is not there"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        database = home / "opencode.db"
        if arguments.database and arguments.database.exists():
            shutil.copyfile(arguments.database, database)
        else:
            generate(database, arguments.sessions)
            if arguments.database:
                shutil.copyfile(database, arguments.database)
        return measure(database, home)


if __name__ == "__main__":
    sys.exit(main())
