"""OpenCode's SQLite database: releases 1.2 to 1.18, and the tables of version 2.

OpenCode may be writing while we read: the database is opened read-only with its write-ahead log, each session
is read in one short transaction of its own, and nothing is ever checkpointed, repaired or created by us.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from dspy_session.errors import SourceFormatError
from dspy_session.opencode import parsing
from dspy_session.opencode.parsing import Json, ParseError
from dspy_session.opencode.records import Content, Message, SessionRecord
from dspy_session.opencode.sources.base import Fingerprint, Source

T = TypeVar("T")

MAGIC = b"SQLite format 3\x00"


class DatabaseSource(Source):
    """`opencode.db`."""

    kind: ClassVar[str] = "database"
    rank: ClassVar[int] = 50

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._schema: tuple[int, dict[str, list[str]]] | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A file that begins as SQLite files do; an empty or damaged `.db` is ours to complain about."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(16) == MAGIC or path.suffix == ".db"

    def heads(self) -> Iterable[SessionRecord]:
        """The sessions. One that stands in the tables of both versions is read from those of version 2."""
        return self._reading(self._heads)

    def _heads(self, db: sqlite3.Connection) -> list[SessionRecord]:
        tables = self._tables(db)
        if "session" not in tables and "session_v2" not in tables:
            raise SourceFormatError(f"{self.path}: no table `session`: this is no database of OpenCode")
        worktrees = self._worktrees(db, tables)
        found = {info["id"]: (info, "v2") for info in self._infos(db, tables, "session_v2")}
        for info in self._infos(db, tables, "session"):
            found.setdefault(info["id"], (info, "v1"))
        missing = {"message", "part"} - set(tables)
        if missing and any(version == "v1" for _, version in found.values()):
            names = " and ".join(f"`{name}`" for name in sorted(missing))
            raise SourceFormatError(f"{self.path}: table {names} missing: the database is damaged")
        return [
            SessionRecord(
                info,
                partial(self._content, info["id"], version),
                str(self.path),
                worktrees.get(info.get("projectID", "")),
                self.holds,
            )
            for info, version in found.values()
        ]

    def _infos(self, db: sqlite3.Connection, tables: dict[str, list[str]], table: str) -> Iterator[Json]:
        if "id" not in tables.get(table, ()):
            return
        for row in _rows(db, f"SELECT * FROM {table}"):
            if isinstance(row["id"], str) and row["id"]:
                yield parsing.session_info(row)
            else:
                self.skips.add(self.path, f"{table} {row['id']!r}", "a session without an id")

    def _worktrees(self, db: sqlite3.Connection, tables: dict[str, list[str]]) -> dict[str, str]:
        if not {"id", "worktree"} <= set(tables.get("project", ())):
            return {}
        rows = _rows(db, "SELECT id, worktree FROM project")
        return {row["id"]: row["worktree"] for row in rows if isinstance(row["worktree"], str)}

    def _content(self, session_id: str, version: str) -> Content:
        return self._reading(lambda db: self._read_content(db, session_id, version))

    def _read_content(self, db: sqlite3.Connection, session_id: str, version: str) -> Content:
        tables = self._tables(db)
        messages = self._v2_messages(db, session_id) if version == "v2" else self._v1_messages(db, session_id)
        if not messages and version == "v1" and "seq" in tables.get("session_message", ()):
            messages = self._v2_messages(db, session_id)
        todos: list[Json] = []
        if "position" in tables.get("todo", ()):
            todos = _rows(db, "SELECT * FROM todo WHERE session_id = ? ORDER BY position", session_id)
        kept = ("content", "status", "priority")
        listed = [{key: row[key] for key in kept if key in row} for row in todos]
        return Content(messages, parsing.todos(listed))

    def _v1_messages(self, db: sqlite3.Connection, session_id: str) -> tuple[Message, ...]:
        parts: dict[str, list[Json]] = {}
        stored = "SELECT id, message_id, data FROM part WHERE session_id = ?"
        for part_id, message_id, data in db.execute(stored, (session_id,)):
            try:
                part = parsing.json_object(data)
            except ParseError as error:
                self.skips.add(self.path, f"part {part_id}", str(error))
                continue
            part["id"], part["sessionID"], part["messageID"] = part_id, session_id, message_id
            parts.setdefault(message_id, []).append(part)
        found = []
        stored = "SELECT id, data FROM message WHERE session_id = ?"
        for message_id, data in db.execute(stored, (session_id,)):
            try:
                info = parsing.json_object(data)
            except ParseError as error:
                self.skips.add(self.path, f"message {message_id}", str(error))
                continue
            info["id"], info["sessionID"] = message_id, session_id
            found.append(parsing.message(info, parts.get(message_id, ())))
        return parsing.in_order(found)

    def _v2_messages(self, db: sqlite3.Connection, session_id: str) -> tuple[Message, ...]:
        found = []
        stored = "SELECT id, type, data FROM session_message WHERE session_id = ? ORDER BY seq"
        for message_id, kind, data in db.execute(stored, (session_id,)):
            try:
                found.append({**parsing.json_object(data), "id": message_id, "type": kind})
            except ParseError as error:
                self.skips.add(self.path, f"session_message {message_id}", str(error))
        return parsing.v2_messages(found, session_id)

    # -- what changed --

    def fingerprint(self) -> Fingerprint | None:
        """Sizes and times of the file and of its write-ahead log."""
        return Fingerprint.of_files([self.path, self.path.with_name(self.path.name + "-wal")])

    def fingerprints(self, session_ids: Iterable[str]) -> Mapping[str, Fingerprint]:
        """How many messages and parts each session has, and when the last of them was written."""
        facts = self._reading(self._facts)
        made = {}
        for session_id in session_ids:
            own = facts.get(session_id, ())
            times = [fact[-1] for fact in own if type(fact[-1]) is int]
            made[session_id] = Fingerprint.of(own, newest=max(times, default=0))
        return made

    def _facts(self, db: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
        """Of each session, a fact for each table that has rows of it; the last thing in it is a time."""
        facts: dict[str, list[tuple[Any, ...]]] = {}
        tables = self._tables(db)
        for table in ("message", "part", "session_message"):
            if "session_id" in tables.get(table, ()):
                time = "max(time_updated)" if "time_updated" in tables[table] else "max(rowid), NULL"
                counted = f"SELECT session_id, count(*), {time} FROM {table} GROUP BY session_id"
                for session_id, *fact in db.execute(counted):
                    facts.setdefault(session_id, []).append((table, *fact))
        if "session_id" in tables.get("todo", ()):
            for session_id, *fact in db.execute("SELECT session_id, * FROM todo ORDER BY session_id, rowid"):
                facts.setdefault(session_id, []).append(("todo", *fact, None))
        return facts

    # -- the connection --

    def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something inside one read transaction."""
        with self._lock:
            try:
                db = self._open()
                try:
                    return self._transaction(db, work)
                except sqlite3.OperationalError as error:
                    if "decode" not in str(error):
                        raise
                    # Tools print anything. Texts that are no UTF-8 are rare, and looking for them is slow.
                    db.text_factory = _text
                    return self._transaction(db, work)
            except sqlite3.Error as error:
                raise SourceFormatError(f"{self.path}: cannot be read as a database: {error}") from error

    def _transaction(self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        db.execute("BEGIN")
        try:
            return work(db)
        finally:
            db.execute("ROLLBACK")

    def _tables(self, db: sqlite3.Connection) -> dict[str, list[str]]:
        """The columns of the tables that matter; looked up again only after the schema has changed."""
        (version,) = db.execute("PRAGMA schema_version").fetchone()
        if self._schema is None or self._schema[0] != version:
            self._schema = version, _tables(db)
        return self._schema[1]

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                size = self.path.stat().st_size
            except OSError as error:
                raise SourceFormatError(f"{self.path}: cannot be read: {error}") from error
            if not size:
                raise SourceFormatError(f"{self.path}: the file is empty")
            try:
                self._connection = _connect(self.path, "mode=ro")
            except sqlite3.Error:
                self._connection = self._open_elsewhere()
        return self._connection

    def _open_elsewhere(self) -> sqlite3.Connection:
        """A folder that cannot be written to may refuse even reading: read a copy, or the file as it lies."""
        log = self.path.with_name(self.path.name + "-wal")
        if not log.exists() or not log.stat().st_size:
            return _connect(self.path, "mode=ro&immutable=1")
        self._copy = tempfile.TemporaryDirectory(prefix="opencode-")
        for name in (self.path.name, log.name):
            shutil.copyfile(self.path.with_name(name), Path(self._copy.name) / name)
        return _connect(Path(self._copy.name) / self.path.name, "mode=ro")

    def close(self) -> None:
        """Close the connection, and remove the copy if there is one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            if self._copy is not None:
                self._copy.cleanup()
            self._connection = self._copy = self._schema = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return DatabaseSource, (self.path,)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    url = f"file:{quote(str(path.absolute()))}?{options}"
    db = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        db.execute("PRAGMA query_only=ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _tables(db: sqlite3.Connection) -> dict[str, list[str]]:
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    wanted = ("session", "session_v2", "message", "part", "session_message", "todo", "project")
    return {
        name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in wanted if name in names
    }


def _rows(db: sqlite3.Connection, query: str, *values: Any) -> list[Json]:
    cursor = db.execute(query, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
