"""Metrics and human judgements."""

from __future__ import annotations

import logging

import dspy
import pytest

from dspy_session import sessionify
from dspy_session.errors import ConfigurationError, UnknownPathError


@pytest.fixture
def chat(lm):
    session = sessionify(dspy.Predict("question -> answer"))
    for question in ("one", "two", "three"):
        session(question=question)
    return session


def two(example, prediction):
    return prediction.answer == "answer 2"


def three(example, prediction, trace=None):
    assert trace is None
    return 0.5


def five(gold, pred, trace, pred_name, pred_trace):
    return dspy.Prediction(score=0.25, feedback=f"{gold.question} was answered")


class Callable:
    def __call__(self, example, prediction, trace=None):
        return 1


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        (two, [0.0, 1.0, 0.0]),
        (three, [0.5] * 3),
        (five, [0.25] * 3),
        (Callable(), [1.0] * 3),
        (lambda *args: len(args), [3.0] * 3),
        (lambda example, prediction, *, strict=False: 2, [2.0] * 3),
        (lambda example, prediction: None, [0.0] * 3),
        (lambda example, prediction: {"score": True}, [1.0] * 3),
    ],
)
def test_metrics_of_every_kind(chat, metric, scores):
    assert chat.score(metric) == scores
    assert [turn.score for turn in chat.turns] == scores
    assert all(type(turn.score) is float for turn in chat.turns)


def test_feedback_is_kept(chat):
    chat.score(five)
    assert [turn.feedback for turn in chat.turns] == [f"{q} was answered" for q in ("one", "two", "three")]


def test_a_metric_is_called_once_for_each_turn(chat):
    seen = []

    def metric(example, prediction, trace=None):
        seen.append((example.question, prediction.answer, len(example.history.messages)))
        return 1

    chat.score(metric)
    assert seen == [("one", "answer 1", 0), ("two", "answer 2", 1), ("three", "answer 3", 2)]


def test_gold(chat):
    def same(example, prediction):
        return example.answer == prediction.answer

    gold = [dspy.Example(answer=f"answer {n}") for n in (1, 5, 3)]
    assert chat.score(same, gold=gold) == [1, 0, 1]
    assert chat.score(same, gold=gold[0]) == [1, 0, 0]
    with pytest.raises(ConfigurationError, match="gold"):
        chat.score(same, gold=gold[:2])


def test_a_metrics_error_counts_zero_or_is_raised(chat, caplog):
    def broken(example, prediction, trace=None):
        if example.question == "two":
            raise TypeError("my own mistake about two")
        return 1

    with caplog.at_level(logging.INFO):
        assert chat.score(broken) == [1, 0, 1]
    assert "TypeError" in caplog.text
    chat.score(three)
    chat._options.on_metric_error = "raise"
    with pytest.raises(TypeError, match="my own mistake"):
        chat.score(broken)
    assert [turn.score for turn in chat.turns] == [0.5] * 3


@pytest.mark.parametrize("metric", [lambda: 1, lambda example: 1, "accuracy", None])
def test_what_is_no_metric_is_refused(chat, metric):
    with pytest.raises(ConfigurationError):
        chat.score(metric)


def test_what_is_no_score_is_reported(lm):
    chat = sessionify(dspy.Predict("question -> answer"), on_metric_error="raise")
    chat(question="one")
    with pytest.raises(ConfigurationError, match="str"):
        chat.score(lambda example, prediction: "good")
    assert chat.turns[0].score is None


def test_rate(chat):
    turn = chat.turns[1]
    chat.rate(turn, 0.9, "well said")
    chat.rate(0, 1)
    chat.rate(-1, 0)
    chat.rate(turn.id, 0.8, feedback="on reflection")
    assert [t.score for t in chat.turns] == [1.0, 0.8, 0.0]
    assert turn.score == 0.8
    assert turn.feedback == "on reflection"
    chat.rate(turn, None)
    assert turn.score is None
    for wrong in ("1", True, [1]):
        with pytest.raises(ConfigurationError):
            chat.rate(0, wrong)
    with pytest.raises(ConfigurationError):
        chat.rate(0, 1, feedback=3)
    with pytest.raises(UnknownPathError):
        chat.rate(9, 1)


def test_a_forks_scores_are_its_own(chat):
    chat.rate(0, 0.5)
    fork = chat.fork()
    fork.rate(0, 1.0)
    fork.score(two)
    assert [turn.score for turn in chat.turns] == [0.5, None, None]
    chat.rate(1, 0.1)
    assert fork.turns[1].score == 1.0


def test_a_nan_is_not_a_good_score(chat):
    chat.score(lambda example, prediction: float("nan"))
    assert chat.to_examples(min_score=0.5) == []


def test_extras_reach_the_metric(lm):
    from wire import model, search

    with dspy.context(lm=model()):
        chat = sessionify(dspy.ReAct("question -> answer", tools=[search]))
        chat(question="one")
        assert chat.score(lambda example, prediction: "trajectory" in prediction) == [1.0]
