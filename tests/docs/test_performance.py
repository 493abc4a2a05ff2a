"""The benchmarks work and the page has all their tables; what they measure is not tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import page
from tests.benchmarks.__main__ import PAGE, collect
from tests.benchmarks.peers import BARE, ROOT, Environment, Peer, Unavailable, contest
from tests.benchmarks.report import Missing, Ratio, Table, dumped, loaded
from tests.benchmarks.suites import SUITES, Run

# Of a database server that may not be there, and of what the lowest DSPy does not offer.
MAY_BE_MISSING = re.compile("PostgreSQL|Redis|with `dspy.LM`")


def headings(text: str) -> set[str]:
    found = set(re.findall(r"^##+ .*$", text, re.M))
    return {heading for heading in found if not MAY_BE_MISSING.search(heading)}


def test_the_command_writes_every_table_of_the_page(tmp_path: Path) -> None:
    written = tmp_path / "page.md"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--no-peers", "--page", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = written.read_text(encoding="utf-8")
    assert headings(text) == headings(PAGE.read_text(encoding="utf-8"))
    assert "- published dspy-session: left out by `--no-peers`" in text
    assert all(f"`python -m tests.benchmarks --only {name} " in text for name in SUITES)


def test_a_suite_that_fails_loses_nothing_of_the_others() -> None:
    sections = collect(["tests.benchmarks.no_such_suite", "optimizers"], Run(quick=True, peers=False))
    assert [section.failed for section in sections] == [True, False]
    text = page.written(sections, Run(quick=True), {"Python": "3"})
    assert "the rest of `tests.benchmarks.no_such_suite`: ModuleNotFoundError" in text
    assert "### Compiling" in text


def test_an_environment_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.benchmarks.peers.FOLDER", tmp_path)
    nowhere = Environment("nowhere", ("./no-such-folder",))
    with contest("talks", {"nobody": (nowhere, "session")}) as found:
        assert found.peers == {}
        assert found.missing == [Missing("nobody", "pip could not install ./no-such-folder")]
        assert found.in_turns("turn", seconds=0, turns=1, times=1) == {}


def test_a_peer_that_fails_is_left_out_and_named() -> None:
    with contest("talks", {"bare": (BARE, "bare")}) as found:
        assert found.each("no such job") == {"bare": None}
        assert [missing.what for missing in found.missing] == ["bare"]
        assert found.peers == {}


def test_a_peer_that_takes_too_long_is_ended() -> None:
    peer = Peer(BARE, "talks", "bare", patience=0.01)
    with pytest.raises(Unavailable, match=r"no answer within 0\.01 seconds"):
        peer.ask("turn", turns=1, times=1)
    peer.close()


def test_tables_survive_their_way_between_processes() -> None:
    table = Table(
        "A", ("what", "µs|,.1f"), [["x | y", 1234.56], ["z", None]], ["Note."], [Ratio("x", "y", 0.5)]
    )
    again = loaded(dumped(table))
    assert isinstance(again, Table)
    assert again.ratios == table.ratios
    assert again.markdown() == table.markdown()
    assert "| z | — |" in table.markdown()
    assert "1,234.6" in table.markdown()


def test_verdicts_say_who_costs_less() -> None:
    ratios = [Ratio("a", "peer", 2.0), Ratio("b", "peer", 1.05), Ratio("c", "peer", 0.012)]
    assert page.verdicts(ratios) == [
        "**peer.** This library costs more: a (2.00 times). Within a tenth of each other: b. "
        "This library costs less: c."
    ]


def test_reasons_name_no_folders_of_a_machine() -> None:
    assert (
        Missing("a", "ImportError: no x in (/home/somebody/lib/y.py)").reason == "ImportError: no x in (y.py)"
    )
