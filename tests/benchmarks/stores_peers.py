"""Keeping a conversation in SQLite, beside OpenAI Agents' and LangGraph's stores.

One conversation of about 1 KB a turn, kept by this library's store, by the `SQLiteSession` of OpenAI Agents and by
LangGraph's `SqliteSaver`, each in an environment and a process of its own; they take turns. All are as they come,
and this library also with `synchronous=normal`, which may lose the last turns if the machine (not the program)
fails. A turn of LangGraph is a run of a graph of one node; what such a run takes without a database is shown, too.
Times are lower quartiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.peers import AGENTS, HERE, LANGGRAPH, OURS, columns, contest, over
from tests.benchmarks.report import Item, Ratio, Table
from tests.benchmarks.suites import Run, alone

NORMAL, SESSION, SAVER, GRAPH = (
    f"{OURS} synchronous=normal",
    "OpenAI Agents SQLiteSession",
    "LangGraph SqliteSaver",
    "LangGraph in memory",
)
CONTESTANTS = {
    OURS: (HERE, "ours"),
    NORMAL: (HERE, "normal"),
    SESSION: (AGENTS, "agents"),
    SAVER: (LANGGRAPH, "langgraph"),
    GRAPH: (LANGGRAPH, "graph"),
}
PEERS = (SESSION, SAVER)


def measure(run: Run) -> Iterator[Item]:
    lengths = run.pick((10, 100, 1_000), (10, 20))
    seconds = run.pick(5.0, 0.1)
    with contest("keeping", CONTESTANTS, others=run.peers) as stores:
        found: dict[int, dict[str, Any]]
        found = {n: stores.in_turns("append", seconds=seconds, turns=n, times=5) for n in lengths}
        yield table("A turn appended", "appending to {} turns", "µs", found)
        found = {n: stores.each("written", turns=n, times=10) for n in lengths}
        written = table(
            "What a turn adds to the file", "bytes that a turn adds to a file of {} turns", "bytes", found
        )
        written.notes.append("The mean of ten turns; files grow by pages.")
        yield written
        found = {n: stores.in_turns("load", seconds=seconds, turns=n, times=2, last=None) for n in lengths}
        yield table("The whole conversation loaded", "loading {} turns from SQLite", "µs", found)
        found = {n: stores.in_turns("load", seconds=seconds, turns=n, times=2, last=10) for n in lengths}
        newest = table("The newest 10 turns loaded", "loading the newest 10 of {} turns", "µs", found)
        newest.notes.append("LangGraph loads a checkpoint, which holds all messages.")
        yield newest
        yield from stores.report()


def table(title: str, what: str, unit: str, found: dict[int, dict[str, Any]]) -> Table:
    """A row for each length, and how each contestant's figures grow."""
    scale = 1e6 if unit == "µs" else 1
    names = list(CONTESTANTS)
    rows: list[list[Any]] = [
        [n, *(scaled(one.get(name), scale) for name in names)] for n, one in found.items()
    ]
    notes = [sentence for sentence in [growth(found)] if sentence]
    ratios = [
        Ratio(what.format(f"{n:,}"), name, share)
        for n, one in found.items()
        for name, share in over(one).items()
        if name in PEERS
    ]
    return Table(title, ["turns|,", *columns(names, unit, ",.0f")], rows, notes, ratios)


def scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def growth(found: dict[int, dict[str, Any]]) -> str:
    """How the longest conversation's figures compare with the shortest's."""
    short, long = min(found), max(found)
    grown = [
        f"{name} {found[long][name] / found[short][name]:.2f}"
        for name in CONTESTANTS
        if found[short].get(name) and found[long].get(name)
    ]
    return f"At {long:,} turns against {short:,}: {'; '.join(grown)}." if grown else ""


if __name__ == "__main__":
    alone(measure)
