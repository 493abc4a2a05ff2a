"""Served conversations as training data."""

from __future__ import annotations

import datetime

import dspy
import pytest

from dspy_session import errors, sessionify, split_examples

from .programs import Broken, chat
from .test_block import Point, Where


def serve(store, lm):
    app = chat()
    for user in range(4):
        with app.conversation(f"user-{user}", store=store, scope="t"):
            for number in range(3):
                app(question=f"{user}: question {number}")
            app.turns[1].score = user / 4
    with app.conversation("elsewhere", store=store, scope="other"):
        app(question="not for you")


def test_each_turn_is_an_example_with_its_history(store, lm):
    serve(store, lm)
    examples = store.examples(scope="t")
    assert len(examples) == 12
    first = [example for example in examples if example.question.startswith("2:")]
    assert [len(example.history.messages) for example in first] == [0, 1, 2]
    assert set(first[0].inputs().keys()) == {"question", "history"}
    replay = chat()
    assert replay(**first[2].inputs()).answer
    assert len(replay) == 0


def test_scores_metrics_and_choices(store, lm):
    serve(store, lm)
    assert [e.question for e in store.examples(scope="t", min_score=0.5)] == [
        "2: question 1",
        "3: question 1",
    ]
    judged = []

    def metric(example, prediction, trace=None):
        judged.append(prediction.answer)
        return "question 2" in example.question

    assert len(store.examples(scope="t", metric=metric, min_score=1)) == 4
    assert len(judged) == 12
    assert len(store.examples(scope="t", where=lambda turn: turn.index == 0)) == 4
    assert len(store.examples(scope="t", metric=lambda e, p: 1 / 0)) == 12
    with pytest.raises(ZeroDivisionError):
        store.examples(scope="t", metric=lambda e, p: 1 / 0, on_metric_error="raise")
    assert store.examples(scope="nobody") == []


def test_since(store, lm):
    serve(store, lm)
    moment = datetime.datetime.now(datetime.timezone.utc)
    app = chat()
    with app.conversation("user-0", store=store, scope="t"):
        app(question="later")
    assert [e.question for e in store.examples(scope="t", since=moment)] == ["later"]
    assert len(store.examples(scope="t", since="2026-01-01")) == 13
    assert store.examples(scope="t", since="2999-01-01T00:00:00+02:00") == []
    for wrong in ("yesterday", 5):
        with pytest.raises(errors.ConfigurationError, match="ISO 8601"):
            store.examples(since=wrong)


def test_forks_are_on_one_side_and_shared_turns_count_once(store, lm):
    serve(store, lm)
    store.fork("user-0", "what-if", scope="t")
    app = chat()
    with app.conversation("what-if", store=store, scope="t"):
        app(question="0: what if")
    examples = store.examples(scope="t")
    assert len(examples) == 13
    for seed in range(8):
        train, test = split_examples(examples, 0.5, seed=seed)
        users = [{example.question.partition(":")[0] for example in part} for part in (train, test)]
        assert not users[0] & users[1]


def test_typed_examples(memory, lm):
    lm._script = lambda chat, names: {"place": '{"x": 1, "y": 2}'}
    app = sessionify(dspy.Predict(Where))
    with app.conversation("k", store=memory):
        app(what="tea", near=Point(x=3))
    assert memory.examples(types=[Point])[0].place == Point(x=1, y=2)
    with pytest.warns(UserWarning, match="pass types="):
        assert memory.examples()[0].place != Point(x=1, y=2)


def test_an_early_history_field_is_kept(memory, lm):
    app = chat(history_field="past")
    with app.conversation("k", store=memory):
        app(question="one")
    assert set(memory.examples()[0].inputs().keys()) == {"question", "past"}


def test_a_conversation_that_is_erased_meanwhile(memory, lm):
    serve(memory, lm)

    class Erasing(Broken):
        def list(self, **options):
            rows = super().list(**options)
            self.inner.erase("user-1", scope="t")
            return rows

    assert len(Erasing(memory).examples(scope="t")) == 9
