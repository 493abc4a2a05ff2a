"""Compiling inside `use_state` trains; it does not talk to the bound user."""

from __future__ import annotations

import dspy
import pytest

from dspy_session import with_memory
from dspy_session.testing.lm import ScriptedLM, text_of


@pytest.mark.parametrize("threads", [1, 2])
def test_training_calls_are_no_turns_of_the_bound_state(lm: ScriptedLM, threads: int) -> None:
    app = with_memory(dspy.Predict("question -> answer"), unbound="error")
    state = app.new_state()
    trainset = [dspy.Example(question=q, answer="a").with_inputs("question") for q in ("one", "two", "three")]
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=lambda example, prediction, trace=None: True,
        max_bootstrapped_demos=1,
        num_candidate_programs=1,
        num_threads=threads,
    )
    with app.use_state(state):
        app(question="the user's own")
        before = len(lm.requests)
        optimizer.compile(app, trainset=trainset)
        trained = lm.requests[before:]
        assert trained
        assert not any("the user's own" in text_of(message) for chat in trained for message in chat)
        assert [turn.inputs for turn in state.turns] == [{"question": "the user's own"}]
        app(question="and now")
    assert len(state) == 2
