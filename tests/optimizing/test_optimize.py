"""`Session.optimize`: the documented way to compile a session."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspy_session import Session, errors, sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import Pair, Reflection, examples, feedback, knn_vector, metric, wire


def talked(**options: Any) -> Session:
    session = sessionify(Pair(), **options)
    session(question="Who wrote it?")
    session(question="When?")
    return session


def test_it_takes_the_sessions_own_examples(model: ScriptedLM) -> None:
    session = talked()
    turns, weights = session.turns, session.dump_state()
    asked = len(model.requests)
    compiled = session.optimize(dspy.BootstrapFewShot(metric=lambda *_: True, max_labeled_demos=0))
    # Two requests for each of the two turns, the second turn's with the first in front of the question.
    assert [len(request) for request in model.requests[asked:]] == [2, 2, 4, 4]
    assert [len(p.demos) for p in compiled.predictors()] == [2, 2]
    assert session.turns == turns
    assert session.dump_state() == weights


@pytest.mark.parametrize("conversation", ["keep", "fresh"])
def test_the_conversation(model: ScriptedLM, conversation: Any) -> None:
    session = talked()
    compiled = session.optimize(dspy.LabeledFewShot(k=2), examples(), conversation=conversation)
    assert len(compiled) == (2 if conversation == "keep" else 0)
    request = wire(model, lambda: compiled(question="What?"))[0]
    past = [text_of(m) for m in request if m["role"] == "user"]
    assert any("Who wrote it?" in text for text in past) == (conversation == "keep")
    assert len(session) == 2
    session(question="Only here")
    assert len(compiled) == (3 if conversation == "keep" else 1)


def test_it_keeps_scores_and_goes_its_own_way(model: ScriptedLM) -> None:
    session = talked()
    session.rate(0, 0.5)
    compiled = session.optimize(dspy.LabeledFewShot(k=2))
    assert compiled.turns == session.turns
    compiled.rate(0, 1.0)
    assert session.turns[0].score == 0.5


def test_options_and_policies_are_kept(model: ScriptedLM) -> None:
    session = talked(max_turns=1, record="calls", on_turn=lambda session, turn: None)
    compiled = session.optimize(dspy.LabeledFewShot(k=2))
    assert type(compiled) is type(session)
    assert compiled.options == session.options


def test_an_app_with_memories(model: ScriptedLM) -> None:
    app = with_memory(Pair())
    state = app.new_state()
    with app.use_state(state):
        app(question="Who wrote it?")
        compiled = app.optimize(dspy.LabeledFewShot(k=1))
        assert len(compiled) == 1
    compiled(question="When?")
    assert any("Who wrote it?" in text_of(m) for m in model.requests[-1][1:-1])
    assert len(state) == 1
    assert all(not p.demos for p in app.predictors())
    assert all(p.demos for p in compiled.predictors())


def test_proposers_are_shown_the_program(model: ScriptedLM) -> None:
    session = talked()
    asked = len(model.requests)
    optimizer = dspy.MIPROv2(metric=metric, auto=None, num_candidates=2, max_bootstrapped_demos=1,
                             max_labeled_demos=1, num_threads=1, seed=1)  # fmt: skip
    options = {"minibatch": False, "data_aware_proposer": False, "tip_aware_proposer": False}
    session.optimize(optimizer, examples(), num_trials=2, **options)
    sent = "\n".join(text_of(m) for request in model.requests[asked:] for m in request)
    assert "class Pair(dspy.Module)" in sent
    assert "class Session(" not in sent


def test_gepa_learns_with_the_histories(model: ScriptedLM) -> None:
    session = talked()
    asked = len(model.requests)
    compiled = session.optimize(
        dspy.GEPA(metric=feedback, max_metric_calls=24, reflection_lm=Reflection(), num_threads=1, seed=1)
    )
    assert any(len(request) == 4 for request in model.requests[asked:])
    assert metric(None, compiled(question="What?")) == 1.0


def test_teacher_and_valset_are_passed_on(model: ScriptedLM) -> None:
    session = talked()
    teacher = Pair()
    teacher.writer.demos = [dspy.Example(question="Teach", plan="kiwi", answer="kiwi")]
    optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0)
    compiled = session.optimize(optimizer, examples(), teacher=teacher)
    assert [d.answer for d in compiled.predictors()[1].demos] == ["kiwi", "kiwi"]


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (object(), "compile"),
        (dspy.Ensemble(), "Ensemble"),
        (dspy.LabeledFewShot, "compile|instance"),
    ],
)
def test_what_cannot_optimise(model: ScriptedLM, optimizer: Any, says: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=says):
        talked().optimize(optimizer)


def test_nothing_to_train_on(model: ScriptedLM) -> None:
    with pytest.raises(errors.ConfigurationError, match="nothing to train on"):
        sessionify(Pair()).optimize(dspy.LabeledFewShot(k=1))
    with pytest.raises(errors.ConfigurationError, match="'keep'"):
        talked().optimize(dspy.LabeledFewShot(k=1), conversation="both")  # type: ignore[arg-type]


def test_knn_keeps_its_own_trainset(model: ScriptedLM) -> None:
    session = talked()
    optimizer = dspy.KNNFewShot(
        k=2,
        trainset=examples(),
        vectorizer=dspy.Embedder(knn_vector),
        metric=metric,
        max_bootstrapped_demos=1,
    )
    with pytest.raises(errors.ConfigurationError, match="examples when it is made"):
        session.optimize(optimizer, examples())
    compiled = session.optimize(optimizer)
    assert len(compiled) == 2
    compiled(question="What?")
    assert len(compiled) == 3
    request = model.requests[-1]
    assert any("Who wrote it?" in text_of(m) for m in request)
    assert len(session) == 2
