"""The `store` commands through the installed entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dspy_session import cli
from dspy_session.stores import open_store
from tests.conversations.programs import chat


@pytest.fixture
def url(tmp_path: Path, lm: object) -> str:
    address, app = f"sqlite:///{tmp_path}/chat.db", chat()
    with open_store(address) as store:
        for user in ("ada", "max"):
            with app.conversation(user, store=store, scope="t"):
                app(question=f"I am {user}")
                app(question="And now?")
    return address


def test_the_installed_command(url: str) -> None:
    command = [str(Path(sys.executable).with_name("dspy-session")), "store", "ls", "--store", url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert [
        line
        for line in run.stdout.splitlines()
        if "t/ada" in line and "2 turns" in line and "I am ada" in line
    ]


def test_a_conversation_is_shown_forked_exported_verified_copied_and_erased(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        assert cli.main(["store", words[0], "--store", url, *words[1:]]) == 0
        return capsys.readouterr().out

    assert "And now?" in run("show", "--scope", "t", "ada")
    run("fork", "--scope", "t", "ada", "what-if", "--at", "1")
    lines = [json.loads(line) for line in run("export", "--scope", "t").splitlines()]
    assert len(lines) == 3
    assert "3 conversations, 5 turns, 0 problems" in run("verify")
    assert "3 conversations copied" in run("copy", "--to", f"sqlite:///{tmp_path}/other.db")
    assert "dropped" in run("prune", "--scope", "t", "--keep", "1", "--yes")
    assert "erased" in run("erase", "--scope", "t", "--forks", "keep", "--yes", "ada")
    with (
        open_store(f"sqlite:///{tmp_path}/other.db") as other,
        chat().conversation("ada", store=other, scope="t") as talk,
    ):
        assert [turn.inputs["question"] for turn in talk.state.turns] == ["I am ada", "And now?"]


def test_errors_are_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["store", "show", "--store", url, "nobody"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["store", "ls", "--store", "mongodb://x"]) == 1
    assert "there is no store for mongodb://" in capsys.readouterr().err
