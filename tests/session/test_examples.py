"""Turns as training data."""

from __future__ import annotations

import copy
import pickle

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import model, search

from dspy_session import Session, kfold_examples, sessionify, split_examples
from dspy_session.errors import ConfigurationError
from dspy_session.testing.lm import text_of


@pytest.fixture
def chat(lm):
    session = sessionify(dspy.Predict("question -> answer"))
    for question in ("one", "two", "three"):
        session(question=question)
    return session


def test_each_turn_is_an_example_with_its_history(chat):
    examples = chat.to_examples()
    assert [example.question for example in examples] == ["one", "two", "three"]
    assert [example.answer for example in examples] == ["answer 1", "answer 2", "answer 3"]
    assert [len(example.history.messages) for example in examples] == [0, 1, 2]
    for example in examples:
        assert set(example.inputs().keys()) == {"question", "history"}
        assert set(example.labels().keys()) == {"answer"}
        assert isinstance(example.history, dspy.History)
        hash(example)
        assert pickle.loads(pickle.dumps(example)) == example
        assert copy.deepcopy(example) == example
    assert examples == chat.to_trainset()


def test_without_history(chat):
    (example, *_) = chat.to_examples(include_history=False)
    assert set(example.inputs().keys()) == {"question"}
    assert "history" not in example


def scored(example, prediction, trace=None):
    return {"one": 0.0, "two": 0.7, "three": 1.0}[example.question]


def test_filtering(chat):
    assert [e.question for e in chat.to_examples(min_score=0.5)] == []
    assert [e.question for e in chat.to_examples(metric=scored, min_score=0.5)] == ["two", "three"]
    assert [e.question for e in chat.to_examples(metric=scored, min_score=0.5, strict_trajectory=True)] == []
    chat.rate(0, 1)
    assert [e.question for e in chat.to_examples(min_score=0.8, strict_trajectory=True)] == ["one"]
    assert [e.question for e in chat.to_examples(where=lambda turn: turn.index > 0)] == ["two", "three"]
    with pytest.raises(ConfigurationError, match="min_score"):
        chat.to_examples(min_score="0.5")


def test_outputs_are_required(chat):
    chat.add_turn({"question": "empty"}, {})
    chat.add_turn({"question": "after"}, {"answer": "x"})
    assert [e.question for e in chat.to_examples()] == ["one", "two", "three", "after"]
    assert [e.question for e in chat.to_examples(strict_trajectory=True)] == ["one", "two", "three"]
    assert len(chat.to_examples(require_outputs=False)) == 5


def test_merging(chat):
    other = sessionify(dspy.Predict("question -> answer"))
    other(question="four")
    merged = Session.merge_examples(chat, other, metric=lambda e, p: 1.0, min_score=0.5)
    assert [example.question for example in merged] == ["one", "two", "three", "four"]
    assert Session.merge_examples() == []


def test_an_output_called_like_an_input(lm):
    class Improving(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("draft -> better")

        def forward(self, text):
            return {"text": self.inner(draft=text).better, "history": "made up"}

    chat = sessionify(Improving())
    chat(text="rough")
    chat(text="rougher")
    assert chat.turns[0].inputs == {"text": "rough"}
    assert chat.turns[0].outputs["text"] == "better 1"
    with pytest.warns(UserWarning, match="output_history"), pytest.warns(UserWarning, match="output_text"):
        example = chat.to_examples()[1]
    assert example.text == "rougher"
    assert example.output_text == "better 2"
    assert example.output_history == "made up"
    assert "better 1" in text_of(lm.requests[1][2])
    assert "rough" in text_of(lm.requests[1][1])


def test_extras_are_exported_on_request():
    with dspy.context(lm=model(), adapter=None):
        chat = sessionify(dspy.ReAct("question -> answer", tools=[search]))
        chat(question="one")
    assert set(chat.to_examples()[0].labels().keys()) == {"answer"}
    assert set(chat.to_examples(extras=True)[0].labels().keys()) == {"answer", "trajectory", "reasoning"}
    assert set(chat.to_examples(extras=["reasoning"])[0].labels().keys()) == {"answer", "reasoning"}


def test_what_is_kept_and_what_is_sent_again():
    with dspy.context(lm=model(), adapter=None):
        lm = dspy.settings.lm
        chat = sessionify(dspy.ReAct("question -> answer", tools=[search]))
        chat(question="one")
        assert set(chat.turns[0].outputs) == {"answer"}
        assert set(chat.turns[0].extras) == {"trajectory", "reasoning"}
        chat(question="two")
        assert "trajectory" not in str(lm.requests[2][1:-1])
        thought = sessionify(dspy.ChainOfThought("question -> answer"))
        thought(question="one")
        assert set(thought.turns[0].outputs) == {"reasoning", "answer"}
        asked = sessionify(dspy.ReAct("question -> answer", tools=[search]), history_extras={"reasoning"})
        asked(question="one")
        asked(question="two")
        said = asked.turns[0].extras["reasoning"]
        assert said in str(lm.requests[-1][1:-1])
        assert said in str(lm.requests[-2][1:-1])


def test_history_of_the_fields_that_were_asked_for(lm):
    class Answering(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        context: str = dspy.InputField()
        answer: str = dspy.OutputField()

    for options in ({"exclude_fields": {"context"}}, {"history_input_fields": ["question"]}):
        chat = sessionify(dspy.Predict(Answering), **options)
        chat(question="one", context="long documents")
        chat(question="two", context="other documents")
        assert [set(m) for m in chat.session_history.messages] == [{"question", "answer"}] * 2
        assert set(chat.turns[0].inputs) == {"question", "context"}
        assert "long documents" not in str(lm.requests[-1])
    nothing = sessionify(dspy.Predict(Answering), history_input_fields=())
    nothing(question="one", context="x")
    assert nothing.session_history.messages[0].keys() == {"answer"}


def test_examples_remember_where_they_come_from_and_models_are_not_told(chat, lm):
    example = chat.to_examples()[2]
    assert set(example.keys()) == {"question", "history", "answer"}
    program = dspy.Predict("question, history: dspy.History -> answer")
    program.demos = [example]
    program(question="x", history=dspy.History(messages=[]))
    bootstrapped = sessionify(dspy.Predict("question -> answer"))
    bootstrapped.module.demos = [example]
    bootstrapped(question="x")
    told = str(lm.requests[3:])
    assert chat.state.conversation_id not in told
    assert chat.turns[2].id not in told
    assert "dspy_session" not in told


def test_examples_train_the_bare_program(chat):
    optimizer = dspy.LabeledFewShot(k=2)
    compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=chat.to_examples())
    assert len(compiled.demos) == 2


def conversations(sizes):
    merged = []
    for size in sizes:
        chat = sessionify(dspy.Predict("question -> answer"))
        for number in range(size):
            chat.add_turn({"question": f"q{number}"}, {"answer": "a"})
        merged += chat.to_examples()
    return merged


def conversation(example):
    return example["dspy_session_conversation"]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    ratio=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_splits_share_no_conversation(sizes, ratio, seed):
    examples = conversations(sizes)
    first, second = split_examples(examples, ratio=ratio, seed=seed)
    assert not {conversation(e) for e in first} & {conversation(e) for e in second}
    assert len(first) + len(second) == len(examples)
    assert (first, second) == split_examples(examples, ratio=ratio, seed=seed)
    if len(sizes) > 1:
        assert first
        assert second
        assert abs(len(first) - ratio * len(examples)) <= max(sizes)


@given(sizes=st.lists(st.integers(1, 5), min_size=3, max_size=8), k=st.integers(2, 3))
def test_folds_share_no_conversation(sizes, k):
    examples = conversations(sizes)
    folds = kfold_examples(examples, k=k)
    assert len(folds) == k
    assert sum(len(held_out) for _, held_out in folds) == len(examples)
    for train, held_out in folds:
        assert train
        assert held_out
        assert not {conversation(e) for e in train} & {conversation(e) for e in held_out}


def test_forks_and_loaded_conversations_stay_on_one_side(chat, tmp_path):
    fork = chat.fork()
    fork(question="four")
    chat.save(tmp_path / "a.json")
    loaded = Session.load_from(tmp_path / "a.json", dspy.Predict("question -> answer"))
    examples = Session.merge_examples(chat, fork, loaded)
    assert len({conversation(example) for example in examples}) == 1
    first, second = split_examples(examples)
    assert not first or not second
    by_turn = split_examples(examples, by="turn")
    assert all(by_turn)
    odd = split_examples(examples, by=lambda example: len(example.question))
    assert len(odd[0]) + len(odd[1]) == len(examples)


@pytest.mark.parametrize("options", [{"ratio": 0}, {"ratio": 1.5}, {"ratio": "x"}, {"by": "user"}])
def test_split_checks_its_parameters(chat, options):
    with pytest.raises(ConfigurationError):
        split_examples(chat.to_examples(), **options)


@pytest.mark.parametrize("k", [1, 0, 2.0, True, 5])
def test_folds_check_their_parameters(chat, k):
    with pytest.raises(ConfigurationError):
        kfold_examples(chat.to_examples(), k=k)
