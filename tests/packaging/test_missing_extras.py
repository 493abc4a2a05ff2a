"""Each optional extra, missing: one sentence that names it, or work that goes on without it.

`NEEDS` has every extra that users can install. A new one fails the first test until it is here too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, packages_distributions
from pathlib import Path

import pytest

# Extras for those who work on the library itself.
DEVELOPMENT = {"test", "lint", "interop", "docs", "mutants"}
STORE = "from dspy_session.stores import open_store; open_store({!r})"
# What needs an extra's packages: by extra and package, a program that says so when the package is missing.
NEEDS: dict[str, dict[str, str]] = {
    "postgres": {
        "psycopg": STORE.format("postgresql://host/db"),
        "psycopg-pool": STORE.format("postgresql://host/db"),
    },
    "redis": {"redis": STORE.format("redis://host")},
    "crypto": {"cryptography": "import dspy_session.stores.encryption"},
    "mlflow": {"mlflow": "import dspy_session.integrations.mlflow"},
    "parquet": {
        "pyarrow": "from pathlib import Path; from dspy_session.opencode.exports.parquet import parquet_file;"
        "parquet_file(Path('never.parquet'))"
    },
    "analytics": {
        "duckdb": "from dspy_session.opencode.analytics import Warehouse; Warehouse('never.duckdb')",
        "pyarrow": "from dspy_session.opencode.analytics import Warehouse; Warehouse('never.duckdb')",
    },
    "plots": {
        "altair": "from dspy_session.opencode.analytics import Report;"
        "from dspy_session.opencode.analytics.session_reports import DayRow;"
        "Report('cost_by_day', 'Cost', DayRow, ()).plot()"
    },
    "server": {
        "starlette": "from dspy_session.server import serve",
        "uvicorn": "from dspy_session.server import create_app",
    },
}
# Extras that add something by being there; without them the rest works, and says nothing.
DOES_WITHOUT: dict[str, dict[str, str]] = {
    "otel": {
        "opentelemetry-api": "from dspy_session import telemetry;"
        "telemetry.opened('k'); telemetry.count('turns', 2);"
        "assert telemetry.counts() == {'conversations': 1, 'turns': 2}"
    },
    "cli": {
        "rich": "from dspy_session.opencode.commands.terminal import print_table, working;"
        "print_table('Tools', ['tool'], [['read']], [False])\nwith working('Reading'): pass"
    },
}
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def declared() -> dict[str, set[str]]:
    """The extras that the installed package declares, with the distributions of each."""
    found: dict[str, set[str]] = {
        str(extra): set() for extra in metadata("dspy-session").get_all("Provides-Extra")
    }
    for requirement in metadata("dspy-session").get_all("Requires-Dist"):
        if extra := re.search(r"extra == ['\"]([\w-]+)['\"]", requirement):
            found[extra[1]].add(re.split(r"[^\w.-]", requirement)[0])
    return found


def modules_of(distribution: str) -> set[str]:
    """What a distribution is imported by; where it is not installed, the usual spelling of its name."""
    names = {name for name, owners in packages_distributions().items() if distribution in owners}
    return names or {distribution.replace("-", "_")}


def run_without(distribution: str, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that cannot import a distribution's modules."""
    code = f"NAMES = {sorted(modules_of(distribution))!r}{BLOCKED}{program}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, cwd=folder
    )


def cases(table: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    return [(extra, distribution) for extra, programs in table.items() for distribution in programs]


def test_every_extra_is_tested() -> None:
    for_users = {extra: names for extra, names in declared().items() if extra not in DEVELOPMENT}
    assert {extra: set(programs) for extra, programs in (NEEDS | DOES_WITHOUT).items()} == for_users


@pytest.mark.parametrize(("extra", "distribution"), cases(NEEDS))
def test_a_missing_extra_is_named_in_one_sentence(extra: str, distribution: str, tmp_path: Path) -> None:
    program = (
        f"try:\n    exec({NEEDS[extra][distribution]!r})\n"
        "except ImportError as error:\n    print(error.extra, error.package, error, sep='\\n')\n"
    )
    done = run_without(distribution, program, tmp_path)
    named, package, said = done.stdout.splitlines()
    assert (done.returncode, done.stderr, named) == (0, "", extra)
    assert said == f"{package} is not installed: pip install 'dspy-session[{extra}]'"
    assert package in declared()[extra]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("extra", "distribution"), cases(DOES_WITHOUT))
def test_without_it_the_rest_works(extra: str, distribution: str, tmp_path: Path) -> None:
    done = run_without(distribution, DOES_WITHOUT[extra][distribution], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    program = (
        "from dspy_session.cli import main\n"
        "sys.exit(main(['store', 'ls', '--store', 'postgresql://host/db']))"
    )
    done = run_without("psycopg", program, tmp_path)
    hint = "error: psycopg is not installed: pip install 'dspy-session[postgres]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", hint)
