"""What a session adds to the source that optimizers paste into their prompts."""

from __future__ import annotations

import contextlib
import inspect
import io

import dspy
import pytest
from dspy.propose.utils import get_dspy_source_code

from dspy_session import sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import PROGRAMS, Desk, Pair, examples, learnt, metric

MOST = 3_000


def source(program: dspy.Module) -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        return get_dspy_source_code(program)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("wrap", [sessionify, with_memory])
def test_little_is_added_and_the_program_is_in_it(name: str, wrap: object) -> None:
    bare = source(PROGRAMS[name]())
    session = wrap(PROGRAMS[name]())  # type: ignore[operator]
    session.add_turn({"question": "live secret"}, {"answer": "live reply"})
    pasted = source(session)
    assert len(pasted) - len(bare) <= MOST
    assert "live secret" not in pasted
    if name == "pair":
        assert inspect.getsource(Pair) in pasted
    assert len(source(Desk(session))) - len(source(Desk(PROGRAMS[name]()))) <= MOST


def test_what_is_added_tells_the_proposer_about_the_history() -> None:
    added = inspect.getsource(type(sessionify(Pair())))
    assert len(added) <= MOST
    assert "conversation so far" in added
    assert "self.module" in added
    assert "TODO" not in added


def test_what_refine_pastes() -> None:
    for module in (sessionify(Pair()), with_memory(Pair())):
        assert len(inspect.getsource(module.__class__)) <= MOST


def test_the_prompts_of_simba_and_mipro_grow_by_little() -> None:
    def longest(program: dspy.Module) -> int:
        lm = ScriptedLM(learnt)
        with dspy.context(lm=lm, adapter=None, trace=[]), contextlib.redirect_stdout(io.StringIO()):
            dspy.SIMBA(metric=metric, bsize=6, num_candidates=2, max_steps=2, num_threads=1).compile(
                program, trainset=examples(), seed=1
            )
            dspy.MIPROv2(
                metric=metric,
                auto=None,
                num_candidates=2,
                max_bootstrapped_demos=1,
                max_labeled_demos=1,
                num_threads=1,
                seed=1,
            ).compile(program, trainset=examples(), num_trials=2, minibatch=False)
        return max(sum(len(text_of(m)) for m in request) for request in lm.requests)

    bare, session = longest(Pair()), longest(sessionify(Pair()))
    assert bare > 2_000
    assert session - bare <= MOST
