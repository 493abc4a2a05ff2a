"""What benchmarks give: tables as data, and their text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

NOTHING = "—"
PATH = re.compile(r"(?<![\w.])/(?:[^\s/()]+/)+([^\s/()]+)")


@dataclass(frozen=True)
class Ratio:
    """What this library costs, divided by what a peer does for the same: below 1, it costs less.

    Attributes:
        what: the same thing that both do, such as `a call at 100 turns`.
        peer: its name.
        value: of seconds, bytes or tokens, measured in turns within one run.
    """

    what: str
    peer: str
    value: float


@dataclass
class Table:
    """One table.

    Attributes:
        title: unique on the page, and the same for all sizes.
        columns: a name each, with a format after a bar: `"bare, µs|,.0f"`.
        rows: numbers and texts; None is what was not measured.
        notes: sentences about the table, computed where they tell of figures.
        ratios: what the table says about peers.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Any]]
    notes: list[str] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def markdown(self) -> str:
        """Heading, table and notes."""
        names, formats = zip(*(column.partition("|")[::2] for column in self.columns), strict=True)
        numeric = ["--:" if form else "---" for form in formats]
        lines = [f"### {self.title}", "", line(names), line(numeric)]
        for row in self.rows:
            lines.append(line([cell(value, form) for value, form in zip(row, formats, strict=True)]))
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Missing:
    """What was not measured, and why; of paths, only the last name is kept."""

    what: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", PATH.sub(r"\1", self.reason))


@dataclass(frozen=True)
class Versions:
    """What was measured: a name, such as that of a library, and its version."""

    of: dict[str, str]


@dataclass(frozen=True)
class About:
    """A suite's heading and text."""

    heading: str
    text: str


Item = Table | Missing | Versions | About
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Table, Missing, Versions, About)}


def cell(value: Any, form: str) -> str:
    """A value as its column shows it."""
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else format(value, form)


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def dumped(item: Item) -> str:
    """An item as a line of JSON."""
    return json.dumps({"kind": type(item).__name__, **asdict(item)})


def loaded(text: str) -> Item:
    """An item from its line."""
    fields = json.loads(text)
    made: Item = KINDS[fields.pop("kind")](**fields)
    if isinstance(made, Table):
        made.ratios = [Ratio(**ratio) for ratio in fields["ratios"]]
    return made
