"""Conversations to sync, and what a warehouse holds of them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
from opencode_layouts import Conversation

from dspy_session.opencode.analytics.tables import TABLES
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.sources.base import Source

START = 1_795_000_000_000
TOKENS = {"total": 165, "input": 100, "output": 20, "reasoning": 5, "cache": {"read": 30, "write": 10}}
PATCHED = {"type": "patch", "hash": "4b825dc6", "files": ["/work/shelf.py"]}


def conversation(
    session: str = "ses_1", turns: int = 1, *, at: int = START, project: str = "p1", **info: Any
) -> Conversation:
    """A session in which each turn thinks, reads a file and answers."""
    head = {"id": session, "slug": "s", "projectID": project, "directory": "/work", "title": session}
    head |= {"version": "1.18.33", "time": {"created": at, "updated": at + 1000 * turns}, **info}
    made: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for turn in range(turns):
        made += exchange(session, turn, at + 1000 * turn)
    return Conversation(head, made)


def exchange(session: str, turn: int, at: int) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A prompt and its reply."""
    user, reply = f"{session}_{turn:03d}a", f"{session}_{turn:03d}b"
    head: dict[str, Any] = {"id": reply, "sessionID": session, "role": "assistant", "parentID": user}
    head |= {"agent": "build", "mode": "build", "cost": 0.25, "tokens": TOKENS, "finish": "stop"}
    head |= {"modelID": "large", "providerID": "lab", "time": {"created": at + 2, "completed": at + 9}}
    state = {"status": "completed", "input": {"filePath": "/work/shelf.py"}, "output": "class Shelf: ..."}
    state |= {"title": "shelf.py", "metadata": {}, "time": {"start": at + 4, "end": at + 6}}
    parts: list[dict[str, Any]] = [
        {"type": "step-start", "snapshot": "ab63dc"},
        {"type": "reasoning", "text": "Which shelf?", "time": {"start": at + 3, "end": at + 4}},
        {"type": "tool", "tool": "read", "callID": f"call_{reply}", "state": state},
        {"type": "text", "text": "It is a shelf.", "time": {"start": at + 6, "end": at + 8}},
        {"type": "step-finish", "reason": "stop", "cost": 0.25, "tokens": TOKENS},
        PATCHED,
    ]
    prompt = {"id": user, "sessionID": session, "role": "user", "time": {"created": at + 1}, "agent": "build"}
    asked = [{"type": "text", "text": f"What is shelf {turn}?"}]
    return [(prompt, numbered(user, session, asked)), (head, numbered(reply, session, parts))]


def numbered(message: str, session: str, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = {"sessionID": session, "messageID": message}
    return [{**part, "id": f"{message}_p{place:03d}", **ids} for place, part in enumerate(parts)]


def written(path: Path, *conversations: Conversation) -> Path:
    """A database with these conversations, in place of the one that was there."""
    path.unlink(missing_ok=True)
    layouts.database(path, *conversations)
    return path


def add(path: Path, *conversations: Conversation) -> None:
    """More conversations, or more of those that are there."""
    with connected(path) as db:
        for each in conversations:
            for table, column in (("part", "session_id"), ("message", "session_id"), ("session", "id")):
                db.execute(f"delete from {table} where {column} = ?", (each.id,))
            layouts.add_to_database(db, each)


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, to be changed in one transaction."""
    db = sqlite3.connect(path)
    with db:
        yield db
    db.close()


def aged(path: Path, seconds: float = 10.0) -> None:
    """As if a file, or all files in a folder, had been written some time ago."""
    then = time.time() - seconds
    for each in [path, *path.rglob("*")]:
        if each.is_file():
            os.utime(each, (then, then))


def held(warehouse: Warehouse, *left_out: str) -> dict[str, list[str]]:
    """All rows of all tables, to be compared."""
    found = {}
    for table in TABLES:
        names = ", ".join(name for name in table.names if name not in left_out)
        found[table.name] = sorted(map(repr, warehouse.query(f"SELECT {names} FROM {table.name}")))
    return found


@contextmanager
def counted(monkeypatch: Any) -> Iterator[list[str]]:
    """The ids of the sessions whose content is read meanwhile, in this process."""
    read: list[str] = []
    with monkeypatch.context() as patched:
        for kind in _concrete(Source):
            patched.setattr(kind, "_content", _counting(kind._content, read))
        yield read


def _concrete(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        if "_content" in vars(each):
            yield each
        yield from _concrete(each)


def _counting(method: Any, read: list[str]) -> Any:
    def content(self: Any, session_id: str, *more: Any) -> Any:
        read.append(session_id)
        return method(self, session_id, *more)

    return content
