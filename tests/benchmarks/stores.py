"""What a commit costs, beside a plain insert into the same engine.

A turn is about 1 KB of JSON. Each append to a conversation is followed by a plain insert of the same text into
a table (a push onto a list, in Redis) of the same server or in a file of the same settings; conversations of all
lengths take turns. Figures are medians. PostgreSQL and Redis run on loopback, Redis with `appendfsync always`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dspy_session.stores import Store, open_store
from tests.benchmarks.report import Item, Missing, Ratio, Table, Versions
from tests.benchmarks.suites import Run, alone
from tests.stores import servers

Insert = Callable[[int, int, str], Any]


def measure(run: Run) -> Iterator[Item]:
    yield Versions({"SQLite": sqlite3.sqlite_version})
    yield sqlite("full", run)
    yield sqlite("normal", run)
    yield from disk_and_fork(run.pick(5_000, 50))
    for name, engine in (("PostgreSQL", postgres), ("Redis", redis_server)):
        try:
            yield from engine(run)
        except servers.Unavailable as error:
            yield Missing(f"{name}, beside a plain insert", str(error))


def turn() -> dict[str, str]:
    return {"id": secrets.token_hex(16), "question": "q" * 460, "answer": "a" * 500}


def text_of(document: dict[str, str]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def median(works: list[Callable[[], Any]]) -> float:
    """Milliseconds of one of them."""
    return statistics.median(timed(work)[0] for work in works) * 1e3


def seed(store: Store, key: str, size: int) -> str:
    """A conversation of `size` turns."""
    revision = store.create(key, {})
    for start in range(0, size, 500):
        revision = store.append(key, [turn() for _ in range(min(500, size - start))], expected=revision)
    return revision


def compare(store: Store, insert: Insert, run: Run) -> dict[int, tuple[float, float]]:
    """Median seconds of an append and of a plain insert, by the conversation's length."""
    sizes = run.pick((10, 100, 1_000, 5_000), (10, 50))
    places = [(size, number) for number in range(run.pick(8, 2)) for size in sizes]
    revisions = {place: seed(store, str(place), place[0]) for place in places}
    appends: dict[int, list[float]] = {size: [] for size in sizes}
    inserts: dict[int, list[float]] = {size: [] for size in sizes}
    # All lengths take turns, so that a slow moment of the machine falls on all of them.
    for index, place in ((index, place) for index in range(run.pick(25, 3)) for place in places):
        size, number = place
        document, other, revision = turn(), turn(), revisions[place]
        seconds, revisions[place] = timed(partial(store.append, str(place), [document], expected=revision))
        appends[size].append(seconds)
        seconds, _ = timed(partial(insert, size * 100 + number, index, text_of(other)))
        inserts[size].append(seconds)
    return {size: (statistics.median(appends[size]), statistics.median(inserts[size])) for size in sizes}


def table(name: str, found: dict[int, tuple[float, float]]) -> Table:
    rows = [[size, append * 1e6, insert * 1e6, append / insert] for size, (append, insert) in found.items()]
    first, last = rows[0], rows[-1]
    return Table(
        f"A commit to {name}",
        ("turns|,", "append, µs|,.0f", "plain insert, µs|,.0f", "append ÷ insert|.2f"),
        rows,
        [
            f"An append at {last[0]:,} turns takes {last[1] / first[1]:.2f} times what it takes at {first[0]:,}."
        ],
        [Ratio(f"a commit to {name} at {last[0]:,} turns", "plain insert", last[3])],
    )


# -- the engines --------------------------------------------------------------------------------------------


@contextmanager
def plain_sqlite(path: Path, synchronous: str) -> Iterator[Insert]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE turn (conversation INTEGER, idx INTEGER, data TEXT)")
    connection.execute("CREATE UNIQUE INDEX place ON turn (conversation, idx)")
    yield lambda *row: connection.execute("INSERT INTO turn VALUES (?, ?, ?)", row)
    connection.close()


def sqlite(synchronous: str, run: Run) -> Table:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"sqlite:///{folder}/chat.db?synchronous={synchronous}") as store,
        plain_sqlite(Path(folder) / "plain.db", synchronous) as insert,
    ):
        return table(f"SQLite, synchronous={synchronous}", compare(store, insert, run))


def disk_and_fork(turns: int) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as folder:
        path, payload = Path(folder) / "chat.db", 0
        with open_store(f"sqlite:///{path}") as store:
            revision = store.create("k", {})
            for _ in range(turns):
                document = turn()
                payload += len(text_of(document).encode())
                revision = store.append("k", [document], expected=revision)
        size = path.stat().st_size
        yield Table(
            "What SQLite keeps on disk",
            ("turns|,", "bytes of JSON|,", "bytes on disk|,", "disk ÷ JSON|.2f"),
            [[turns, payload, size, size / payload]],
        )
        with open_store(f"sqlite:///{path}") as store:
            before = rows_of(path)
            fork = median([partial(store.fork, "k", f"fork {n}") for n in range(100)])
            added = (rows_of(path) - before) / 100
            loads = [(last, median([partial(store.load, "k", last=last)] * 15)) for last in (20, None)]
        yield Table(
            "A fork and a load from SQLite",
            ("what", "ms|.2f"),
            [
                [f"a fork, which adds {added:g} rows" if added != 1 else "a fork, which adds one row", fork],
                *(
                    [f"load {'all' if last is None else f'the last {last}'} turns", taken]
                    for last, taken in loads
                ),
            ],
            [f"The conversation has {turns:,} turns."],
        )


def rows_of(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        ours = [name for (name,) in tables if not name.startswith("sqlite_")]
        return sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ours)


def with_fork(made: Table, store: Store, turns: int) -> Table:
    """A table with what a fork takes told below it."""
    seed(store, "k", turns)
    taken = median([partial(store.fork, "k", f"fork {n}") for n in range(50)])
    made.notes.append(f"A fork of a conversation of {turns:,} turns takes {taken:.2f} ms.")
    return made


def postgres(run: Run) -> Iterator[Item]:
    server = servers.postgres()
    import psycopg

    with open_store(server.url()) as store, psycopg.connect(server.url(), autocommit=True) as connection:
        yield Versions({"PostgreSQL": str(connection.info.parameter_status("server_version"))})
        connection.execute("CREATE TABLE plain (conversation bigint, idx bigint, data text)")
        connection.execute("CREATE UNIQUE INDEX plain_place ON plain (conversation, idx)")
        sql = "INSERT INTO plain VALUES (%s::bigint, %s::bigint, %s)"
        found = compare(store, lambda *row: connection.execute(sql, row), run)
        yield with_fork(table("PostgreSQL", found), store, run.pick(5_000, 50))


def redis_server(run: Run) -> Iterator[Item]:
    server = servers.redis_server()
    import redis

    client = redis.Redis.from_url(server.url())
    yield Versions({"Redis": str(client.info("server")["redis_version"])})
    with open_store(server.url()) as store:
        push = lambda conversation, index, text: client.rpush(f"plain:{conversation}", text)  # noqa: E731
        yield with_fork(table("Redis", compare(store, push, run)), store, run.pick(5_000, 50))


if __name__ == "__main__":
    alone(measure)
