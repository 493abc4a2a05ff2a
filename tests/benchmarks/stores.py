"""What a commit costs, beside a plain insert into the same engine, measured alternately in one run.

    python -m tests.benchmarks.stores            all that can be had here
    python -m tests.benchmarks.stores --peers    also OpenAI Agents' and LangGraph's stores, in .venv-peers

A turn is about 1 KB of JSON. Medians of 200 appends to conversations of 10, 100, 1,000 and 5,000 turns.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dspy_session.stores import Store, open_store
from tests.stores import servers

SIZES = (10, 100, 1000, 5000)
CONVERSATIONS, APPENDS = 8, 25
PEERS = ("openai-agents", "langgraph", "langgraph-checkpoint-sqlite")


def turn() -> dict[str, str]:
    return {"id": secrets.token_hex(16), "question": "q" * 460, "answer": "a" * 500}


def text_of(document: dict[str, str]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def seed(store: Store, key: str, size: int) -> str:
    """A conversation of `size` turns."""
    revision = store.create(key, {})
    for start in range(0, size, 500):
        revision = store.append(key, [turn() for _ in range(min(500, size - start))], expected=revision)
    return revision


def compare(store: Store, insert: Callable[[int, int, str], Any]) -> dict[int, tuple[float, float]]:
    """Median seconds of an append and of a plain insert, by the conversation's length."""
    places = [(size, number) for number in range(CONVERSATIONS) for size in SIZES]
    revisions = {place: seed(store, str(place), place[0]) for place in places}
    appends: dict[int, list[float]] = {size: [] for size in SIZES}
    inserts: dict[int, list[float]] = {size: [] for size in SIZES}
    # All lengths take turns, so that a slow moment of the machine falls on all of them.
    for index, place in ((index, place) for index in range(APPENDS) for place in places):
        size, number = place
        document, other, revision = turn(), turn(), revisions[place]
        seconds, revisions[place] = timed(partial(store.append, str(place), [document], expected=revision))
        appends[size].append(seconds)
        conversation = size * 100 + number
        seconds, _ = timed(lambda c=conversation, i=index, d=other: insert(c, i, text_of(d)))
        inserts[size].append(seconds)
    return {size: (statistics.median(appends[size]), statistics.median(inserts[size])) for size in SIZES}


def report(name: str, result: dict[int, tuple[float, float]]) -> None:
    print(f"\n{name}")
    print("   turns   append µs   plain insert µs   ratio")
    for size, (append, insert) in result.items():
        print(f"  {size:6d}   {append * 1e6:9.0f}   {insert * 1e6:15.0f}   {append / insert:5.2f}")
    flat = result[SIZES[-1]][0] / result[SIZES[0]][0]
    print(f"  append at {SIZES[-1]} turns against {SIZES[0]}: {flat:.2f}")


# -- the engines --------------------------------------------------------------------------------------------


@contextmanager
def plain_sqlite(path: Path, synchronous: str) -> Iterator[Callable[[int, int, str], Any]]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE turn (conversation INTEGER, idx INTEGER, data TEXT)")
    connection.execute("CREATE UNIQUE INDEX place ON turn (conversation, idx)")
    yield lambda *row: connection.execute("INSERT INTO turn VALUES (?, ?, ?)", row)
    connection.close()


def sqlite(synchronous: str) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"sqlite:///{folder}/chat.db?synchronous={synchronous}") as store,
        plain_sqlite(Path(folder) / "plain.db", synchronous) as insert,
    ):
        report(f"SQLite, synchronous={synchronous}", compare(store, insert))


def disk_and_fork() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, payload = Path(folder) / "chat.db", 0
        with open_store(f"sqlite:///{path}") as store:
            revision = store.create("k", {})
            for _ in range(5000):
                document = turn()
                payload += len(text_of(document).encode())
                revision = store.append("k", [document], expected=revision)
        size = path.stat().st_size
        print(
            f"\nSQLite, 5000 turns: {size:,} bytes on disk for {payload:,} of payload: {size / payload:.2f}"
        )
        with open_store(f"sqlite:///{path}") as store:
            before = rows_of(path)
            times = [timed(lambda n=n: store.fork("k", f"fork {n}"))[0] for n in range(100)]
            added = rows_of(path) - before
            print(f"fork at 5000 turns: {statistics.median(times) * 1e3:.3f} ms, {added / 100:g} row each")
            for last in (20, None):
                times = [timed(lambda n=last: store.load("k", last=n))[0] for _ in range(15)]
                what = "all" if last is None else f"the last {last}"
                print(f"load {what} of 5000 turns: {statistics.median(times) * 1e3:.2f} ms")


def rows_of(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        ours = [name for (name,) in tables if not name.startswith("sqlite_")]
        return sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ours)


def postgres() -> None:
    import psycopg

    server = servers.postgres()
    with open_store(server.url()) as store, psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE plain (conversation bigint, idx bigint, data text)")
        connection.execute("CREATE UNIQUE INDEX plain_place ON plain (conversation, idx)")
        sql = "INSERT INTO plain VALUES (%s::bigint, %s::bigint, %s)"
        report("PostgreSQL on loopback", compare(store, lambda *row: connection.execute(sql, row)))
        seed(store, "k", 5000)
        times = [timed(lambda n=n: store.fork("k", f"fork {n}"))[0] for n in range(50)]
        print(f"  fork at 5000 turns: {statistics.median(times) * 1e3:.2f} ms")


def redis_server() -> None:
    import redis

    server = servers.redis_server()
    client = redis.Redis.from_url(server.url())
    with open_store(server.url()) as store:
        push = lambda conversation, index, text: client.rpush(f"plain:{conversation}", text)  # noqa: E731
        report("Redis on loopback, appendfsync always", compare(store, push))
        seed(store, "k", 5000)
        times = [timed(lambda n=n: store.fork("k", f"fork {n}"))[0] for n in range(50)]
        print(f"  fork at 5000 turns: {statistics.median(times) * 1e3:.2f} ms")


# -- peers --------------------------------------------------------------------------------------------------


def peers() -> None:
    """Run `stores_peers` with an interpreter that has the other libraries."""
    root = Path(__file__).parents[2]
    folder = root / ".venv-peers"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    environment = {**os.environ, "PYTHONPATH": str(root), "OPENAI_API_KEY": "not used"}
    subprocess.run([python, "-m", "tests.benchmarks.stores_peers"], check=True, cwd=root, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="also measure other libraries' stores")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.1f}")
    sqlite("full")
    sqlite("normal")
    disk_and_fork()
    for measure in (postgres, redis_server):
        try:
            measure()
        except servers.Unavailable as error:
            print(f"\nnot measured: {error}")
    if arguments.peers:
        sys.stdout.flush()
        peers()


if __name__ == "__main__":
    main()
