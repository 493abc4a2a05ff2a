"""The demo of `make demo`, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import dspy
import pytest

from docs._scripts import offline, pages
from dspy_session import sessionify


@pytest.fixture(scope="module")
def output() -> str:
    environment = {k: v for k, v in os.environ.items() if k != "MODEL"}
    run = subprocess.run(
        [sys.executable, "docs/demo.py"],
        cwd=pages.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout


def test_the_agent_knows_what_it_was_told_turns_before(output: str) -> None:
    agent = output.split("Its turns")[0]
    assert "Your name is Max." in agent
    assert "In Lisbon it is 21 °C and sunny." in agent


def test_the_bare_agent_does_not(output: str) -> None:
    without = output.split("without a session")[1].split("\n\n")[0]
    assert "You have not told me your name." in without


def test_the_composed_program_remembers_too(output: str) -> None:
    assert "For Oslo: a light sweater and a rain jacket." in output


def test_examples_carry_their_history(output: str) -> None:
    assert "with 2 earlier exchanges → 'Your name is Max.', score 1.0" in output


def test_the_second_process_goes_on_from_the_file(output: str) -> None:
    second = output.split("A second run")[1]
    assert "Your name is Max." in second
    assert "turns=4" in second


def test_the_offline_model_knows_only_the_messages(recwarn: pytest.WarningsRecorder) -> None:
    with dspy.context(lm=offline.model()):
        chat = sessionify(dspy.Predict("user -> assistant"))
        chat(user="Hi! My name is Ada.")
        assert chat(user="What is my name?").assistant == "Your name is Ada."
        chat.reset()
        assert chat(user="What is my name?").assistant == "You have not told me your name."
