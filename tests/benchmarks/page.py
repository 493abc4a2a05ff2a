"""The page that a run is written to. All figures are the run's; what is said about them is computed from them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from string import Template

from tests.benchmarks.report import About, Item, Missing, Ratio, Table, Versions
from tests.benchmarks.suites import Run

# Ratios this close to 1 are called the same: repeated runs differ by as much.
SAME = 1.1
PAGE = Template("""\
# What it costs

$command wrote this page.
Every figure is of that run, and so is what is said about them. Nothing here is typed in by hand, nor tested: run it
on your own machine, and trust ratios rather than times. What is compared takes turns within one run, so that a busy
machine slows all alike. Other libraries are the newest that could be installed, each in an environment of its own;
models answer at once, so that all time is the libraries'.

$machine

## At one look

What this library costs, divided by what the other does for the same: below 1, it costs less.

$ratios

$verdicts

$sections
## What was not measured

$missing
""")
QUICK = "\n\n**A quick run: small sizes, few repetitions. The figures mean nothing.**"


@dataclass
class Section:
    """A suite's items, in their order, and the seconds that it took."""

    name: str
    items: list[Item]
    seconds: float

    def of(self, kind: type) -> list[Item]:
        """Its items of one kind."""
        return [item for item in self.items if isinstance(item, kind)]

    @property
    def failed(self) -> bool:
        """Whether it did not come to its end."""
        return any(isinstance(item, Missing) and item.what.startswith("the rest of ") for item in self.items)


def machine() -> dict[str, str]:
    """What the run is on, before it begins."""
    found = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{processor()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        found["load before the run"] = f"{os.getloadavg()[0]:.1f}"
    return found


def processor() -> str:
    """Its name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def command(run: Run, name: str = "") -> str:
    """What to type for a run, or for one suite of it."""
    if not name and not run.options:
        return "`make bench`"
    return (
        f"`{' '.join(['python -m tests.benchmarks', *([f'--only {name}'] if name else []), *run.options])}`"
    )


def written(sections: list[Section], run: Run, machine: Mapping[str, str]) -> str:
    """The page."""
    ratios = [ratio for section in sections for item in section.of(Table) for ratio in item.ratios]  # type: ignore[union-attr]
    missing = [item for section in sections for item in section.of(Missing)]
    versions: dict[str, str] = {}
    for section in sections:
        for item in section.of(Versions):
            versions.update(item.of)  # type: ignore[union-attr]
    facts = {**machine, **versions, "seconds in all": f"{sum(section.seconds for section in sections):,.0f}"}
    return PAGE.substitute(
        command=command(run),
        machine=two_columns("what", "which", facts) + (QUICK if run.quick else ""),
        ratios=overview(ratios),
        verdicts="\n\n".join(verdicts(ratios)),
        sections="\n".join(section_text(section, run) for section in sections),
        missing=bullets(f"{item.what}: {item.reason}" for item in dict.fromkeys(missing))  # type: ignore[union-attr]
        or "Nothing: all peers were there.",
    )


def two_columns(one: str, other: str, rows: Mapping[str, str]) -> str:
    """A table of names and values."""
    return "\n".join([f"| {one} | {other} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows.items())])


def overview(ratios: list[Ratio]) -> str:
    """All ratios: what, beside whom."""
    lines = [f"| {ratio.what} | {ratio.peer} | {number(ratio.value)} |" for ratio in ratios]
    return "\n".join(["| what | beside | ratio |", "|---|---|--:|", *lines])


def number(ratio: float) -> str:
    """With two digits that tell something, however small or large."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def verdicts(ratios: list[Ratio]) -> list[str]:
    """A sentence for each peer: at what it costs less than this library, the same, more."""
    peers = dict.fromkeys(ratio.peer for ratio in ratios)
    return [verdict(peer, [ratio for ratio in ratios if ratio.peer == peer]) for peer in peers]


def verdict(peer: str, ratios: list[Ratio]) -> str:
    """Every ratio of one peer, in words."""
    cheaper = [f"{one.what} ({number(one.value)} times)" for one in ratios if one.value > SAME]
    same = [one.what for one in ratios if 1 / SAME <= one.value <= SAME]
    dearer = [one.what for one in ratios if one.value < 1 / SAME]
    told = [f"**{peer}.**"]
    if cheaper:
        told.append(f"This library costs more: {'; '.join(cheaper)}.")
    if same:
        told.append(f"Within a tenth of each other: {'; '.join(same)}.")
    if dearer:
        told.append(f"This library costs less: {'; '.join(dearer)}.")
    return " ".join(told)


def section_text(section: Section, run: Run) -> str:
    """A suite's heading, text, command, tables, and what it could not measure."""
    about = next((item for item in section.items if isinstance(item, About)), About(section.name, ""))
    minutes = f"{section.seconds:.0f} s"
    lines = [f"## {about.heading}", "", about.text, "", f"{command(run, section.name)} took {minutes}.", ""]
    for item in section.items:
        if isinstance(item, Table):
            lines += [item.markdown()]
    missing = bullets(f"{item.what}: {item.reason}" for item in section.items if isinstance(item, Missing))
    return "\n".join([*lines, *(["Not measured:\n", missing, ""] if missing else [])])


def bullets(texts: Iterable[str]) -> str:
    """A list of them."""
    return "\n".join(f"- {text}" for text in texts)
