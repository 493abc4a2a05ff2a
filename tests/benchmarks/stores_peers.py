"""Other libraries' stores beside ours, one turn at a time in turns; started by `stores --peers`."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from agents import SQLiteSession
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from dspy_session.stores import open_store

TURNS = 300
MARKS = (10, 100, 300)


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def ours(path: Path) -> Callable[[int], None]:
    store = open_store(f"sqlite:///{path}?synchronous=normal")
    revision = [store.create("k", {})]

    def add(number: int) -> None:
        document = {"id": f"turn-{number}", "question": "q" * 512, "answer": "a" * 512}
        revision[0] = store.append("k", [document], expected=revision[0])

    return add


def agents(path: Path) -> Callable[[int], None]:
    session = SQLiteSession("k", path)
    loop = asyncio.new_event_loop()

    def add(number: int) -> None:
        items: list[Any] = [
            {"role": "user", "content": "q" * 512},
            {"role": "assistant", "content": "a" * 512},
        ]
        loop.run_until_complete(session.add_items(items))

    return add


def langgraph(path: Path) -> Callable[[int], None]:
    graph = StateGraph(State)
    graph.add_node("answer", lambda state: {"messages": [("assistant", "a" * 512)]})
    graph.add_edge(START, "answer")
    app = graph.compile(checkpointer=SqliteSaver(sqlite3.connect(path, check_same_thread=False)))

    def add(number: int) -> None:
        app.invoke({"messages": [("user", "q" * 512)]}, {"configurable": {"thread_id": "k"}})

    return add


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def main() -> None:
    stores = {
        "dspy-session": ours,
        f"OpenAI Agents {version('openai-agents')} SQLiteSession": agents,
        f"LangGraph {version('langgraph')} SqliteSaver": langgraph,
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place}.db" for place in range(len(stores))]
        adders = [begin(path) for begin, path in zip(stores.values(), paths, strict=True)]
        times: list[list[float]] = [[] for _ in stores]
        for number in range(TURNS):
            for place, add in enumerate(adders):
                begun = time.perf_counter()
                add(number)
                times[place].append(time.perf_counter() - begun)
        print(f"\nOne turn of 1 KB, in ms, SQLite with synchronous=normal for ours; disk after {TURNS} turns")
        for name, taken, path in zip(stores, times, paths, strict=True):
            marks = "  ".join(
                f"@{n}: {statistics.median(taken[max(0, n - 20) : n]) * 1e3:8.3f}" for n in MARKS
            )
            ratio = statistics.median(taken[-20:]) / statistics.median(times[0][-20:])
            print(f"  {name:42s} {marks}   {ratio:8.1f}x   {size_of(path) / 1e6:8.2f} MB")


if __name__ == "__main__":
    main()
