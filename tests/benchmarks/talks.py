"""A conversation, beside bare DSPy and the published `dspy-session`.

Bare DSPy is a `dspy.Predict` with a history field and a `dspy.History` that is passed on and appended to by hand.
The published package is the one of this name before 1.0, in an environment of its own with the same DSPy, used as
its README shows; both libraries run the same script. The model answers at once. A turn is the call and what is
kept of it; the newest turn is one that no call has seen, as in a live conversation. Times are lower quartiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.peers import BARE, HERE, OURS, PUBLISHED, Contest, columns, contest, over
from tests.benchmarks.report import Item, Ratio, Table
from tests.benchmarks.suites import Run, alone

BY_HAND, THEIRS = "bare DSPy", "published dspy-session"
NAMES = (OURS, BY_HAND, THEIRS)
CONTESTANTS = {OURS: (HERE, "session"), BY_HAND: (BARE, "bare"), THEIRS: (PUBLISHED, "session")}
SIZE = 1_024


def measure(run: Run) -> Iterator[Item]:
    with contest("talks", CONTESTANTS, others=run.peers) as talks:
        yield turns(talks, run)
        yield memory(talks, run.pick((100, 1_000), (10, 40)))
        yield from files(talks, run.pick((100, 1_000), (10, 40)))
        yield from talks.report()


def compared(what: str, found: dict[str, Any]) -> list[Ratio]:
    return [Ratio(what, name, value) for name, value in over(found).items()]


def row(label: Any, found: dict[str, Any], scale: float = 1.0) -> list[Any]:
    """A row of figures, scaled, and of this library's shares of the others' figures."""
    shares = over(found)
    figures = [None if found.get(name) is None else found[name] * scale for name in NAMES]
    return [label, *figures, *(shares.get(name) for name in NAMES[1:])]


SHARES = tuple(f"÷ {name}|.2f" for name in NAMES[1:])


def turns(talks: Contest, run: Run) -> Table:
    rows, ratios = [], []
    found: dict[int, dict[str, float | None]] = {}
    for length in run.pick((1, 10, 100, 1_000), (1, 10)):
        found[length] = talks.in_turns("turn", seconds=run.pick(8.0, 0.2), turns=length, times=3)
        rows.append(row(length, found[length], 1e6))
        ratios += compared(f"a turn of a conversation of {length:,}", found[length])
    return Table(
        "A turn, by the length of the conversation",
        ["turns|,", *columns(NAMES, "µs", ",.0f"), *SHARES],
        rows,
        [
            "The last columns are what this library takes, divided by what the other does: below 1, it takes less."
        ],
        ratios,
    )


def memory(talks: Contest, lengths: tuple[int, ...]) -> Table:
    rows, ratios = [], []
    for length in lengths:
        found = {
            name: None if held is None else held / length
            for name, held in talks.each("memory", turns=length, size=SIZE).items()
        }
        rows.append(row(length, found))
        ratios += compared(f"memory of each of {length:,} turns", found)
    return Table(
        "Memory of a turn",
        ["turns|,", *columns(NAMES, "bytes a turn", ",.0f"), *SHARES],
        rows,
        [
            f"Each turn holds {SIZE:,} characters of its own. Bare DSPy keeps no snapshot of what a turn was shown."
        ],
        ratios,
    )


def files(talks: Contest, lengths: tuple[int, ...]) -> Iterator[Table]:
    sizes, saves, loads = (
        Table("Bytes of a saved turn", ["turns|,", *columns(NAMES, "bytes a turn", ",.0f"), *SHARES], []),
        Table("Saving a conversation to a file", ["turns|,", *columns(NAMES, "ms", ",.2f"), *SHARES], []),
        Table("Loading a conversation from a file", ["turns|,", *columns(NAMES, "ms", ",.2f"), *SHARES], []),
    )
    sizes.notes.append(
        "The question and the answer of a turn have about 170 characters. Bare DSPy saves `history.messages` as JSON."
    )
    for length in lengths:
        told = talks.each("file", turns=length)
        for table, what, key, scale in (
            (sizes, "bytes of each of {} saved turns", "bytes", 1 / length),
            (saves, "saving {} turns", "save", 1e3),
            (loads, "loading {} turns from a file", "load", 1e3),
        ):
            found = {name: None if one is None else one[key] for name, one in told.items()}
            table.rows.append(row(length, found, scale))
            table.ratios += compared(what.format(f"{length:,}"), found)
    yield from (sizes, saves, loads)


if __name__ == "__main__":
    alone(measure)
