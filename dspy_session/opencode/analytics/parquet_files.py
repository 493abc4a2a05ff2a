"""A warehouse as Parquet files, one a table, and such files brought together again.

Each machine writes a folder of its own; together they are a fleet's history, which DuckDB, Polars, Spark or Ray
query where it lies. Every file carries the same mark of its export in its metadata (the keys begin with
`dspy_session.`), so a folder that is half replaced is told from a whole one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_session.errors import FormatError, SourceNotFoundError, UnsupportedVersionError
from dspy_session.opencode.analytics._batches import STORED
from dspy_session.opencode.analytics._statements import statement
from dspy_session.opencode.analytics._table import Table
from dspy_session.opencode.analytics.tables import FORM

FORMAT = 1
"""Of the files: their names, metadata and encoding. Columns are `FORM`'s business."""

Place = str | os.PathLike[str]


def write(cursor: Any, folder: Place) -> tuple[Path, ...]:
    """Write all tables: see `Warehouse.to_parquet`."""
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    export = uuid.uuid4().hex
    drafts: list[tuple[Path, Path]] = []
    try:
        for table in STORED:
            file = place / f"{table.name}.parquet"
            draft = place / f".{table.name}.parquet.{export}"
            drafts.append((draft, file))
            cursor.execute(_copy(table, draft, export))
        for draft, file in drafts:
            os.replace(draft, file)
    finally:
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)
    return tuple(file for _, file in drafts)


def _copy(table: Table, file: Path, export: str) -> str:
    # JSON is plain text in the files: few programs know it as a type of its own.
    columns = ", ".join(
        f"{c.name}::{'VARCHAR' if c.type == 'JSON' else c.type} AS {c.name}" for c in table.columns
    )
    about = {"format": FORMAT, "form": FORM, "table": table.name, "export": export}
    metadata = ", ".join(f"\"dspy_session.{key}\": '{value}'" for key, value in about.items())
    name = str(file).replace("'", "''")
    return (
        f"COPY (SELECT {columns} FROM {table.name} ORDER BY {', '.join(table.key)}) "
        f"TO '{name}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{metadata}}})"
    )


def merge(cursor: Any, folder: Place) -> int:
    """Take from a folder the sessions that are newer there: see `Warehouse.merge`."""
    files = {file.table: file for file in _files(cursor, folder)}
    if "sessions" not in files or "synced" not in files:
        raise SourceNotFoundError(
            f"{folder}: there are no files of Warehouse.to_parquet: sessions.parquet is missing"
        )
    if len({file.export for file in files.values()}) > 1:
        raise FormatError(
            f"{folder}: the files are of different exports: one is being written, or was broken off; try again, "
            "or write it anew"
        )
    named = {"sessions": files["sessions"].pattern, "synced": files["synced"].pattern}
    cursor.execute("CREATE OR REPLACE TEMP TABLE chosen (id VARCHAR)")
    cursor.execute(statement("choose_newer"), named)
    for table in STORED:
        cursor.execute(f"DELETE FROM {table.name} WHERE {table.session} IN (SELECT id FROM chosen)")
        if table.name in files:
            _take(cursor, table, files[table.name])
    (taken,) = cursor.execute("SELECT count(*) FROM chosen").fetchone()
    cursor.execute("DROP TABLE chosen")
    return int(taken)


@dataclass(frozen=True)
class _File:
    """A file of an export."""

    pattern: str
    table: str
    export: str


def _files(cursor: Any, folder: Place) -> Iterator[_File]:
    for table in STORED:
        pattern = _pattern(folder, table.name)
        if not cursor.execute("SELECT count(*) FROM glob(?)", [pattern]).fetchone()[0]:
            continue
        listed = "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)"
        about = dict(cursor.execute(listed, [pattern]).fetchall())
        if "dspy_session.format" not in about:
            raise FormatError(f"{pattern}: not written by Warehouse.to_parquet")
        if int(about["dspy_session.format"]) > FORMAT or int(about["dspy_session.form"]) > FORM:
            raise UnsupportedVersionError(f"{pattern}: a newer release wrote it: update dspy-session")
        yield _File(pattern, about["dspy_session.table"], about["dspy_session.export"])


def _take(cursor: Any, table: Table, file: _File) -> None:
    """Insert the chosen sessions' rows, with the columns that the file has."""
    described = cursor.execute("DESCRIBE SELECT * FROM read_parquet(?)", [file.pattern]).fetchall()
    there = [name for name in table.names if name in {row[0] for row in described}]
    columns = ", ".join(there)
    cursor.execute(
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM read_parquet(?) "
        f"WHERE {table.session} IN (SELECT id FROM chosen)",
        [file.pattern],
    )


def _pattern(folder: Place, table: str) -> str:
    """What DuckDB opens a table's file by: an address, or a path in which nothing is a wildcard."""
    named = os.fspath(folder)
    if "://" in named:
        return f"{named.rstrip('/')}/{table}.parquet"
    path = str(Path(named).expanduser() / f"{table}.parquet")
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def each_folder(folders: Iterable[Place]) -> Iterator[Place]:
    """The folders, and those inside them that hold an export: a fleet's folder stands for its machines'."""
    for folder in folders:
        named = os.fspath(folder)
        place = Path(named).expanduser()
        if "://" in named or (place / "sessions.parquet").exists() or not place.is_dir():
            yield folder
            continue
        inside = sorted(str(path.parent) for path in place.glob("*/sessions.parquet"))
        yield from inside or [str(folder)]
