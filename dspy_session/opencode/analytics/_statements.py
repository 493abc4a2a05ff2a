"""The statements of the sync: files of SQL, one purpose each."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def statement(name: str) -> str:
    """The SQL in `sql/sync/<name>.sql`."""
    return (resources.files(__package__) / "sql" / "sync" / f"{name}.sql").read_text(encoding="utf-8")
