"""What a report is: typed rows with the meaning of their columns, which display themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from dspy_session.opencode.analytics import _tables_shown

if TYPE_CHECKING:
    from dspy_session.opencode.analytics.plots import Chart

Row = TypeVar("Row")
Unit = Literal["USD", "ms", "s", "tokens", "characters", "bytes", "share"]
"""Units of columns; a share lies between 0 and 1."""


@dataclass(frozen=True)
class ReportColumn:
    """A column of a report.

    Attributes:
        name: the field of the row.
        doc: what it holds.
        unit: the unit, for quantities that have one.
    """

    name: str
    doc: str
    unit: Unit | None = None


def column(doc: str, unit: Unit | None = None, *, default: Any = dataclasses.MISSING) -> Any:
    """A field of a row, with its meaning and unit."""
    return dataclasses.field(default=default, metadata={"doc": doc, "unit": unit})


def columns_of(row_type: type[Any]) -> tuple[ReportColumn, ...]:
    """The columns of a class of rows, in order."""
    fields = dataclasses.fields(row_type)
    return tuple(ReportColumn(each.name, each.metadata["doc"], each.metadata["unit"]) for each in fields)


@dataclass(frozen=True)
class Report(Generic[Row]):
    """The answer to one question: rows, and what they mean.

    Printed, it is a plain table; in a notebook, it shows itself as one.

    Attributes:
        name: the question's name, as `skills`.
        title: a heading.
        row_type: the class of the rows.
        rows: the rows, in the order that the report's description tells.
        skipped: how many damaged pieces of the sessions asked about could not be read, and so are missing.
    """

    name: str
    title: str
    row_type: type[Row]
    rows: tuple[Row, ...]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def columns(self) -> tuple[ReportColumn, ...]:
        """The columns, with meanings and units."""
        return columns_of(self.row_type)

    @property
    def row(self) -> Row:
        """The only row, for reports that have one."""
        (only,) = self.rows
        return only

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries that JSON can hold; times are ISO texts that end in `Z`."""
        names = [each.name for each in self.columns]
        return [{name: jsonable(getattr(row, name)) for name in names} for row in self.rows]

    def shown(self, names: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
        """Headings and cells as text, of all columns or of those named."""
        wanted = [each for each in self.columns if names is None or each.name in names]
        cells = [
            [_tables_shown.cell(getattr(row, each.name), each.unit) for each in wanted] for row in self.rows
        ]
        return [each.name for each in wanted], cells

    def __str__(self) -> str:
        return _tables_shown.text(self.title, *self.shown(), self.numeric, self.skipped)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        docs = [each.doc for each in self.columns]
        return _tables_shown.html(self.title, *self.shown(), self.numeric, docs, self.skipped)

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        values = [[getattr(row, each.name) for row in self.rows] for each in self.columns]
        return [
            any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in column)
            for column in values
        ]

    def plot(self) -> Chart:
        """A chart of the report, for those that have one.

        Raises:
            ConfigurationError: this report has no chart; names those that do.
            MissingExtraError: Altair is not installed.
        """
        from dspy_session.opencode.analytics.plots import chart

        return chart(self)


def jsonable(value: Any) -> Any:
    """A value of a row as JSON can hold it. Times are UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    return value
