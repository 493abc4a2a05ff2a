"""The suites, and running them: each in a process of its own, which gives a line of JSON for each item."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.benchmarks.peers import ROOT
from tests.benchmarks.report import About, Item, Missing, Table, dumped, loaded

# In the order of the page. What such a module has to give is told in the package's docstring.
SUITES = (
    "talks",
    "session",
    "memory",
    "stores_peers",
    "stores",
    "conversations",
    "optimizers",
    "opencode_read",
    "opencode_analytics",
)
PATIENCE = 900.0
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """How to measure.

    Attributes:
        quick: with small sizes and few repetitions, to see that all works.
        peers: whether other libraries may be installed.
    """

    quick: bool = False
    peers: bool = True

    def pick(self, full: T, quick: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    @property
    def options(self) -> list[str]:
        """The same run, on a command line."""
        return [*(["--quick"] if self.quick else []), *([] if self.peers else ["--no-peers"])]


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every run."""
    parser.add_argument("--quick", action="store_true", help="small sizes: that it works, not what it costs")
    parser.add_argument("--no-peers", action="store_true", help="install no other libraries")


def alone(measure: Callable[[Run], Iterator[Item]]) -> None:
    """Run a suite in this process and print its tables."""
    about = inspect.getdoc(sys.modules[measure.__module__])
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    given = parser.parse_args()
    for item in measure(Run(given.quick, not given.no_peers)):
        shown(item)


def shown(item: Item) -> None:
    """Print what a suite gave."""
    if isinstance(item, Table):
        print(f"\n{item.markdown()}", flush=True)
    elif isinstance(item, Missing):
        print(f"\nnot measured: {item.what}: {item.reason}", flush=True)


def items_of(name: str, run: Run, patience: float = PATIENCE) -> Iterator[Item]:
    """A suite's items, as they come; if it fails, a `Missing` after those that it gave.

    Args:
        name: of a module of this package, or a whole module name.
        run: how to measure.
        patience: seconds after which it is given up.
    """
    command = [sys.executable, "-m", "tests.benchmarks.suites", name, *run.options]
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="dspy-session-bench-") as cache:
        variables = {**os.environ, "PYTHONPATH": python_path, "DSPY_CACHEDIR": cache}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables)
        watch = threading.Timer(patience, process.kill)
        watch.start()
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                yield loaded(line)
        late = watch.finished.is_set()
        watch.cancel()
        if process.wait():
            yield Missing(
                f"the rest of `{name}`", f"given up after {patience:g} seconds" if late else "it failed"
            )


def main() -> None:
    """A suite's items as JSON; what else is printed goes to standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    arguments(parser)
    given = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def give(item: Item) -> None:
        print(dumped(item), file=out, flush=True)

    try:
        name: str = given.name
        module: Any = importlib.import_module(name if "." in name else f"tests.benchmarks.{name}")
        heading, _, text = (inspect.getdoc(module) or name).partition("\n")
        give(About(heading.rstrip("."), text.strip()))
        for item in module.measure(Run(given.quick, not given.no_peers)):
            give(item)
    except Exception as error:
        give(
            Missing(
                f"the rest of `{given.name}`", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            )
        )
        import traceback

        traceback.print_exc()


if __name__ == "__main__":
    main()
