"""What is printed: tables and progress by Rich on a terminal, plain text elsewhere and without Rich; JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from dspy_session.opencode.analytics import _tables_shown
from dspy_session.opencode.analytics.reporting import Report

try:
    import rich.box
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
    from rich.text import Text
except ImportError:
    RICH = False
else:
    RICH = True


def print_json(value: Any) -> None:
    """A value as one line of JSON where many may follow, else indented; paths as texts."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def print_report(report: Report[Any], columns: Sequence[str] | None = None, limit: int = 0) -> None:
    """A report as a table, of these columns and so many rows; 0 for all."""
    rows = report.rows[:limit] if limit else report.rows
    part = Report(report.name, report.title, report.row_type, rows)
    headings, cells = part.shown(columns)
    numeric = [
        right
        for each, right in zip(report.columns, part.numeric, strict=True)
        if columns is None or each.name in columns
    ]
    print_table(report.title, headings, cells, numeric)
    if len(rows) < len(report.rows):
        print(f"… and {len(report.rows) - len(rows)} more: --limit 0 shows all")
    if report.skipped:
        print(_tables_shown.note(report.skipped), file=sys.stderr)


def print_table(
    title: str, headings: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    """A table: drawn by Rich on a terminal, in plain text elsewhere."""
    if not (RICH and sys.stdout.isatty()):
        print(_tables_shown.text(title, headings, cells, numeric))
        return
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD)
    for name, right in zip(headings, numeric, strict=True):
        table.add_column(Text(name.replace("_", " ")), justify="right" if right else "left")
    for row in cells:
        table.add_row(*(Text(_tables_shown.line(each), overflow="ellipsis") for each in row))
    console = Console()
    console.print(table)
    if not cells:
        console.print("(nothing)")


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Something to tell how far long work is; None where nobody looks, as standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
    elif RICH:
        with _bar() as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)
    else:
        try:
            yield lambda done, of: print(f"\r{what}: {done} of {of}", end="", file=sys.stderr, flush=True)
        finally:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def working(what: str) -> Any:
    """A sign of life on standard error while something lasts."""
    if not (RICH and sys.stderr.isatty()):
        return nullcontext()
    return Console(stderr=True).status(f"{what} …")
