"""All suites: prints their tables and writes docs/explanation/performance.md."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.benchmarks import page
from tests.benchmarks.peers import ROOT
from tests.benchmarks.report import About, Item
from tests.benchmarks.suites import SUITES, Run, arguments, items_of, shown

PAGE = ROOT / "docs" / "explanation" / "performance.md"


def collect(names: list[str], run: Run) -> list[page.Section]:
    """Run suites, printing what they give as it comes."""
    sections = []
    for name in names:
        begun = time.perf_counter()
        items: list[Item] = []
        for item in items_of(name, run):
            items.append(item)
            if isinstance(item, About):
                print(f"\n## {item.heading}", flush=True)
            shown(item)
        seconds = time.perf_counter() - begun
        print(f"\n({name}: {seconds:.0f} s)", flush=True)
        sections.append(page.Section(name, items, seconds))
    return sections


def names_of(text: str) -> list[str]:
    """The suites that a comma-separated list names."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in SUITES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no such suite: {', '.join(unknown)}; there are {', '.join(SUITES)}"
        )
    return names


def main() -> int:
    """The exit status is 0 if every suite came to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", type=names_of, metavar="SUITES", help=f"some of {', '.join(SUITES)}")
    parser.add_argument(
        "--page", type=Path, help=f"where to write the page; {PAGE.relative_to(ROOT)} if all run"
    )
    arguments(parser)
    given = parser.parse_args()
    run = Run(given.quick, not given.no_peers)
    machine = page.machine()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    sections = collect(given.only or list(SUITES), run)
    complete = not given.only and not given.quick and not given.no_peers
    path = given.page or (PAGE if complete else None)
    if path is not None:
        path.write_text(page.written(sections, run, machine), encoding="utf-8")
        print(f"\nwritten: {os.path.relpath(path)}")
    return int(any(section.failed for section in sections))


if __name__ == "__main__":
    sys.exit(main())
