"""A store in PostgreSQL, over psycopg 3 and its pool (extra `postgres`).

A commit is one statement, a call of a function in the database, and so one round trip. Everything is in one
schema of the database, "dspy_session" unless told otherwise, which is made at the first opening. The server
has to be PostgreSQL 12 or newer with a UTF-8 database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import (
    ConfigurationError,
    DspySessionError,
    FormatError,
    MissingExtraError,
    StoreError,
    StoreUnavailableError,
    UnsupportedVersionError,
)
from . import _documents as documents
from ._documents import Commit
from ._lines import Run
from ._relational import RelationalStore
from ._rows import Beginning, RawConversation, RawTurn
from ._verification import verify_relational
from .base import VerifyReport

try:
    import psycopg
    import psycopg_pool
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:
    raise MissingExtraError("psycopg", "postgres") from missing

__all__ = ["PostgresStore"]

MIGRATIONS = ("_postgres_1.sql",)
"""The scripts that lead from one schema version to the next, in order; their number is the version."""

_TABLES = re.compile(r"\b(FROM|INTO|UPDATE|JOIN) (conversation|segment|turn|note|head|lease)\b")
_LOCKS = 0x44535053
_APPEND = (
    "SELECT outcome, detail, turn FROM {schema}.append(%s, %s, %s, %s, %s, %s::bigint, %s::bigint, %s::text,"
    " %s::text, %s, %s::bytea[], %s::bytea[], %s::text[], %s::text[], %s::bytea[], %s::text[])"
)
_LOAD = "SELECT * FROM {schema}.load(%s, %s, %s::bigint, %s::bigint, %s)"
_inherited: list[Any] = []
Result = TypeVar("Result")


class PostgresStore(RelationalStore):
    """Keeps conversations in a PostgreSQL database.

    Args:
        url: `postgresql://user:password@host:5432/database`, with any option of libpq. The arguments below
            can be given as its options too.
        schema: the schema to use; letters, digits and underscores.
        pool_size: at most so many connections at once.
        timeout: how many seconds to wait for a connection before `StoreUnavailableError`.
    """

    _for_update = " FOR UPDATE"

    def __init__(
        self, url: str, *, schema: str = "dspy_session", pool_size: int = 10, timeout: float = 30.0
    ) -> None:
        super().__init__()
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.schema = options.pop("schema", schema)
        try:
            self._pool_size = int(options.pop("pool_size", pool_size))
            self._timeout = float(options.pop("timeout", timeout))
        except ValueError as error:
            raise ConfigurationError(f"pool_size and timeout must be numbers: {error}") from None
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", self.schema):
            raise ConfigurationError(f"schema must be letters, digits and underscores, not {self.schema!r}")
        if self._pool_size < 1:
            raise ConfigurationError(f"pool_size must be at least 1, not {self._pool_size}")
        options.setdefault("connect_timeout", str(max(2, round(self._timeout))))
        self._conninfo = urlunsplit(parts._replace(query=urlencode(options)))
        try:
            known = conninfo_to_dict(self._conninfo)
        except psycopg.ProgrammingError as error:
            raise ConfigurationError(f"the PostgreSQL address cannot be read: {error}") from None
        self._place = f"PostgreSQL at {known.get('host') or 'local'}:{known.get('port') or 5432}"
        self._prepare()
        self._open_pool()

    # -- opening --------------------------------------------------------------------------------------------

    def _open_pool(self) -> None:
        self._pid = os.getpid()
        self._pool = psycopg_pool.ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=self._pool_size,
            timeout=self._timeout,
            # Preparing is a round trip of its own, and poolers such as PgBouncer forbid it.
            kwargs={"autocommit": True, "client_encoding": "utf8", "prepare_threshold": None},
            open=True,
        )

    def _prepare(self) -> None:
        with self._errors(), psycopg.connect(self._conninfo, autocommit=True) as connection:
            if connection.info.parameter_status("server_encoding") != "UTF8":
                raise StoreError(f"the database of {self._place} is not encoded in UTF-8")
            if self._version(connection) < len(MIGRATIONS):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCKS])
                    self._migrate(connection)

    def _version(self, connection: psycopg.Connection[Any]) -> int:
        table = f"{self.schema}.schema_version"
        # Not to_regclass: it may answer from a cache that is older than another process' commit.
        sql = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'schema_version'"
        if connection.execute(sql, [self.schema.lower()]).fetchone() is None:
            return 0
        [(version,)] = connection.execute(f"SELECT version FROM {table}".encode())
        if version > len(MIGRATIONS):
            raise UnsupportedVersionError(
                f"{self.schema} in {self._place} has schema version {version};"
                f" this release reads up to {len(MIGRATIONS)}: upgrade"
            )
        return int(version)

    def _migrate(self, connection: psycopg.Connection[Any]) -> None:
        version = self._version(connection)
        if version == 0:
            connection.execute(
                f"CREATE SCHEMA IF NOT EXISTS {self.schema};"
                f"CREATE TABLE {self.schema}.schema_version (version integer NOT NULL);"
                f"INSERT INTO {self.schema}.schema_version VALUES (0)".encode()
            )
        for script in MIGRATIONS[version:]:
            text = files(__package__).joinpath(script).read_text("utf-8")
            connection.execute(text.replace("{schema}", self.schema).encode())
        connection.execute(f"UPDATE {self.schema}.schema_version SET version = {len(MIGRATIONS)}".encode())

    # -- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg_pool.PoolTimeout as error:
            raise StoreUnavailableError(
                f"{self._place} gave no connection within {self._timeout:g} s: it is down, or pool_size"
                f" ({self._pool_size}) is too small"
            ) from error
        except psycopg.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: psycopg.Error) -> DspySessionError:
        text = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return StoreUnavailableError(f"the user may not do that in {self._place}: {text}")
        if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction)):
            return FormatError(f"{self.schema} in {self._place} is no store of conversations: {text}")
        if "authentication" in text or "password" in text:
            return StoreUnavailableError(f"{self._place} refused the user name or password: {text}")
        return StoreUnavailableError(
            f"{self._place}: {text}. Whether a commit that was under way is written is not known;"
            " repeating it is safe"
        )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        if self._pid != os.getpid():
            # The sockets belong to the parent: using or closing them here would break its conversations.
            _inherited.append(self._pool)
            self._open_pool()
        with self._errors(), self._pool.connection() as connection:
            yield connection

    def _patiently(self, work: Callable[[], Result]) -> Result:
        """Do something that may be repeated, once more if the connection turns out to be lost."""
        try:
            return work()
        except StoreUnavailableError as error:
            if not isinstance(error.__cause__, psycopg.OperationalError):
                raise
            self._pool.check()
            return work()

    @contextmanager
    def _transaction(self, begin: bytes) -> Iterator[Run]:
        with self._connection() as connection:

            def run(sql: str, *values: Any) -> list[Any]:
                cursor = connection.execute(_dialect(sql, self.schema), values)
                return cursor.fetchall() if cursor.description else []

            connection.execute(begin)
            try:
                yield run
                connection.execute(b"COMMIT")
            except BaseException:
                if not connection.closed:
                    connection.execute(b"ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[Run]:
        with self._transaction(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as run:
            yield run

    @contextmanager
    def _writing(self) -> Iterator[Run]:
        with self._transaction(b"BEGIN ISOLATION LEVEL READ COMMITTED") as run:
            yield run

    def close(self) -> None:
        super().close()
        if self._pid == os.getpid():
            self._pool.close()

    # -- what differs ---------------------------------------------------------------------------------------

    def _raw(self, key: str) -> bytes:
        return key.encode("utf-8")

    def _key(self, raw: Any) -> str:
        return bytes(raw).decode("utf-8")

    def _now(self, run: Run) -> int:
        return int(run(f"SELECT {self.schema}.now_micros()")[0][0])

    def _lock_family(self, run: Run, family: int) -> None:
        run("SELECT pg_advisory_xact_lock(?, ?)", _LOCKS, family % 2**31)

    def _create(self, new: Beginning) -> str:
        if not new.commit.turns:
            return super()._create(new)
        create = super()._create
        return self._patiently(lambda: create(new))

    def _load(self, scope: str, key: str, last: int | None) -> RawConversation:
        rows = self._read(scope, key, None, last, turns_only=False)
        fields = {kind: text for kind, _, _, _, text in rows}
        places = {kind: place for kind, place, _, _, _ in rows}
        return RawConversation(
            revision=fields["revision"],
            head=fields.get("head", "null"),
            metadata=fields["metadata"],
            title=fields["title"],
            tags=fields["tags"],
            cost=float(fields["cost"]),
            total=places["revision"],
            first=places["metadata"],
            turns=self._read_turns(rows),
            notes=[text for kind, _, _, _, text in rows if kind == "note"],
        )

    def _turns(self, scope: str, key: str, before: int | None, limit: int | None) -> list[RawTurn]:
        return self._read_turns(self._read(scope, key, before, limit, turns_only=True))

    def _read(
        self, scope: str, key: str, before: int | None, limit: int | None, *, turns_only: bool
    ) -> list[Any]:
        def call() -> list[Any]:
            with self._connection() as connection:
                sql = _LOAD.format(schema=self.schema).encode()
                values = (self._raw(scope), self._raw(key), before, limit, turns_only)
                return connection.execute(sql, values).fetchall()

        rows = self._patiently(call)
        if not rows:
            raise documents.not_found(scope, key)
        return rows

    def _read_turns(self, rows: list[Any]) -> list[RawTurn]:
        notes: dict[int, dict[str, str]] = {}
        for kind, place, _, label, text in rows:
            if kind == "about":
                latest = notes.setdefault(place, {})
                latest.pop(label, None)
                latest[label] = text
        return [
            RawTurn(place, self._key(turn), text, list(notes.get(place, {}).values()))
            for kind, place, turn, _, text in rows
            if kind == "turn"
        ]

    def _append(self, commit: Commit) -> str:
        values = (
            *(
                self._raw(commit.scope),
                self._raw(commit.key),
                commit.expected,
                commit.receipt(),
                commit.empty,
            ),
            *(commit.keep, commit.fence, commit.title, commit.tags, commit.cost),
            [self._raw(turn.id) for turn in commit.turns],
            [turn.digest for turn in commit.turns],
            [turn.text for turn in commit.turns],
            [note.name for note in commit.notes],
            [None if note.turn is None else self._raw(note.turn) for note in commit.notes],
            [note.text for note in commit.notes],
        )

        def call() -> Any:
            with self._connection() as connection:
                sql = _APPEND.format(schema=self.schema).encode()
                return connection.execute(sql, values).fetchone()

        outcome, detail, turn = self._patiently(call)
        if outcome == "ok":
            return str(detail)
        raise documents.refusal(commit, outcome, detail, None if turn is None else self._key(turn))

    def _take_lease(self, scope: str, key: str, ttl: float) -> int | None:
        with self._connection() as connection:
            row = connection.execute(
                (
                    f"INSERT INTO {self.schema}.lease AS l (scope, key, token, expires)"
                    " SELECT %s, %s, now, now + %s FROM (SELECT {0}.now_micros() AS now) n"
                    " ON CONFLICT (scope, key) DO UPDATE SET token = greatest(l.token + 1, excluded.token),"
                    " expires = excluded.expires WHERE l.expires <= excluded.token RETURNING token"
                )
                .replace("{0}", self.schema)
                .encode(),
                (self._raw(scope), self._raw(key), int(ttl * 1e6)),
            ).fetchone()
        return None if row is None else int(row[0])

    def _renew_lease(self, scope: str, key: str, token: int, ttl: float) -> bool:
        sql = (
            f"UPDATE {self.schema}.lease SET expires = {self.schema}.now_micros() + %s"
            " WHERE scope = %s AND key = %s AND token = %s AND expires > 0"
        )
        with self._connection() as connection:
            values = (int(ttl * 1e6), self._raw(scope), self._raw(key), token)
            return connection.execute(sql.encode(), values).rowcount == 1

    def _drop_lease(self, scope: str, key: str, token: int) -> None:
        sql = f"UPDATE {self.schema}.lease SET expires = 0 WHERE scope = %s AND key = %s AND token = %s"
        with self._connection() as connection:
            connection.execute(sql.encode(), (self._raw(scope), self._raw(key), token))

    def _verify(self, scope: str | None, key: str | None) -> VerifyReport:
        with self._reading() as run:
            settings = {
                name: str(run(f"SHOW {name}")[0][0])
                for name in ("server_version", "synchronous_commit", "fsync", "full_page_writes")
            }
            report = verify_relational(self, run, scope, key)
        warnings = tuple(
            f"{name} is off: a crash of the server may take acknowledged commits"
            for name in ("synchronous_commit", "fsync", "full_page_writes")
            if settings[name] == "off"
        )
        settings = {"backend": "postgresql", "schema": self.schema, **settings}
        return VerifyReport(report.conversations, report.turns, report.problems, settings, warnings)


@lru_cache(maxsize=512)
def _dialect(sql: str, schema: str) -> bytes:
    """A shared statement with our placeholders, and its tables in our schema."""
    return _TABLES.sub(rf"\1 {schema}.\2", sql).replace("?", "%s").encode()
