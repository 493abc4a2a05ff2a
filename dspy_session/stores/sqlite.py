"""A store in one SQLite file: the embedded default, on the standard library alone.

The file is in WAL mode: readers never wait, writers of all threads and processes queue. By default a commit
has reached the disk when it is acknowledged (`synchronous="full"`); with `"normal"` it survives a crash of
the process at any instant, but a power cut may take the last ones. The file must be on a local disk.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from ..errors import (
    ConfigurationError,
    DspySessionError,
    FormatError,
    StoreUnavailableError,
    UnsupportedVersionError,
)
from ._lines import Run
from ._relational import RelationalStore
from ._verification import verify_relational
from .base import Problem, VerifyReport

__all__ = ["SQLiteStore"]

APPLICATION_ID = 0x44535053
MIGRATIONS = ("_sqlite_1.sql",)
"""The scripts that lead from one schema version to the next, in order; their number is the version."""

_inherited: list[sqlite3.Connection] = []


class SQLiteStore(RelationalStore):
    """Keeps conversations in an SQLite file.

    Args:
        path: the file; it is created if it does not exist, its folder is not.
        synchronous: "full" or "normal", see the module.
        timeout: how many seconds to wait for other writers before `StoreUnavailableError`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["full", "normal"] = "full",
        timeout: float = 30.0,
    ) -> None:
        super().__init__()
        if synchronous not in ("full", "normal"):
            raise ConfigurationError(f'synchronous must be "full" or "normal", not {synchronous!r}')
        if sqlite3.sqlite_version_info < (3, 35, 0):
            raise StoreUnavailableError(f"SQLite 3.35 or newer is needed; this is {sqlite3.sqlite_version}")
        self.path = Path(path)
        self._synchronous, self._timeout = synchronous, timeout
        self._closed = False
        self._forget_connections()
        with self._errors():
            self._idle.append(self._prepare())

    def _forget_connections(self) -> None:
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._one_writer = threading.Lock()

    # -- opening --------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> sqlite3.Connection:
        """A connection to a file that is ours and has the newest schema. Leaves any other file as it was."""
        if not self.path.parent.is_dir():
            raise StoreUnavailableError(f"the folder of {self.path} does not exist")
        connection = self._connect()
        try:
            if self._version(connection) < len(MIGRATIONS):
                self._use_wal(connection)
                self._migrate(connection)
            return connection
        except BaseException:
            connection.close()
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        # One statement, for another process may be writing the schema right now.
        [(application, version, tables)] = connection.execute(
            "SELECT a.application_id, u.user_version, (SELECT count(*) FROM sqlite_master)"
            " FROM pragma_application_id a, pragma_user_version u"
        )
        if application != APPLICATION_ID and (tables or version or application):
            raise FormatError(f"{self.path} is an SQLite database of something else, not a store")
        if version > len(MIGRATIONS):
            raise UnsupportedVersionError(
                f"{self.path} has schema version {version};"
                f" this release reads up to {len(MIGRATIONS)}: upgrade"
            )
        return int(version)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                # SQLite does not wait when several processes switch a new file at once.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for version in range(self._version(connection), len(MIGRATIONS)):
                script = files(__package__).joinpath(MIGRATIONS[version]).read_text("utf-8")
                for statement in script.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    # -- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> DspySessionError:
        text = str(error)
        if "locked" in text:
            return StoreUnavailableError(
                f"{self.path} was locked by other writers for {self._timeout:g} s; nothing was written"
            )
        if "malformed" in text or "not a database" in text or isinstance(error, sqlite3.IntegrityError):
            return FormatError(f"{self.path} is damaged or no SQLite database: {text}")
        return StoreUnavailableError(f"{self.path}: {text}; nothing was written")

    def _own_process(self) -> None:
        if self._pid != os.getpid():
            # A connection must not be used, nor closed, across a fork: the parent's locks would be lost.
            _inherited.extend(self._idle)
            self._forget_connections()

    @contextmanager
    def _transaction(self, begin: str, lock: AbstractContextManager[Any]) -> Iterator[Run]:
        # list.pop and list.append are atomic, so threads need no lock to share the idle connections.
        try:
            connection = self._idle.pop()
        except IndexError:
            with self._errors():
                connection = self._connect()
        try:
            with lock:
                connection.execute(begin)
                yield _runner(connection)
                connection.execute("COMMIT")
        except BaseException as error:
            # Closing rolls back too, should the connection not even be fit for that.
            if _rolled_back(connection):
                self._put_back(connection)
            else:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._explain(error) from error
            raise
        else:
            self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        # A lease may be given back after its store was closed.
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _reading(self) -> AbstractContextManager[Run]:
        self._own_process()
        return self._transaction("BEGIN", nullcontext())

    def _writing(self) -> AbstractContextManager[Run]:
        self._own_process()
        # Threads queue at this lock, in turn, rather than at the file, where the luckiest wins.
        return self._transaction("BEGIN IMMEDIATE", self._one_writer)

    def close(self) -> None:
        super().close()
        self._closed = True
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().close()

    # -- what differs ---------------------------------------------------------------------------------------

    def _erase(self, scope: str, key: str, forks: str | None) -> tuple[str, ...]:
        gone = super()._erase(scope, key, forks)
        with self._errors(), closing(self._connect()) as connection:
            # The write-ahead log still has the pages as they were: write them over.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def _take_lease(self, scope: str, key: str, ttl: float) -> int | None:
        with self._writing() as run:
            now = self._now(run)
            rows = run(
                "INSERT INTO lease (scope, key, token, expires) VALUES (?1, ?2, ?3, ?4)"
                " ON CONFLICT (scope, key) DO UPDATE SET token = max(lease.token + 1, ?3), expires = ?4"
                " WHERE lease.expires <= ?3 RETURNING token",
                *(scope, key, now, now + int(ttl * 1e6)),
            )
            return rows[0][0] if rows else None

    def _renew_lease(self, scope: str, key: str, token: int, ttl: float) -> bool:
        with self._writing() as run:
            expires = self._now(run) + int(ttl * 1e6)
            sql = "UPDATE lease SET expires = ? WHERE scope = ? AND key = ? AND token = ? AND expires > 0"
            return bool(run(sql + " RETURNING 1", expires, scope, key, token))

    def _drop_lease(self, scope: str, key: str, token: int) -> None:
        with self._writing() as run:
            run("UPDATE lease SET expires = 0 WHERE scope = ? AND key = ? AND token = ?", scope, key, token)

    def _verify(self, scope: str | None, key: str | None) -> VerifyReport:
        with self._reading() as run:
            damage = [row[0] for row in run("PRAGMA quick_check(20)") if row[0] != "ok"]
            [(journal,)], [(synchronous,)] = run("PRAGMA journal_mode"), run("PRAGMA synchronous")
            report = verify_relational(self, run, scope, key)
        settings = {
            "backend": "sqlite",
            "path": str(self.path),
            "journal_mode": journal,
            "synchronous": {1: "normal", 2: "full"}[synchronous],
        }
        warnings = []
        if synchronous < 2:
            warnings.append("synchronous is normal: a power cut may take the last acknowledged commits")
        problems = (*(Problem("", None, None, f"SQLite: {text}") for text in damage), *report.problems)
        return VerifyReport(report.conversations, report.turns, problems, settings, tuple(warnings))


def _rolled_back(connection: sqlite3.Connection) -> bool:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True


def _runner(connection: sqlite3.Connection) -> Run:
    def run(sql: str, *values: Any) -> list[Any]:
        return connection.execute(sql, values).fetchall()

    return run
