"""The little that is used of pyarrow: tables from rows, and Parquet files. No other module imports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspy_session.errors import MissingExtraError

LARGEST = 2**63 - 1
LATEST = 253_402_300_799_999
"""The last millisecond of the year 9999: later times can be stored, and not be read by most programs."""

EXACT = {
    "string": "string",
    "int64": "int64",
    "bool": "bool_",
    "double": "float64",
}


def library(extra: str) -> Any:
    """Pyarrow.

    Raises:
        MissingExtraError: it is not installed; names this extra.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", extra) from None
    return pyarrow


def kind(pyarrow: Any, name: str) -> Any:
    """A type: string, int64, bool, double, `list<string>`, `timestamp[ms]` or `timestamp[ms, tz=UTC]`."""
    if name.startswith("list<"):
        return pyarrow.list_(kind(pyarrow, name[5:-1]))
    if name.startswith("timestamp"):
        return pyarrow.timestamp("ms", tz="UTC" if "UTC" in name else None)
    return getattr(pyarrow, EXACT[name])()


def table(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]], extra: str
) -> tuple[Any, dict[str, list[int]]]:
    """A table of Arrow, and the places (by column) of values that do not fit it and became NULL.

    Args:
        columns: the types by name, as for `kind`.
        rows: in the order of the columns; times as milliseconds since the epoch.
        extra: the extra to name if pyarrow is missing.
    """
    pyarrow = library(extra)
    made, unfit = {}, {}
    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(columns)
    for (name, wanted), column in zip(columns.items(), values, strict=True):
        made[name], places = _column(pyarrow, wanted, column)
        if places:
            unfit[name] = places
    return pyarrow.table(made), unfit


def joined(first: Any, second: Any) -> Any:
    """The rows of both tables; columns that one of them lacks are NULL in its rows."""
    import pyarrow

    return pyarrow.concat_tables([first, second], promote_options="default")


def only(made: Any, column: str, value: str) -> Any:
    """The rows of a table whose column has this value."""
    import pyarrow.compute as compute

    return made.filter(compute.equal(made.column(column), value))


def _column(pyarrow: Any, wanted: str, values: Sequence[Any]) -> tuple[Any, list[int]]:
    """Nearly always all values fit, so one by one is only looked at where that fails."""
    type_ = kind(pyarrow, wanted)
    try:
        made = pyarrow.array(values, type_)
        if not wanted.startswith("timestamp") or _in_range(pyarrow, made):
            return made, []
    except (pyarrow.ArrowException, OverflowError, UnicodeError, TypeError):
        pass
    fit = [_fit(wanted, value) for value in values]
    unfit = [
        i
        for i, (value, kept) in enumerate(zip(values, fit, strict=True))
        if kept is None and value is not None
    ]
    return pyarrow.array(fit, type_), unfit


def _in_range(pyarrow: Any, made: Any) -> bool:
    import pyarrow.compute as compute

    ends = compute.min_max(made.cast(pyarrow.int64())).as_py()
    return ends["max"] is None or (ends["min"] >= -LATEST and ends["max"] <= LATEST)


def _fit(wanted: str, value: Any) -> Any:
    """The value, without what no column of this type can hold; None if nothing is left."""
    if wanted == "string" and isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if wanted == "bool":
        return value if isinstance(value, bool) else None
    if wanted == "double":
        return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None
    if wanted == "int64":
        return value if isinstance(value, int) and abs(value) <= LARGEST else None
    if wanted.startswith("timestamp"):
        return value if isinstance(value, int) and abs(value) <= LATEST else None
    if wanted.startswith("list") and isinstance(value, list):
        return [_fit(wanted[5:-1], each) for each in value]
    return None


class ParquetWriter:
    """Writes rows in groups, so that memory stays bounded.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], extra: str) -> None:
        self._pyarrow = library(extra)
        self._schema = self._pyarrow.schema([(name, kind(self._pyarrow, of)) for name, of in columns.items()])
        self._writer = self._pyarrow.parquet.ParquetWriter(path, self._schema)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows: dictionaries with the columns' names as keys."""
        if rows:
            self._writer.write_table(self._pyarrow.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
