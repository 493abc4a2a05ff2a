"""What a whole served turn costs: lease, load, bind, call, append.

Conversations of about 1 KB a turn and a window of 20 turns. The model answers at once. Conversations of all
lengths take turns within one run, with a lease and without, beside the same call on a state in memory. Figures
are medians. PostgreSQL and Redis run on loopback, Redis with `appendfsync always`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy

from dspy_session import sessionify, windows
from dspy_session._turn_documents import head_document, turn_document
from dspy_session.stores import Store, open_store
from tests.benchmarks.peer_scripts.instant import InstantLM
from tests.benchmarks.report import Item, Missing, Ratio, Table
from tests.benchmarks.suites import Run, alone
from tests.stores import servers

QUESTION, ANSWER = "q" * 400, "a" * 400


def measure(run: Run) -> Iterator[Item]:
    dspy.configure(lm=InstantLM(), disable_history=True)
    with open_store("memory://") as store:
        yield served("the in-memory store", store, run)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"sqlite:///{Path(folder) / 'chat.db'}") as store,
    ):
        yield served("SQLite, synchronous=full", store, run)
    for name, start in (("PostgreSQL", servers.postgres), ("Redis", servers.redis_server)):
        try:
            url = start().url()
        except servers.Unavailable as error:
            yield Missing(f"a turn served from {name}", str(error))
            continue
        with open_store(url) as store:
            yield served(name, store, run)


def app() -> Any:
    return sessionify(dspy.Predict("question -> answer"), window=windows.turns(20))


def seed(store: Store, key: str, size: int) -> None:
    """A conversation of `size` turns, as calls would have written it."""
    session = app()
    for _ in range(size):
        session.add_turn({"question": QUESTION}, {"answer": ANSWER})
    state, revision = session.state, None
    records = state.position.records()
    for start in range(0, size, 250):
        documents = [turn_document(record, state.position) for record in records[start : start + 250]]
        if revision is None:
            revision = store.create(key, head_document(state, "history"), turns=documents)
        else:
            revision = store.append(key, documents, expected=revision)


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def served(name: str, store: Store, run: Run) -> Table:
    """A row for each length."""
    sizes = run.pick((10, 100, 1_000, 5_000), (10, 30))
    session, plain = app(), app()
    for _ in range(60):
        plain.add_turn({"question": QUESTION}, {"answer": ANSWER})
    for size in sizes:
        seed(store, str(size), size)
    leased: dict[int, list[float]] = {size: [] for size in sizes}
    unleased: dict[int, list[float]] = {size: [] for size in sizes}
    alone_in_memory: list[float] = []

    def turn(size: int, lease: Any) -> None:
        with session.conversation(str(size), store=store, lease=lease):
            session(question=QUESTION)

    for _ in range(run.pick(60, 5)):
        alone_in_memory.append(timed(lambda: plain(question=QUESTION)))
        for size in sizes:
            leased[size].append(timed(lambda s=size: turn(s, "wait")))
            unleased[size].append(timed(lambda s=size: turn(s, None)))
    call = statistics.median(alone_in_memory)
    rows = [[size, statistics.median(leased[size]), statistics.median(unleased[size])] for size in sizes]
    first, last = rows[0], rows[-1]
    return Table(
        f"A turn served from {name}",
        ("turns|,", "with a lease, ms|.2f", "without, ms|.2f", "the call alone, ms|.2f"),
        [[size, whole * 1e3, without * 1e3, call * 1e3] for size, whole, without in rows],
        [f"A turn at {last[0]:,} turns takes {last[1] / first[1]:.2f} times what one at {first[0]:,} does."],
        [
            Ratio(
                f"a turn served from {name} at {last[0]:,} turns", "the call alone, in memory", last[1] / call
            )
        ],
    )


if __name__ == "__main__":
    alone(measure)
