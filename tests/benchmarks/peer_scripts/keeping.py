"""One conversation of about 1 KB a turn, kept by a library in SQLite.

    keeping.py ours|normal|agents|langgraph|graph

`ours` and the others are as they come; `normal` is this library with `synchronous=normal`; `graph` is LangGraph
without a database, since running its graph is part of a turn there.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from answering import answer, seconds_of

QUESTION, ANSWER = "q" * 512, "a" * 512


class Ours:
    """This library's SQLite store."""

    def __init__(self, path: Path, options: str = "") -> None:
        from dspy_session.stores import open_store

        self.store = open_store(f"sqlite:///{path}{options}")
        self.revision = self.store.create("k", {})
        self.number = 0

    def documents(self, turns: int) -> list[dict[str, str]]:
        self.number += turns
        return [
            {"id": f"turn-{self.number - place}", "question": QUESTION, "answer": ANSWER}
            for place in range(turns)
        ]

    def fill(self, turns: int) -> None:
        self.revision = self.store.append("k", self.documents(turns), expected=self.revision)

    def append(self) -> None:
        self.fill(1)

    def load(self, last: int | None) -> int:
        return len(self.store.load("k", last=last).turns)


class Agents:
    """OpenAI Agents' `SQLiteSession`."""

    def __init__(self, path: Path) -> None:
        from agents import SQLiteSession

        self.session = SQLiteSession("k", path)
        self.loop = asyncio.new_event_loop()

    def fill(self, turns: int) -> None:
        user, assistant = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
        self.loop.run_until_complete(self.session.add_items([user, assistant] * turns))  # type: ignore[list-item]

    def append(self) -> None:
        self.fill(1)

    def load(self, last: int | None) -> int:
        limit = None if last is None else last * 2
        return len(self.loop.run_until_complete(self.session.get_items(limit=limit))) // 2


class LangGraph:
    """A graph of one node with a saver."""

    def __init__(self, path: Path | None) -> None:
        from langgraph.checkpoint.memory import InMemorySaver
        from langgraph.checkpoint.sqlite import SqliteSaver
        from langgraph.graph import START, StateGraph
        from langgraph.graph.message import add_messages

        class State(TypedDict):
            messages: Annotated[list[Any], add_messages]

        # The annotations are looked up among the names of the module.
        globals().update(add_messages=add_messages)
        graph = StateGraph(State)
        graph.add_node("answer", lambda state: {"messages": [("assistant", ANSWER)]})
        graph.add_edge(START, "answer")
        saver = SqliteSaver(sqlite3.connect(path, check_same_thread=False)) if path else InMemorySaver()
        self.app = graph.compile(checkpointer=saver)
        self.thread: Any = {"configurable": {"thread_id": "k"}}

    def fill(self, turns: int) -> None:
        messages = [("user", QUESTION), ("assistant", ANSWER)] * turns
        self.app.update_state(self.thread, {"messages": messages}, as_node="answer")

    def append(self) -> None:
        self.app.invoke({"messages": [("user", QUESTION)]}, self.thread)

    def load(self, last: int | None) -> int | None:
        return len(self.app.get_state(self.thread).values["messages"]) // 2 if last is None else None


KINDS: dict[str, Callable[[Path], Any]] = {
    "ours": Ours,
    "normal": lambda path: Ours(path, "?synchronous=normal"),
    "agents": Agents,
    "langgraph": LangGraph,
    "graph": lambda path: LangGraph(None),
}
FOLDER = tempfile.TemporaryDirectory()


class Kept:
    """A conversation in a database of its own.

    Attributes:
        room: how many turns may still be added: a tenth, and at least ten.
    """

    count = 0

    def __init__(self, turns: int) -> None:
        Kept.count += 1
        self.path = Path(FOLDER.name) / f"{Kept.count}.db"
        self.library = KINDS[sys.argv[1]](self.path)
        self.library.fill(turns)
        self.room = max(turns // 10, 10)


kept: dict[int, Kept] = {}


def conversation(turns: int, more: int = 0) -> Kept:
    """A conversation of that length, give or take a tenth, which a few turns may be added to."""
    if turns not in kept or kept[turns].room < more:
        kept[turns] = Kept(turns)
    kept[turns].room -= more
    return kept[turns]


def append(turns: int, times: int) -> list[float]:
    """The seconds of turns that are added to a conversation of that length."""
    return seconds_of(times, conversation(turns, times).library.append)


def load(turns: int, times: int, last: int | None) -> list[float] | None:
    """The seconds of loading it, whole or the newest turns; None if that cannot be asked for."""
    made = conversation(turns).library
    if (found := made.load(last)) is None:
        return None
    if found < (last or turns):
        raise RuntimeError(f"{found} of {last or turns} turns were found")
    return seconds_of(times, lambda: made.load(last))


def written(turns: int, times: int) -> float | None:
    """The bytes by which the database grows with each turn; None without a database."""
    made = Kept(turns)
    if not made.path.exists():
        return None
    before = size_of(made.path)
    for _ in range(times):
        made.library.append()
    return (size_of(made.path) - before) / times


def size_of(path: Path) -> int:
    """The bytes of the database, its log written into it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path.stat().st_size


if __name__ == "__main__":
    answer({"append": append, "load": load, "written": written})
