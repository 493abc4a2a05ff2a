"""What becomes of acknowledged turns: writers are killed, workers race, and what is lost is counted.

    python -m tests.benchmarks.reliability               prints the tables
    python -m tests.benchmarks.reliability --write       writes them into docs/explanation/reliability.md

A store whose server cannot be had here is left out, with the reason. The tests do the same and fail at the first
loss (`make crash`); this counts.
"""

from __future__ import annotations

import argparse
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_session import sessionify
from dspy_session.errors import DspySessionError
from dspy_session.stores import open_store
from dspy_session.testing.lm import ScriptedLM
from tests.stores.backends import PERSISTENT, address
from tests.stores.processes import Child
from tests.stores.test_crashes import begun, replay, settle, turn

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
WORKERS, TURNS = 4, 25


@dataclass
class Kills:
    """What happened to a conversation whose writers were killed, one after the other."""

    writers: int = 0
    acknowledged: int = 0
    lost: int = 0
    under_way: int = 0
    written: int = 0
    damaged: int = 0


def killed(url: str, rounds: int, chance: random.Random) -> Kills:
    """Kill a writer at any instant, look at what is there, and let the next one go on."""
    counted, line = Kills(writers=rounds), list[str]()
    with open_store(url) as store:
        store.create("k", {})
    for number in range(rounds):
        child = begun(url, number)
        time.sleep(chance.uniform(0.0, 0.05))
        child.kill()
        said = child.lines()
        acknowledged, at_most = replay(line, said)
        with open_store(url) as store:
            settle(store, f"round {number}")
            found = store.load("k").turns
            problems = store.verify().problems
        line = [stored.id for stored in found]
        counted.acknowledged += sum(word.startswith("done") for word in said)
        counted.under_way += acknowledged != at_most
        counted.written += acknowledged != at_most and line == at_most
        whole = line in (acknowledged, at_most)
        counted.lost += 0 if whole else len(set(acknowledged) - set(line))
        wrong = sum(stored.data != turn(stored.id) for stored in found)
        counted.damaged += len(problems) + wrong + (not whole)
    return counted


def worker(say: Any, url: str, name: str, options: dict[str, Any]) -> None:
    """Ask as one of several workers; say what was answered, and what was refused."""
    app = sessionify(dspy.Predict("question -> answer"), max_turns=3)
    with dspy.context(lm=ScriptedLM()), open_store(url) as store:
        for number in range(TURNS):
            try:
                with app.conversation("k", store=store, **options):
                    app(question=f"{name} {number}")
                say(f"answered {name} {number}")
            except DspySessionError as error:
                say(f"refused {type(error).__name__}")


def raced(url: str, options: dict[str, Any]) -> tuple[int, int, int]:
    """How many answers four workers gave on one conversation, how many of them are there, how many were refused."""
    children = [Child(worker, url, f"worker {place}", options) for place in range(WORKERS)]
    said = [word for child in children for word in child.lines()]
    answered = {word.removeprefix("answered ") for word in said if word.startswith("answered")}
    with open_store(url) as store:
        found = [stored.data["inputs"]["question"] for stored in store.load("k").turns]
    return len(answered), len(answered & set(found)), sum(word.startswith("refused") for word in said)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'--:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |"


def kill_rows(rounds: int) -> Iterator[list[object]]:
    for backend in PERSISTENT:
        try:
            with address(backend) as url:
                got = killed(url, rounds, random.Random(backend))
        except pytest.skip.Exception as reason:
            print(f"{backend} is left out: {reason}")
            continue
        yield [backend, got.writers, got.acknowledged, got.lost, got.under_way, got.written, got.damaged]


def race_rows() -> Iterator[list[object]]:
    ways: dict[str, dict[str, Any]] = {
        "lease": {},
        '`on_conflict="append"`': {"lease": None, "on_conflict": "append"},
        '`on_conflict="raise"`': {"lease": None},
    }
    for backend in PERSISTENT:
        for name, options in ways.items():
            try:
                with address(backend) as url:
                    yield [f"{backend}, {name}", WORKERS * TURNS, *raced(url, options)]
            except pytest.skip.Exception:
                break


def report(rounds: int) -> str:
    """The tables, with what they were measured on."""
    heads = (
        "store",
        "writers killed",
        "commits acknowledged",
        "of them lost",
        "commits under way at the kill",
    )
    kills = table((*heads, "of them written, whole", "damage found"), list(kill_rows(rounds)))
    heads = ("four workers on one conversation", "calls", "answers given", "of them stored", "refused")
    races = table(heads, list(race_rows()))
    where = f"Python {platform.python_version()}, DSPy {dspy.__version__}, {platform.system()}"
    return "\n".join([f"Measured on {where}.", "", *kills, "", *races, "", "```text", costs(), "```", ""])


def costs() -> str:
    """What a served turn costs by the length of its conversation, as the benchmark of that prints it."""
    command = [sys.executable, "-m", "tests.benchmarks.conversations"]
    ran = subprocess.run(command, cwd=PAGE.parents[2], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=300, help="how many writers are killed, of each store")
    parser.add_argument("--write", action="store_true", help="write the tables into the page on reliability")
    options = parser.parse_args()
    text = report(options.rounds)
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
