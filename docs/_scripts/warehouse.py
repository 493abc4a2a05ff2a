"""Writes the warehouse's tables into the page about it.

python -m docs._scripts.warehouse
"""

from __future__ import annotations

from pathlib import Path

from dspy_session.opencode.analytics._batches import STORED
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics.tables import FORM

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "opencode-warehouse.md"
MARK = "<!-- The rest of this page is written by docs/_scripts/warehouse.py. -->\n"
PARQUET = {
    "VARCHAR": "string",
    "JSON": "string (JSON)",
    "BIGINT": "int64",
    "BOOLEAN": "boolean",
    "DOUBLE": "double",
    "TIMESTAMP": "timestamp[µs]",
    "VARCHAR[]": "list of string",
}


def tables() -> str:
    """All tables, as Markdown."""
    return f"Form {FORM}.\n\n" + "\n\n".join(map(_section, STORED)) + "\n"


def _section(table: Table) -> str:
    key = ", ".join(f"`{name}`" for name in table.key)
    rows = [
        f"| `{column.name}` | {column.type} | {PARQUET[column.type]} | {column.doc.replace('|', ' or ')} |"
        for column in table.columns
    ]
    head = "| column | DuckDB | Parquet | meaning |\n|---|---|---|---|"
    return "\n".join([f"### {table.name}", "", f"{table.doc} Rows are told apart by {key}.", "", head, *rows])


def renewed(page: str) -> str:
    """The page with the tables as they are now."""
    return page.split(MARK)[0] + MARK + "\n" + tables()


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
