"""What an explicit history does, by policy, for every way in which a program can take one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Optional

import dspy
import pytest

from dspy_session import sessionify
from dspy_session.errors import ConfigurationError, HistoryTypeError
from dspy_session.testing.lm import text_of

if TYPE_CHECKING:
    from dspy import History


class OwnHistory(dspy.History):
    pass


class _Takes(dspy.Module):
    def __init__(self):
        super().__init__()
        self.inner = dspy.Predict("question -> answer")
        self.given = []

    def _run(self, question, history):
        self.given.append(history)
        return self.inner(question=question)


class ByName(_Takes):
    def forward(self, question, history=None):
        return self._run(question, history)


class ByAnnotation(_Takes):
    def forward(self, question, past: dspy.History):
        return self._run(question, past)


class ByOptional(_Takes):
    def forward(self, question, past: Optional[dspy.History] = None):  # noqa: UP045
        return self._run(question, past)


class ByUnion(_Takes):
    def forward(self, question, *, past: dspy.History | None = None):
        return self._run(question, past)


class ByAnnotated(_Takes):
    def forward(self, question, past: Annotated[dspy.History, "told"] = None):
        return self._run(question, past)


class BySubclass(_Takes):
    def forward(self, question, past: OwnHistory = None):
        return self._run(question, past)


class ByTypeCheckingName(_Takes):
    def forward(self, question, past: History | None = None):
        return self._run(question, past)


class ByAsync(_Takes):
    async def aforward(self, question, history: dspy.History):
        self.given.append(history)
        return await self.inner.acall(question=question)

    def forward(self, question, history: dspy.History):
        return self._run(question, history)


GIVEN = dspy.History(messages=[{"question": "seven", "answer": "eight"}])
TAKING = [ByName, ByAnnotation, ByOptional, ByUnion, ByAnnotated, BySubclass, ByTypeCheckingName, ByAsync]
NOT_TAKING = [lambda: dspy.Predict("question -> answer"), lambda: dspy.ChainOfThought("question -> answer")]


@pytest.fixture(params=[False, True], ids=["call", "acall"])
def ask(request):
    def run(session, **inputs):
        return asyncio.run(session.acall(**inputs)) if request.param else session(**inputs)

    run.is_async = request.param
    return run


def made(make, **options):
    import warnings

    with warnings.catch_warnings():
        # That another name wins is said, and tested below.
        warnings.simplefilter("ignore", UserWarning)
        return sessionify(make(), **options)


@pytest.mark.parametrize("make", [*NOT_TAKING, ByName, ByAsync])
def test_override_leaves_no_trace(lm, ask, make):
    if ask.is_async and make is ByName:
        pytest.skip("the program has no async form")
    calls = []
    chat = made(make, on_turn=lambda session, turn: calls.append(turn))
    ask(chat, question="one")
    before = chat.save_state()
    ask(chat, question="two", history=GIVEN)
    assert chat.save_state() == before
    assert len(calls) == 1
    assert "seven" in text_of(lm.requests[1][1])
    assert "one" not in [text_of(message) for message in lm.requests[1]]
    ask(chat, question="three")
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "three"]


@pytest.mark.parametrize("make", NOT_TAKING)
def test_use_if_provided_records(lm, ask, make):
    chat = made(make, history_policy="use_if_provided")
    ask(chat, question="one")
    ask(chat, question="two", history=GIVEN)
    assert len(chat.turns) == 2
    assert chat.turns[1].history_snapshot == GIVEN
    assert "seven" in text_of(lm.requests[1][1])
    ask(chat, question="three")
    assert [m["question"] for m in chat.turns[2].history_snapshot.messages] == ["one", "two"]


@pytest.mark.parametrize("make", NOT_TAKING)
def test_replace_session_starts_anew(lm, ask, make):
    chat = made(make, history_policy="replace_session")
    ask(chat, question="one")
    ask(chat, question="two")
    ask(chat, question="three", history=GIVEN)
    assert [turn.inputs["question"] for turn in chat.turns] == ["three"]
    assert chat.turns[0].index == 0
    assert chat.turns[0].history_snapshot == GIVEN
    ask(chat, question="four")
    assert [m["question"] for m in chat.turns[1].history_snapshot.messages] == ["seven", "three"]
    chat.reset()
    assert chat.session_history == GIVEN


@pytest.mark.parametrize("policy", ["override", "use_if_provided", "replace_session"])
@pytest.mark.parametrize("make", TAKING)
def test_a_program_that_takes_a_history_gets_it(lm, make, policy):
    chat = made(make, history_policy=policy)
    chat(question="one")
    chat(question="two", **{chat.history_field: GIVEN})
    chat(question="three")
    given = chat.module.given
    assert [type(history).__mro__.index(dspy.History) >= 0 for history in given] == [True] * 3
    assert given[0].messages == []
    assert given[1] == GIVEN
    expected = {
        "override": ["one"],
        "use_if_provided": ["one", "two"],
        "replace_session": ["seven", "two"],
    }[policy]
    assert [message["question"] for message in given[2].messages] == expected
    assert "seven" in text_of(lm.requests[1][1])
    assert all(set(turn.inputs) == {"question"} for turn in chat.turns)


def test_another_name_wins_with_a_warning(lm):
    with pytest.warns(UserWarning, match="'past'"):
        chat = sessionify(ByAnnotation())
    assert chat.history_field == "past"
    chat(question="one")
    assert set(chat.to_examples()[0].inputs().keys()) == {"question", "past"}


def test_strict_annotation_takes_no_subclass(lm):
    chat = sessionify(BySubclass(), strict_history_annotation=True)
    chat(question="one")
    assert chat.history_field == "history"
    assert chat.module.given == [None]


def test_none_is_not_given(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two", history=None)
    assert len(chat.turns) == 2
    assert "one" in text_of(lm.requests[1][1])


@pytest.mark.parametrize("bad", [[], "text", {"messages": []}, 7])
def test_anything_else_is_an_error_that_leaves_all_as_it_was(lm, bad):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    with pytest.raises(HistoryTypeError, match=r"dspy\.History"):
        chat(question="two", history=bad)
    with pytest.raises(TypeError):
        chat(question="two", history=bad)
    assert len(chat.turns) == 1
    assert len(lm.requests) == 1


def test_an_empty_history_is_a_history(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two", history=dspy.History(messages=[]))
    assert len(lm.requests[1]) == 2
    assert len(chat.turns) == 1


def test_a_recorded_turn_replays_to_the_byte(lm):
    from wire import Planner, model

    with dspy.context(lm=model()):
        lm = dspy.settings.lm
        chat = sessionify(Planner())
        for question in ("one", "two", "three"):
            chat(question=question)
        live = lm.requests[4:]
        said = iter(["plan", "reasoning", "answer"])
        example = chat.to_examples()[2]
        del said
        lm._script.said = 6
        chat(**example.inputs())
        assert lm.requests[6:] == live
        assert len(chat.turns) == 3


@pytest.mark.parametrize("policy", ["", "Override", None, 3])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(ConfigurationError, match="history_policy"):
        sessionify(dspy.Predict("question -> answer"), history_policy=policy)


def test_other_values_than_histories_of_the_programs_own_parameter(lm):
    class Untyped(dspy.Module):
        def __init__(self):
            super().__init__()
            self.given = []

        def forward(self, question, history=None):
            self.given.append(history)
            return "fine"

    chat = sessionify(Untyped())
    chat(question="one", history="the history of Rome")
    assert chat.module.given == ["the history of Rome"]
