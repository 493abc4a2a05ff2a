"""How a warehouse's file is brought to the tables of this release: as often as you like, and only forwards."""

from __future__ import annotations

from typing import Any

from dspy_session.errors import UnsupportedVersionError
from dspy_session.opencode.analytics._state import ABOUT, EVERY
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics.tables import FORM


def form(connection: Any) -> int:
    """The form of a file's tables; 0 if it has none yet.

    Raises:
        UnsupportedVersionError: a newer release wrote it.
    """
    listed = "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND table_name = ?"
    if connection.execute(listed, [ABOUT.name]).fetchone() is None:
        return 0
    (found,) = connection.execute("SELECT max(value) FROM about WHERE name = 'form'").fetchone()
    if found is not None and found > FORM:
        raise UnsupportedVersionError(
            f"the warehouse has form {found}, and this release knows up to {FORM}: "
            "update dspy-session, or sync into another file"
        )
    return int(found or 0)


def migrate(connection: Any) -> None:
    """Add what is missing: tables, columns and indexes. What is there stays as it is."""
    there = _columns(connection)
    connection.execute("BEGIN")
    try:
        for name in _keyed(connection):
            _without_key(connection, name)
        for table in EVERY:
            connection.execute(definition(table))
            for column in table.columns:
                if column.name not in there.get(table.name, table.names):
                    connection.execute(
                        f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {column.name} {column.type}"
                    )
        connection.execute("DELETE FROM about WHERE name = 'form'")
        connection.execute("INSERT INTO about VALUES ('form', ?)", [FORM])
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    for table in EVERY:
        for column_name in table.indexes:
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {table.name}_{column_name} ON {table.name} ({column_name})"
            )


def complete(connection: Any) -> bool:
    """True if all tables and columns are there."""
    there = _columns(connection)
    return all(set(table.names) <= there.get(table.name, set()) for table in EVERY)


def definition(table: Table) -> str:
    """The statement that makes a table."""
    columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({columns})"


def _columns(connection: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    listed = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = current_database() AND NOT internal"
    )
    for table, column in listed.fetchall():
        found.setdefault(table, set()).add(column)
    return found


def _keyed(connection: Any) -> list[str]:
    """Our tables that have keys: rows that are replaced in one transaction would run into them."""
    found = connection.execute(
        "SELECT DISTINCT table_name FROM duckdb_constraints() "
        "WHERE database_name = current_database() AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'NOT NULL')"
    ).fetchall()
    ours = {table.name for table in EVERY}
    return sorted(name for (name,) in found if name in ours)


def _without_key(connection: Any, name: str) -> None:
    indexes = connection.execute("SELECT index_name FROM duckdb_indexes() WHERE table_name = ?", [name])
    for (index,) in indexes.fetchall():
        quoted = index.replace('"', '""')
        connection.execute(f'DROP INDEX "{quoted}"')
    connection.execute(f"CREATE TABLE {name}_bare AS SELECT * FROM {name}")
    connection.execute(f"DROP TABLE {name}")
    connection.execute(f"ALTER TABLE {name}_bare RENAME TO {name}")
