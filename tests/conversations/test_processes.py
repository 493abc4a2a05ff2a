"""Four worker processes on one talk, through `app.conversation`: no turn is lost, none is half there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest

from dspy_session.stores import open_store
from dspy_session.testing.lm import ScriptedLM
from tests.stores.backends import PERSISTENT, address
from tests.stores.processes import Child, Fork

from .programs import planned, questions

WORKERS, TURNS = 4, 25


def worker(say: Callable[[str], None], url: str, name: str, options: dict[str, Any]) -> None:
    app = planned(max_turns=3)
    with dspy.context(lm=ScriptedLM()), open_store(url) as store:
        for number in range(TURNS):
            with app.conversation("k", store=store, **options):
                app(question=f"{name} {number}")
            say(f"{name} {number}")


@pytest.mark.parametrize("backend", PERSISTENT)
@pytest.mark.parametrize("options", [{}, {"lease": None, "on_conflict": "append"}], ids=["lease", "append"])
def test_four_workers_on_one_talk(backend: str, options: dict[str, Any]) -> None:
    with address(backend) as url:
        # An error of a worker, such as a refused commit, fails in `lines`.
        children = [Child(worker, url, f"worker {place}", options) for place in range(WORKERS)]
        said = [child.lines() for child in children]
        with open_store(url) as store:
            assert store.verify().ok
            with planned().conversation("k", store=store) as talk:
                asked = questions(talk.state)
                assert len(asked) == WORKERS * TURNS
                for place, lines in enumerate(said):
                    assert lines == [f"worker {place} {number}" for number in range(TURNS)]
                    assert [question for question in asked if question in lines] == lines
                for node in ("plan", "reply"):
                    assert questions(talk.state.node_states[node]) == asked


def test_forked_workers_share_what_their_parent_opened() -> None:
    with address("sqlite") as url, open_store(url) as store, dspy.context(lm=ScriptedLM()):
        app = planned()
        with app.conversation("k", store=store):
            app(question="parent")

        def child(say: Callable[[str], None], name: str) -> None:
            for number in range(5):
                with app.conversation("k", store=store):
                    app(question=f"{name} {number}")
            say(name)

        children = [Fork(child, f"child {place}") for place in range(3)]
        assert [line.lines() for line in children] == [["child 0"], ["child 1"], ["child 2"]]
        with app.conversation("k", store=store) as talk:
            assert len(talk.state) == 16
