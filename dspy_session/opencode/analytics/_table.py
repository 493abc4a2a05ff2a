"""What a table is: its columns, each with its type and its meaning, and what its rows are told apart by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column: its name, DuckDB's type and what it holds."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class Table:
    """A table: its rows' meaning and its columns.

    Attributes:
        key: the columns that tell its rows apart. It is no PRIMARY KEY: rows are replaced by session, and
            a history in which two sessions hold the same id shall be no reason to stop.
        indexes: the columns that have an index.
        session: the column that names the session, with which the rows are replaced; "" if there is none.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    session: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def table(name: str, doc: str, key: str, columns: str, indexes: str = "") -> Table:
    """A table from lines of `name TYPE: meaning`."""
    found = []
    for line in filter(None, map(str.strip, columns.splitlines())):
        declared, _, meaning = line.partition(": ")
        column, _, kind = declared.partition(" ")
        found.append(Column(column, kind, meaning))
    names = [column.name for column in found]
    session = "session_id" if "session_id" in names else "id" if name == "sessions" else ""
    return Table(name, doc, tuple(found), tuple(key.split()), tuple(indexes.split()), session)
