"""Turns as values: made by hand, compared, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import dspy
import pytest

from dspy_session import Call, Session, StandIn, Turn, sessionify, with_memory

GIVEN = dspy.History(messages=[{"text": "a", "question": "b", "answer": "c"}])


def made(**more: object) -> Turn:
    return Turn(7, {"text": "in", "question": "q"}, {"answer": "out"}, GIVEN, 0.5, **more)  # type: ignore[arg-type]


def recorded(count: int) -> Session:
    chat = sessionify(dspy.ChainOfThought("question -> answer"), record="calls")
    for number in range(count):
        chat(question=f"q{number}")
    return chat


class Stuck:
    """Cannot be copied."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Stuck({self.name})"

    def __deepcopy__(self, memo: object) -> Stuck:
        raise TypeError("it is stuck")


def test_a_turn_made_by_hand_is_what_it_was_made_of() -> None:
    turn = made(feedback="half right", extras={"why": "so"}, id="t1")
    assert (turn.index, turn.id, turn.score, turn.feedback) == (7, "t1", 0.5, "half right")
    assert (turn.inputs, turn.outputs, turn.extras) == (
        {"text": "in", "question": "q"},
        {"answer": "out"},
        {"why": "so"},
    )
    assert turn.history_snapshot == GIVEN
    assert turn.history_snapshot is turn.history_snapshot
    assert (turn.created_at, turn.model, turn.usage, turn.calls, turn.exact) == (None, None, None, (), True)
    [message] = turn.record.view.messages()
    assert message.input_names == {"text", "question"}
    assert Turn(0, {}, {}).history_snapshot.messages == []
    assert Turn(0, {}, {}).extras == {}


def test_ids_are_made_up_where_none_is_given() -> None:
    first, second = made(), made()
    assert isinstance(first.id, str)
    assert first.id != second.id
    assert first != second


def test_a_turn_of_no_state_keeps_its_own_score() -> None:
    turn = made()
    turn.score = 1.0
    turn.feedback = "right"
    assert (turn.score, turn.feedback) == (1.0, "right")
    turn.score = None
    assert (turn.score, turn.feedback) == (None, "right")
    bare = Turn.of(turn.record)
    assert (bare.score, bare.feedback) == (None, None)
    bare.score = 0.1
    assert (bare.score, turn.score) == (0.1, None)


@pytest.mark.parametrize("place", ["input", "output", "extra"])
def test_a_value_that_cannot_be_copied_is_told_with_its_place(place: str) -> None:
    fields = {
        name: {"field": Stuck(name) if name == place else "plain"} for name in ("input", "output", "extra")
    }
    with pytest.warns(
        UserWarning, match=rf"^the {place} 'field' \(.*:Stuck\) cannot be copied \(it is stuck\)"
    ):
        turn = Turn(0, fields["input"], fields["output"], extras=fields["extra"])
    held = {"input": turn.inputs, "output": turn.outputs, "extra": turn.extras}
    assert held[place] == {"field": f"Stuck({place})"}
    assert isinstance(held[place]["field"], StandIn)


def test_turns_are_equal_if_all_that_they_show_is() -> None:
    turn = made(id="t", feedback="f", extras={"why": "so"})
    same = made(id="t", feedback="f", extras={"why": "so"})
    assert turn == same
    assert len({turn, same}) == 1
    assert turn != made(id="u", feedback="f", extras={"why": "so"})
    assert turn != made(id="t", feedback="g", extras={"why": "so"})
    assert turn != made(id="t", feedback="f", extras={"why": "not"})
    assert turn != Turn(8, turn.inputs, turn.outputs, GIVEN, 0.5, id="t", feedback="f", extras=turn.extras)
    assert turn != Turn(7, turn.inputs, turn.outputs, None, 0.5, id="t", feedback="f", extras=turn.extras)
    assert turn != Turn(7, turn.inputs, turn.outputs, GIVEN, 0.4, id="t", feedback="f", extras=turn.extras)
    assert turn != Turn(7, turn.inputs, {"answer": "x"}, GIVEN, 0.5, id="t", feedback="f", extras=turn.extras)
    assert turn != "t"


def test_hashes_tell_turns_apart() -> None:
    assert len({hash(made()) for _ in range(20)}) > 1


def test_a_deep_copy_has_a_score_of_its_own(lm) -> None:
    chat = recorded(2)
    turn = chat.turns[1]
    turn.score, turn.feedback = 0.5, "half"
    twin = copy.deepcopy(turn)
    assert twin == turn
    assert (twin.score, twin.feedback) == (0.5, "half")
    twin.score = 1.0
    assert (turn.score, chat.turns[1].score) == (0.5, 0.5)
    assert copy.copy(turn) is turn


def test_a_pickled_turn_is_whole(lm) -> None:
    chat = recorded(3)
    turn = chat.turns[2]
    turn.score, turn.feedback = 0.5, "half"
    back = pickle.loads(pickle.dumps(turn))
    assert back == turn
    assert (back.score, back.feedback, back.created_at, back.model) == (
        0.5,
        "half",
        turn.created_at,
        turn.model,
    )
    assert [call.inputs for call in back.calls] == [call.inputs for call in turn.calls]
    assert [call.path for call in back.calls] == ["predict"]
    assert [call.history.messages() for call in back.calls if call.history] == [
        call.history.messages() for call in turn.calls if call.history
    ]
    assert back.calls[0].history is not None
    app = with_memory(dspy.ChainOfThought("question -> answer"))
    app(question="q")
    assert app.turns[0].record.nodes != {}
    assert pickle.loads(pickle.dumps(app.turns[0])).record.nodes == {}


def test_a_call_without_a_history_can_be_pickled() -> None:
    turn = made()
    record = replace(turn.record, calls=(Call("predict", {"a": 1}, {"b": 2}),))
    [call] = pickle.loads(pickle.dumps(Turn.of(record))).calls
    assert (call.path, call.inputs, call.outputs, call.history) == ("predict", {"a": 1}, {"b": 2}, None)


def test_a_pickled_turn_does_not_carry_the_rest_of_the_conversation(lm) -> None:
    sizes = {len(pickle.dumps(replace_times(recorded(count).turns[1]))) for count in (3, 40)}
    assert max(sizes) - min(sizes) < 100


def replace_times(turn: Turn) -> Turn:
    return Turn.of(replace(turn.record, created=0.0, id="t"))
