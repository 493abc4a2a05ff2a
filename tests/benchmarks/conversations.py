"""What a whole served turn costs: lease, load, bind, call, append; at any length of the conversation.

    python -m tests.benchmarks.conversations            all stores that can be had here
    python -m tests.benchmarks.conversations --quick    fewer repetitions

The model answers at once. Conversations of 10, 100, 1,000 and 5,000 turns of about 1 KB, a window of 20
turns, measured in turns within one run, beside the same call on a state in memory. Trust the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy

from dspy_session import sessionify, windows
from dspy_session._turn_documents import head_document, turn_document
from dspy_session.stores import Store, open_store
from dspy_session.testing.lm import ScriptedLM
from tests.stores import servers

SIZES = (10, 100, 1000, 5000)
QUESTION, ANSWER = "q" * 400, "a" * 400


class Instant(ScriptedLM):
    """Answers at once and keeps nothing."""

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        self.requests.clear()
        self.history.clear()
        return self._answer([messages[-1]], {})


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


def measure(name: str, store: Store, repetitions: int) -> None:
    session, plain = app(), app()
    for _ in range(60):
        plain.add_turn({"question": QUESTION}, {"answer": ANSWER})
    for size in SIZES:
        seed(store, str(size), size)
    served: dict[int, list[float]] = {size: [] for size in SIZES}
    unleased: dict[int, list[float]] = {size: [] for size in SIZES}
    bare: list[float] = []

    def turn(size: int, lease: Any) -> None:
        with session.conversation(str(size), store=store, lease=lease):
            session(question=QUESTION)

    for _ in range(repetitions):
        bare.append(timed(lambda: plain(question=QUESTION)))
        for size in SIZES:
            served[size].append(timed(lambda s=size: turn(s, "wait")))
            unleased[size].append(timed(lambda s=size: turn(s, None)))
    print(f"\n{name}; the call alone, on a state in memory: {statistics.median(bare) * 1e3:.2f} ms")
    print("   turns   whole turn ms   without a lease ms")
    for size in SIZES:
        whole, without = statistics.median(served[size]), statistics.median(unleased[size])
        print(f"  {size:6d}   {whole * 1e3:13.2f}   {without * 1e3:18.2f}")
    ratio = statistics.median(served[SIZES[-1]]) / statistics.median(served[SIZES[0]])
    print(f"  a turn at {SIZES[-1]} turns against one at {SIZES[0]}: {ratio:.2f}")
    size = SIZES[-1]
    last = store.load(str(size), last=1).turns[0].data
    print(f"  one stored turn at {size} turns: {len(str(last)):,} characters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repetitions = 15 if parser.parse_args().quick else 60
    print(f"Python {sys.version.split()[0]}, DSPy {dspy.__version__}, load {os.getloadavg()[0]:.1f}")
    dspy.configure(lm=Instant())
    with open_store("memory://") as store:
        measure("in memory", store, repetitions)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"sqlite:///{Path(folder) / 'chat.db'}") as store,
    ):
        measure("SQLite, synchronous=full", store, repetitions)
    for name, start in (
        ("PostgreSQL", servers.postgres),
        ("Redis, appendfsync always", servers.redis_server),
    ):
        try:
            url = start().url()
        except servers.Unavailable as error:
            print(f"\n{name}: not measured: {error}")
            continue
        with open_store(url) as store:
            measure(f"{name} on loopback", store, repetitions)


if __name__ == "__main__":
    main()
