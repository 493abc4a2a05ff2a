"""How a report is asked for: a question's SQL, a filter, a class for its rows."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, cast

from dspy_session.opencode.analytics.filters import EVERYTHING, Filter, bound, filtered
from dspy_session.opencode.analytics.reporting import Report

Row = TypeVar("Row")


class Tables(Protocol):
    """What a report needs of a warehouse."""

    def query(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        """The rows that a query gives, as dictionaries."""
        ...

    def __enter__(self) -> Any:
        """Keep the file open for several queries."""
        ...

    def __exit__(self, *_: Any) -> None:
        """Let go of it."""
        ...


class Asking:
    """Asks a warehouse about the part of the history that a filter chooses.

    Args:
        warehouse: a `Warehouse` that was synced.
        filter: which part of the history; all of it by default.
    """

    def __init__(self, warehouse: Tables, filter: Filter | None = None) -> None:
        self.warehouse = warehouse
        self.filter = EVERYTHING if filter is None else filter

    def ask(self, question: str, **more: Any) -> list[dict[str, Any]]:
        """The rows of a question of `sql`, asked of what the filter chooses; `more` are its own parameters."""
        statement = filtered(question)
        return self.warehouse.query(statement, bound(statement, {**self.filter.parameters(), **more}))

    def _report(self, question: str, title: str, row_type: type[Row], **more: Any) -> Report[Row]:
        with self.warehouse:
            found = self.ask(question, **more)
            skipped = self._skipped()
        rows = _rows(row_type, found)
        return Report(question, title, row_type, rows, skipped)

    def _skipped(self) -> int:
        return int(self.ask("skipped")[0]["skipped"])


def _rows(row_type: type[Row], found: list[dict[str, Any]]) -> tuple[Row, ...]:
    """Rows of a frozen dataclass; its `__init__` would take longer than the query."""
    fields = dataclasses.fields(cast(Any, row_type))
    names = [each.name for each in fields]
    lists = [each.name for each in fields if str(each.type).startswith("tuple")]
    if found and list(found[0]) != names:
        found = [{name: row[name] for name in names} for row in found]
    made = []
    for row in found:
        for name in lists:
            row[name] = tuple(row[name] or ())
        one = object.__new__(row_type)
        object.__setattr__(one, "__dict__", row)
        made.append(one)
    return tuple(made)
