"""Tables as plain text and as HTML."""

from __future__ import annotations

import html as markup
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

WIDEST = 48
"""Characters of a cell that a plain table shows."""

_STYLE = (
    "<style>.dspy-session-report{font:13px system-ui,sans-serif;border-collapse:collapse;margin:.5em 0;"
    "color:#1c1e21;background:#fff}"
    ".dspy-session-report caption{text-align:left;font-weight:600;padding:4px 8px;color:inherit}"
    ".dspy-session-report th,.dspy-session-report td{padding:3px 8px;text-align:left;"
    "border-bottom:1px solid #8884;background:inherit;color:inherit}"
    ".dspy-session-report .n{text-align:right;font-variant-numeric:tabular-nums}"
    "@media (prefers-color-scheme:dark){.dspy-session-report{color:#e6e6e6;background:#1b1d21}}"
    "[data-jp-theme-light=false] .dspy-session-report,.vscode-dark .dspy-session-report"
    "{color:#e6e6e6;background:#1b1d21}"
    "[data-jp-theme-light=true] .dspy-session-report,.vscode-light .dspy-session-report"
    "{color:#1c1e21;background:#fff}</style>"
)


def cell(value: Any, unit: str | None = None) -> str:
    """A value as a table shows it; None is an empty cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items())
    if isinstance(value, (int, float)):
        return _number(value, unit)
    return str(value)


def _number(value: float, unit: str | None) -> str:
    if unit == "USD":
        return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.4f}"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "ms":
        return _span(value / 1000)
    if unit == "s":
        return _span(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def line(value: str) -> str:
    """A text as one line in which nothing can move a terminal's cursor or change its colours."""
    kept = "".join(" " if ch.isspace() else ch for ch in value)
    return "".join(ch for ch in kept if unicodedata.category(ch) not in ("Cc", "Cf", "Cs"))


def text(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    skipped: int = 0,
) -> str:
    """A table in plain text: a heading, then columns that line up."""
    cells = [[_cut(line(each)) for each in row] for row in (headings, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)] if headings else []
    lines = [
        "  ".join(
            _pad(each, width, right) for each, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    below = [] if rows else ["(nothing)"]
    return "\n".join([title, "", *lines, *below, *([note(skipped)] if skipped else [])])


def html(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    docs: Sequence[str],
    skipped: int = 0,
) -> str:
    """A table in HTML whose style touches nothing else on the page; headings tell their meaning."""
    marks = ['class="n"' if each else "" for each in numeric]
    head = "".join(
        f'<th scope="col" {mark} title="{markup.escape(doc)}">{markup.escape(name)}</th>'
        for name, mark, doc in zip(headings, marks, docs, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td {mark}>{markup.escape(each)}</td>" for each, mark in zip(row, marks, strict=True))
        + "</tr>"
        for row in rows
    )
    told = f"<p>{note(skipped)}</p>" if skipped else ""
    return (
        f'{_STYLE}<table class="dspy-session-report"><caption>{markup.escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{told}"
    )


def note(skipped: int) -> str:
    """What a table says of what is missing from it."""
    return f"{skipped} damaged piece{'' if skipped == 1 else 's'} could not be read and are not counted"


def _cut(value: str) -> str:
    return value if len(value) <= WIDEST else value[: WIDEST - 1] + "…"


def _width(value: str) -> int:
    """Columns of a terminal: East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1
        for ch in value
    )


def _pad(value: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(value))
    return gap + value if right else value + gap
