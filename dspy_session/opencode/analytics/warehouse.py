"""The warehouse: OpenCode's history as tables of DuckDB."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspy_session.errors import MissingExtraError
from dspy_session.opencode.analytics.rows import session_rows
from dspy_session.opencode.analytics.tables import TABLES, Table
from dspy_session.opencode.history import History
from dspy_session.opencode.records import SessionRecord

if TYPE_CHECKING:
    import duckdb


class Warehouse:
    """OpenCode's history as tables of DuckDB, in a file or in memory.

    Args:
        path: the file, made if it is not there; None for one in memory.

    Raises:
        MissingExtraError: DuckDB is not installed.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        try:
            import duckdb
        except ImportError:
            raise MissingExtraError("duckdb", "analytics") from None
        self.path = None if path is None else Path(path)
        self._connection: duckdb.DuckDBPyConnection = duckdb.connect(
            ":memory:" if path is None else str(path)
        )
        for table in TABLES:
            self._connection.execute(definition(table))

    def load(self, records: Iterable[SessionRecord], history: History | None = None) -> None:
        """Put sessions into the tables, in place of what was there of them."""
        for record in records:
            source = None if history is None else history.fork_source(record)
            rows = session_rows(record, forked_from=None if source is None else source.id)
            for table in TABLES:
                key = "id" if table.name == "sessions" else "session_id"
                self._connection.execute(f"DELETE FROM {table.name} WHERE {key} = ?", [record.id])
                if rows[table.name]:
                    marks = ", ".join(_mark(column.type) for column in table.columns)
                    self._connection.executemany(
                        f"INSERT OR REPLACE INTO {table.name} VALUES ({marks})", rows[table.name]
                    )

    def query(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        """The rows that a query gives, as dictionaries."""
        cursor = self._connection.cursor()
        cursor.execute(sql, parameters)
        names = [each[0] for each in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def definition(table: Table) -> str:
    """The statement that makes a table."""
    columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))"


def _mark(kind: str) -> str:
    return "epoch_ms(?::BIGINT)" if kind == "TIMESTAMP" else "?"
