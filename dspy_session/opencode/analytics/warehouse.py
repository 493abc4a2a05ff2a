"""The warehouse: OpenCode's history as tables of DuckDB. The one module that imports it.

DuckDB lets one process at a time write to a file, and none read it meanwhile. So a warehouse holds its file no
longer than it needs: it opens it for each query and each sync and lets go after it, which costs some 20
milliseconds, and waits while another process does the same. Inside a `with` block it holds the file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dspy_session.errors import (
    ConfigurationError,
    FormatError,
    MissingExtraError,
    SourceNotFoundError,
    WarehouseBusyError,
)
from dspy_session.opencode import _arrow
from dspy_session.opencode.analytics import _schema, parquet_files
from dspy_session.opencode.analytics import sync as syncing
from dspy_session.opencode.analytics._batches import STORED, Batch, Job, batches, whole
from dspy_session.opencode.analytics._state import LOOKS, SKIPPED
from dspy_session.opencode.analytics._statements import statement
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics.tables import FORM
from dspy_session.opencode.history import History
from dspy_session.opencode.records import SessionRecord
from dspy_session.opencode.sources.base import Skip

if TYPE_CHECKING:
    import duckdb

_SQLITE = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html


class Warehouse:
    """OpenCode's history as tables of DuckDB, in a file or in memory.

    It may be used from several threads at once, also while one of them syncs: a query sees what was committed
    when it began.

    Args:
        path: the file, made if it is not there; None for one in memory.
        read_only: never write, so that several processes can read at once. The file has to be there.
        wait: seconds to wait while another process holds the file.

    Raises:
        MissingExtraError: DuckDB or pyarrow is not installed.
        FormatError: the file is no DuckDB database.
        UnsupportedVersionError: a newer release of this library wrote it.
        SourceNotFoundError: `read_only`, and there is no file.
        WarehouseBusyError: another process held the file for longer than `wait`.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, read_only: bool = False, wait: float = 10.0
    ) -> None:
        self._duckdb = _library()
        self.path = None if path is None else Path(path).expanduser()
        self.read_only = read_only
        self.wait = wait
        self._lock = threading.RLock()
        self._writing = threading.RLock()
        self._users = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._checked = False
        if self.path is None:
            self._users = 1
        elif read_only and not self.path.is_file():
            raise SourceNotFoundError(f"{self.path}: there is no warehouse: sync into it first")
        with self._connected():
            pass

    def __repr__(self) -> str:
        return f"Warehouse({'' if self.path is None else repr(str(self.path))})"

    def __enter__(self) -> Warehouse:
        self._hold()
        try:
            self._opened()
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._let_go()

    # -- what it is for --

    def sync(
        self,
        history: History | str | os.PathLike[str] | None = None,
        *,
        progress: syncing.Progress | None = None,
    ) -> syncing.SyncReport:
        """Read what is new or has changed in a history. What did not change is not read.

        Each batch of sessions is one transaction, and a session is replaced whole: a sync that is killed
        leaves what it had committed, and the next one goes on from there. What OpenCode writes while it is
        being read comes with the next sync. Sessions that are no longer in the history are kept.

        Args:
            history: an open history; a path, as for `open_source`; None for this user's own.
            progress: called with the number of sessions done, and of those to be read.

        Raises:
            SourceNotFoundError: nothing of OpenCode's is there.
            SourceFormatError: the only source is damaged as a whole. Anything less is skipped and counted.
            ConfigurationError: the warehouse was opened with `read_only`.
        """
        if self.read_only:
            raise ConfigurationError(f"{self.path} was opened with read_only=True, and cannot be synced into")
        with self._writing:
            return syncing.sync(self, history, progress)

    def query(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        """The rows that a query gives, as dictionaries."""
        with self._connected() as cursor:
            cursor.execute(sql, parameters)
            names = [each[0] for each in cursor.description or ()]
            return [dict(zip(names, row)) for row in cursor.fetchall()]  # noqa: B905 - as many as names

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """What could not be read, of all sessions and places, as of their last sync."""
        rows = self.query("SELECT DISTINCT path, place, reason FROM skipped ORDER BY ALL")
        return tuple(Skip(row["path"], row["place"], row["reason"]) for row in rows)

    def load(self, records: Iterable[SessionRecord]) -> None:
        """Put sessions into the tables, in place of what was there of them. A sync reads them again."""
        for batch in batches(Job(each, (each.id, "", -1, None, None, "", FORM, None)) for each in records):
            self.put(batch)
        self.name_fork_sources()

    def to_parquet(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the tables as Parquet files, one a table, in place of those that are there.

        Each file is replaced as a whole, after all of them were written. Columns, types and meaning are those
        of the tables; times are UTC without a zone, JSON is text.

        Returns:
            the files.
        """
        with self._connected() as cursor, _transaction(cursor):
            return parquet_files.write(cursor, folder)

    def merge(self, *folders: str | os.PathLike[str]) -> int:
        """Take over sessions that others wrote with `to_parquet`. Of one that is here too, the newer one stays.

        Args:
            folders: folders with the files, or with one such folder for each machine; or addresses that DuckDB
                can open, as `s3://bucket/machine`.

        Returns:
            how many sessions were taken.

        Raises:
            SourceNotFoundError: there are no such files.
            FormatError: the files are of another kind, or of different exports.
            UnsupportedVersionError: a newer release wrote them.
        """
        taken = 0
        with self._writing, self._connected() as cursor:
            for folder in parquet_files.each_folder(folders):
                with _transaction(cursor):
                    taken += parquet_files.merge(cursor, folder)
        return taken

    @classmethod
    def from_parquet(
        cls, *folders: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
    ) -> Warehouse:
        """A warehouse of what others wrote with `to_parquet`, in a file or in memory: see `merge`."""
        warehouse = cls(path)
        warehouse.merge(*folders)
        return warehouse

    def close(self) -> None:
        """Let go of the file, also inside a `with` block. One in memory is gone."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    # -- what the sync writes --

    def put(self, batch: Batch) -> list[Skip]:
        """Put a batch in place of what was there of its sessions, in one transaction.

        Returns:
            what was skipped in it. Of a batch that DuckDB refuses, the sessions are put in one by one.
        """
        with self._writing, self._connected() as cursor:
            try:
                with _transaction(cursor):
                    _replace(cursor, batch)
            except (self._duckdb.DataError, self._duckdb.IntegrityError) as error:
                if len(batch.read) > 1:
                    return [skip for each in batch.apart() for skip in self.put(each)]
                return self.put(batch.refused(str(error)))
            return batch.skipped

    def name_fork_sources(self) -> None:
        """Find the sessions that forks were copied from, where it is not known yet."""
        with self._writing, self._connected() as cursor:
            cursor.execute(statement("name_fork_sources"))

    def settle(self, look: tuple[Any, ...], damaged: Iterable[Skip], places: list[str]) -> None:
        """Remember a look at a history (a row of `looks`), and which of its places could not be read."""
        rows = [(None, skip.path, skip.row, skip.reason) for skip in damaged]
        batch = Batch()
        batch.add(whole(SKIPPED), rows)
        batch.add(whole(LOOKS), [look])
        with self._writing, self._connected() as cursor, _transaction(cursor):
            cursor.execute("DELETE FROM looks WHERE history = ?", [look[0]])
            cursor.execute(
                "DELETE FROM skipped WHERE session_id IS NULL AND path IN (SELECT unnest(?))", [places]
            )
            _append(cursor, batch)

    # -- the connection --

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of one's own. The file is opened for the first user, and let go by the last."""
        self._hold()
        try:
            cursor = self._opened().cursor()
            try:
                yield cursor
            finally:
                cursor.close()
        finally:
            self._let_go()

    def _opened(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _hold(self) -> None:
        with self._lock:
            self._users += 1

    def _let_go(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        connection = self._connect()
        try:
            form = _schema.form(connection)
            if not self._checked or form != FORM:
                self._prepare(connection, form)
            if not self.read_only:
                # One checkpoint at the end of a long sync, not one after every few batches.
                connection.execute("SET wal_autocheckpoint = '1GB'")
            self._checked = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: duckdb.DuckDBPyConnection, form: int) -> None:
        if form == FORM and _schema.complete(connection):
            return
        if self.read_only:
            raise FormatError(
                f"{self.path}: the tables are not those of this release: open it once without read_only"
            )
        _schema.migrate(connection)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if self.path is None:
            return self._duckdb.connect(":memory:")
        new = not self.path.exists()
        if not new and _is_another_kind(self.path):
            raise FormatError(f"{self.path}: no database of DuckDB: name another file for the warehouse")
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        until = time.monotonic() + self.wait
        while True:
            try:
                connection = self._duckdb.connect(str(self.path), read_only=self.read_only)
                break
            except self._duckdb.Error as error:
                reason = self._reason(error)
                if not isinstance(reason, WarehouseBusyError) or time.monotonic() > until:
                    raise reason from None
            time.sleep(0.05)
        if new:
            # It holds all that the user and the model said.
            self.path.chmod(0o600)
        return connection

    def _reason(self, error: Exception) -> Exception:
        told = str(error)
        if any(
            sign in told
            for sign in ("lock on file", "different configuration", "handle conflict", "being used")
        ):
            return WarehouseBusyError(
                f"{self.path}: another process holds the file, and did for {self.wait:g} seconds: wait for it to "
                f"end, give a longer `wait`, or sync into another file ({told.splitlines()[0]})"
            )
        if "not a valid DuckDB" in told or "version number" in told or "does not match" in told:
            return FormatError(
                f"{self.path}: no database that this DuckDB can read: name another file, or update duckdb "
                f"({told.splitlines()[0]})"
            )
        return FormatError(f"{self.path}: cannot be opened: {told}")


def _is_another_kind(path: Path) -> bool:
    """True for a database of SQLite.

    DuckDB would take one, by an extension that it downloads, and our tables would be made in OpenCode's own
    file.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False  # DuckDB tells what is wrong with it.


def _library() -> Any:
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("duckdb", "analytics") from None
    _arrow.library("analytics")
    return duckdb


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")


def _replace(cursor: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    cursor.execute("DELETE FROM skipped WHERE session_id IN (SELECT unnest(?))", [batch.read + batch.failed])
    named = "SELECT session_id FROM synced WHERE session_id IN (SELECT unnest(?))"
    there = [row[0] for row in cursor.execute(named, [batch.read]).fetchall()]
    if there:
        for table in STORED[:-1]:
            cursor.execute(f"DELETE FROM {table.name} WHERE {table.session} IN (SELECT unnest(?))", [there])
    _append(cursor, batch)


def _append(cursor: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    for name, rows in batch.tables.items():
        cursor.register("incoming", rows)
        cursor.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")
        cursor.unregister("incoming")


def definition(table: Table) -> str:
    """The statement that makes a table."""
    return _schema.definition(table)
