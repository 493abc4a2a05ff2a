"""Copies of a session: each starts with the same turns and goes its own way."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import dspy
import pytest
from dspy.teleprompt.bootstrap_trace import bootstrap_trace_data

from dspy_session import Session, sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import PROGRAMS, Pair, examples, metric, wire

COPIES: dict[str, Callable[[Session], Session]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "dspy deepcopy": lambda session: session.deepcopy(),
    "reset_copy": lambda session: session.reset_copy(),
    "pickle": lambda session: pickle.loads(pickle.dumps(session)),
    "cloudpickle": lambda session: pickle.loads(cloudpickle.dumps(session)),
    "fork": lambda session: session.fork(),
}


class Question(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Draft(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    plan: str = dspy.OutputField()


class Written(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    plan: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Picklable(Pair):
    """A program whose signatures pickle finds by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict(Draft)
        self.writer = dspy.Predict(Written)


MAKERS: dict[str, Callable[[], Session]] = {
    "predict": lambda: sessionify(dspy.Predict(Question)),
    "pair": lambda: sessionify(Picklable(), max_turns=3),
    "react": lambda: sessionify(PROGRAMS["react"]()),
    "frozen": lambda: sessionify(PROGRAMS["frozen"]()),
    "memory": lambda: with_memory(Picklable()),
}


def skip_what_dspy_cannot_pickle(how: str, kind: str) -> None:
    if how == "pickle" and kind in ("react", "frozen"):
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(PROGRAMS[kind]())
        pytest.skip("the bare program has signatures made of strings, which pickle cannot find by name")


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_copy_goes_its_own_way(model: ScriptedLM, kind: str, how: str) -> None:
    skip_what_dspy_cannot_pickle(how, kind)
    session = MAKERS[kind]()
    session(question="first")
    session.rate(0, 0.5)
    expected = wire(model, lambda: MAKERS[kind]()(question="x"))
    twin = COPIES[how](session)
    assert type(twin) is type(session)
    assert [turn.id for turn in twin.turns] == [turn.id for turn in session.turns]
    assert twin.turns[0].score == 0.5
    assert twin.options == session.options
    request = wire(model, lambda: twin(question="second"))
    assert all(any("first" in text_of(m) for m in r[1:-1]) for r in request)
    assert len(request) == len(expected)
    assert (len(session), len(twin)) == (1, 2)
    session(question="other")
    twin.rate(0, 1.0)
    assert session.turns[0].score == 0.5
    assert [turn.inputs["question"] for turn in twin.turns] == ["first", "second"]
    assert [turn.inputs["question"] for turn in session.turns] == ["first", "other"]
    twin.undo(2)
    assert len(session) == 2


@pytest.mark.parametrize("how", [how for how in COPIES if how != "copy"])
def test_weights_are_not_shared(model: ScriptedLM, how: str) -> None:
    session = sessionify(Picklable())
    weights = session.dump_state()
    twin = COPIES[how](session)
    for predictor in twin.predictors():
        predictor.demos.append(dspy.Example(question="q", plan="p", answer="a"))
        predictor.signature = predictor.signature.with_instructions("Other.")
    assert session.dump_state() == weights
    assert twin.dump_state() != weights


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_bound_by_itself(model: ScriptedLM, how: str) -> None:
    app = with_memory(Picklable())
    state = app.new_state()
    twin = COPIES[how](app)
    with twin.use_state(state):
        twin(question="first")
    assert len(state) == 1
    assert len(app.own_state) == len(twin.own_state) == 0


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_copy_compiles(model: ScriptedLM, how: str) -> None:
    session = sessionify(Picklable())
    session(question="live secret")
    twin = COPIES[how](COPIES[how](session))
    compiled = dspy.BootstrapFewShot(metric=metric, max_labeled_demos=2).compile(twin, trainset=examples())
    sent = wire(model, lambda: compiled(question="What?"))
    assert "kiwi" in str(sent)
    assert "live secret" not in str(sent)
    assert (len(session), len(twin), len(compiled)) == (1, 1, 1)


IN_PROCESS = [how for how in COPIES if "pickle" not in how]


@pytest.mark.parametrize("how", IN_PROCESS)
def test_copies_keep_callbacks(model: ScriptedLM, how: str) -> None:
    session = sessionify(Pair())
    session.callbacks.append(Counter())
    session.module.writer.callbacks.append(Counter())
    twin = COPIES[how](session)
    assert [type(c) for c in twin.callbacks] == [Counter]
    assert [type(c) for c in twin.module.writer.callbacks] == [Counter]
    twin(question="first")
    assert twin.callbacks[0].calls == 1
    twin.callbacks.clear()
    assert len(session.callbacks) == 1


@pytest.mark.parametrize("how", ["pickle", "cloudpickle"])
def test_pickles_leave_callbacks_behind_as_dspys_do(model: ScriptedLM, how: str) -> None:
    bare, session = dspy.Predict(Question), sessionify(dspy.Predict(Question))
    bare.callbacks.append(Counter())
    session.callbacks.append(Counter())
    assert pickle.loads(pickle.dumps(bare)).callbacks == []
    assert COPIES[how](session).callbacks == []


def test_wrapping_keeps_callbacks(model: ScriptedLM) -> None:
    bare = Pair()
    bare.callbacks.append(Counter())
    session = sessionify(bare)
    session(question="first")
    assert [c.calls for c in session.module.callbacks] == [1]
    session.update_module(bare)
    assert len(session.module.callbacks) == 1


class Counter(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.calls = 0

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.calls += 1


def test_a_copy_made_inside_a_turn_belongs_to_it(model: ScriptedLM) -> None:
    class Asking(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            return copy.deepcopy(self.step)(question=question)

    session = sessionify(Asking())
    session(question="first")
    request = wire(model, lambda: session(question="second"))[0]
    assert any("first" in text_of(m) for m in request[1:-1])


def test_a_traced_session_leaves_nothing_behind_in_its_copies(model: ScriptedLM) -> None:
    session = sessionify(Pair())
    session(question="first")
    with session.replay():
        bootstrap_trace_data(program=session, dataset=examples(), metric=metric, num_threads=2)
    assert len(session) == 1
    for how in ("copy", "deepcopy", "fork", "cloudpickle"):
        twin = COPIES[how](session)
        twin(question="second")
        assert (len(session), len(twin)) == (1, 2)
