"""What part of the conversation the model is shown, and what is kept."""

from __future__ import annotations

from itertools import pairwise

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_session import sessionify, windows
from dspy_session.errors import ConfigurationError
from dspy_session.testing.lm import ScriptedLM, text_of

SEED = dspy.History(messages=[{"question": f"s{i}", "answer": "told"} for i in range(3)])


def talk(lm, count, **options):
    chat = sessionify(dspy.Predict("question -> answer"), **options)
    for number in range(count):
        chat(question=f"q{number}")
    return chat


def asked(history):
    return [message["question"] for message in history.messages]


def test_max_turns_shows_the_newest_messages_strictly(lm):
    chat = talk(lm, 5, max_turns=2)
    assert asked(chat.turns[4].history_snapshot) == ["q2", "q3"]
    assert asked(chat.session_history) == ["q3", "q4"]
    assert len(chat.turns) == 5
    assert len(lm.requests[4]) == 1 + 4 + 1
    assert chat.max_turns == 2


def test_max_turns_counts_the_seed(lm):
    chat = talk(lm, 2, max_turns=4, initial_history=SEED)
    assert asked(chat.turns[0].history_snapshot) == ["s0", "s1", "s2"]
    assert asked(chat.session_history) == ["s1", "s2", "q0", "q1"]


def test_max_stored_turns_forgets(lm):
    chat = talk(lm, 5, max_stored_turns=3)
    assert [turn.index for turn in chat.turns] == [2, 3, 4]
    assert asked(chat.session_history) == ["q2", "q3", "q4"]
    chat.add_turn({"question": "added"}, {"answer": "a"})
    assert [turn.index for turn in chat.turns] == [3, 4, 5]
    assert len(chat) == 3
    chat.undo(5)
    assert len(chat) == 0
    chat(question="again")
    assert len(chat) == 1


def test_turns_window_can_keep_the_seed(lm):
    chat = talk(lm, 4, window=windows.turns(2, keep_initial=True), initial_history=SEED)
    assert asked(chat.session_history) == ["s0", "s1", "s2", "q2", "q3"]


def test_blocks_move_rarely_and_never_exceed(lm):
    chat = talk(lm, 40, window=windows.blocks(high=6, low=2))
    shown = [asked(turn.history_snapshot) for turn in chat.turns]
    lengths = [len(history) for history in shown]
    assert max(lengths) == 6
    assert min(lengths[6:]) == 2
    cuts = sum(after[: len(before)] != before for before, after in pairwise(shown))
    assert cuts == 7
    # The newest is always there.
    assert all(history[-1] == f"q{number}" for number, history in enumerate(shown[1:]))


@given(
    low=st.integers(1, 6),
    more=st.integers(1, 6),
    head=st.integers(0, 4),
    turns=st.integers(0, 40),
    keep=st.booleans(),
)
def test_blocks_as_a_function(low, more, head, turns, keep):
    from dspy_session._exchange import ALL_FIELDS, Exchange, Message
    from dspy_session.history import HistoryView, Position
    from dspy_session.turns import TurnRecord

    records = [TurnRecord(i, Exchange({"q": i}, {"a": i}), HistoryView()) for i in range(turns)]
    seed = tuple(Message({"q": -1 - i}, ["q"]) for i in range(head))
    view = HistoryView.at(Position.of(records), seed, ALL_FIELDS)
    shown = windows.blocks(high=low + more, low=low, keep_initial=keep)(view)
    everything = view.messages()
    if keep:
        assert shown.messages()[:head] == list(seed)
        tail, limit, whole = shown.messages()[head:], low + more, everything[head:]
    else:
        tail, limit, whole = shown.messages(), low + more, everything
    assert len(tail) <= limit
    assert tail == whole[len(whole) - len(tail) :]
    assert len(tail) >= min(low, len(whole))


def test_blocks_after_trimming_what_is_stored(lm):
    whole = talk(lm, 30, window=windows.blocks(high=6, low=2))
    stored = talk(lm, 30, window=windows.blocks(high=6, low=2), max_stored_turns=10)
    assert asked(whole.session_history) == asked(stored.session_history)
    assert asked(stored.session_history)[-1] == "q29"


def test_tokens_fit_the_budget(lm):
    chat = talk(lm, 10, window=windows.tokens(30, count=lambda message: 10))
    assert asked(chat.session_history) == ["q7", "q8", "q9"]
    chat.window = windows.tokens(5, count=lambda message: 10)
    assert asked(chat.session_history) == []
    chat.window = windows.tokens(100_000)
    assert len(asked(chat.session_history)) == 10
    kept = talk(lm, 4, window=windows.tokens(50, count=lambda m: 10, keep_initial=True), initial_history=SEED)
    assert asked(kept.session_history) == ["s0", "s1", "s2", "q2", "q3"]


def test_a_window_of_ones_own(lm):
    chat = talk(lm, 3, window=lambda view: view.last(1))
    assert asked(chat.session_history) == ["q2"]
    chat.window = lambda view: [1, 2]
    with pytest.raises(ConfigurationError, match="list"):
        chat(question="x")
    assert len(chat) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_turns": 0}, {"max_turns": -1}, {"max_turns": 1.5}, {"max_turns": "3"}, {"max_turns": True},
        {"max_stored_turns": 0}, {"max_stored_turns": -2}, {"max_stored_turns": "x"},
        {"window": 5}, {"window": windows.turns}, {"window": "turns"},
        {"window": windows.turns(3), "max_turns": 2},
        {"exclude_fields": "answer"}, {"exclude_fields": 3}, {"exclude_fields": [1]},
        {"history_input_fields": "question"}, {"history_extras": "reasoning"},
        {"history_input_fields": {"a"}, "input_field_override": {"a"}},
        {"history_field": ""}, {"history_field": 3}, {"history_field": "not a name"},
        {"on_metric_error": "ignore"}, {"copy_mode": "deepest"}, {"lock": "process"}, {"lock": None},
        {"busy": "drop"}, {"record": "all"}, {"unbound": "new"}, {"on_overflow": "cut"},
        {"on_turn": "print"}, {"strict_history_annotation": "yes"},
    ],
    ids=str,
)  # fmt: skip
def test_every_parameter_is_checked(options):
    with pytest.raises(ConfigurationError):
        sessionify(dspy.Predict("question -> answer"), **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: windows.turns(0), lambda: windows.turns(1.0), lambda: windows.turns(True),
        lambda: windows.blocks(5, 5), lambda: windows.blocks(2, 0), lambda: windows.blocks("5", 2),
        lambda: windows.tokens(0), lambda: windows.tokens(10, count=3), lambda: windows.tokens("10"),
    ],
)  # fmt: skip
def test_every_window_checks_its_parameters(make):
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.parametrize(
    ("name", "value"), [("max_turns", 0), ("lock", "x"), ("window", 3), ("history_field", "")]
)
def test_changing_an_option_is_checked_too(lm, name, value):
    chat = talk(lm, 1)
    with pytest.raises(ConfigurationError):
        setattr(chat, name, value)
    chat(question="still works")


def test_a_module_must_be_one():
    for wrong in (dspy.Predict, "question -> answer", None):
        with pytest.raises(ConfigurationError, match=r"dspy\.Module"):
            sessionify(wrong)
    with pytest.raises(TypeError):
        sessionify(dspy.Predict("question -> answer"), max_turn=3)


def limited(most):
    def script(chat, names):
        if len(chat) > most:
            raise dspy.ContextWindowExceededError(model="scripted", message="too long")
        return {"answer": "fine"}

    return ScriptedLM(script)


def test_overflow_is_raised_by_default():
    with dspy.context(lm=limited(6), adapter=None):
        chat = talk(None, 3)
        with pytest.raises(dspy.ContextWindowExceededError):
            chat(question="q3")
        assert len(chat) == 3


def test_overflow_trims_and_asks_again():
    with dspy.context(lm=limited(6), adapter=None):
        chat = talk(None, 8, on_overflow="trim", initial_history=dspy.History(messages=[]))
    assert len(chat) == 8
    lengths = [len(turn.history_snapshot.messages) for turn in chat.turns]
    assert lengths[:3] == [0, 1, 2]
    assert max(lengths) <= 2
    assert all(lengths[i] >= 1 for i in range(1, 8))


def test_overflow_that_no_trimming_helps():
    with dspy.context(lm=limited(1), adapter=None):
        chat = sessionify(dspy.Predict("question -> answer"), on_overflow="trim")
        for number in range(3):
            chat.add_turn({"question": f"q{number}"}, {"answer": "a"})
        with pytest.raises(dspy.ContextWindowExceededError):
            chat(question="x")
        assert len(chat) == 3


def test_a_window_never_begins_with_a_reply(lm):
    chat = sessionify(dspy.Predict("question -> answer"), max_turns=1)
    chat.add_turn({"question": "one"}, {"answer": "a"})
    chat.add_turn({}, {"answer": "unasked"})
    chat(question="two")
    assert lm.requests[0][1]["role"] == "user"
    assert "unasked" in text_of(lm.requests[0][1])
