"""Histories as values: what a holder can do with one, and what a place in a long log costs."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal

import dspy
import pytest

from dspy_session import Session, StandIn, Turn, sessionify, windows
from dspy_session._exchange import Exchange, Projection
from dspy_session.history import HistoryView, Log, Position, messages_of


def talk(count: int, **options: object) -> Session:
    chat = sessionify(dspy.Predict("topic, question -> answer"), **options)
    for number in range(count):
        chat(topic=f"t{number}", question=f"q{number}")
    return chat


def plain(count: int) -> list[dict[str, str]]:
    return [{"topic": f"t{n}", "question": f"q{n}", "answer": f"answer {n + 1}"} for n in range(count)]


def test_an_empty_history_can_be_hashed_and_compared(lm):
    first = talk(1).turns[0].history_snapshot
    assert len({first, copy.deepcopy(first), sessionify(dspy.Predict("a -> b")).session_history}) == 1
    assert first == dspy.History(messages=[])


def test_a_copy_with_other_messages(lm):
    snapshot = talk(3).turns[2].history_snapshot
    shorter = snapshot.model_copy(update={"messages": plain(1)})
    assert shorter.messages == plain(1)
    assert type(shorter) is dspy.History
    assert snapshot.model_copy().messages == snapshot.messages == plain(2)


@pytest.mark.parametrize(("options", "deep"), [({"deep": True}, True), ({"deep": False}, False), ({}, False)])
def test_a_deep_copy_shares_nothing(lm, options, deep):
    chat = sessionify(dspy.Predict("question: list[str] -> answer"))
    chat(question=["one"])
    held = chat.session_history
    assert held.messages[0]["question"] == ["one"]
    twin = held.model_copy(**options)
    twin.messages[0]["question"].append("two")
    assert held.messages[0]["question"] == (["one"] if deep else ["one", "two"])


def test_a_changed_history_is_copied_as_it_is_now(lm):
    held = talk(2).turns[1].history_snapshot
    held.messages.append({"question": "x", "tags": ["a"]})
    for twin in (copy.copy(held), copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        held.messages[1]["tags"].append("b")
        assert twin.messages == [*plain(1), {"question": "x", "tags": ["a"]}]
        held.messages[1]["tags"].pop()
        assert twin == held


def test_a_copy_of_a_snapshot_still_repeats_its_turn_exactly(lm):
    chat = sessionify(dspy.Predict("question -> answer"), record="calls")
    chat(question="one")
    chat(question="two")
    snapshot = chat.turns[1].history_snapshot
    assert snapshot.record is not None
    for twin in (copy.copy(snapshot), copy.deepcopy(snapshot)):
        assert twin.record is snapshot.record
        assert twin.view is snapshot.view


def test_messages_that_nobody_changed_still_know_their_inputs(lm):
    held = talk(3).session_history
    held.messages.append({"topic": "t", "question": "x", "answer": "y"})
    held.messages[1]["answer"] = "changed"
    shown = messages_of(held)
    inputs = [getattr(message, "input_names", None) for message in shown]
    both = {"topic", "question"}
    assert inputs == [both, None, both, None]
    view = HistoryView.of(held, ["question"])
    assert [message.input_names for message in view.head] == [both, {"question"}, both, {"question"}]
    assert view.messages() == held.messages


def test_a_history_with_fewer_messages_than_it_had(lm):
    held = talk(3).session_history
    assert held.added() == []
    del held.messages[1:]
    assert messages_of(held) == plain(1)
    assert held.added() == []
    held.messages.extend([*plain(3)[1:], {"question": "more"}])
    assert held.added() == [{"question": "more"}]


def test_views_are_equal_if_their_messages_are(lm):
    view = talk(2).turns[1].history_snapshot.view
    assert view == HistoryView.of(dspy.History(messages=plain(1)))
    assert hash(view) == hash(HistoryView.of(dspy.History(messages=plain(1))))
    assert view != HistoryView.of(dspy.History(messages=plain(2)))
    assert view != plain(1)
    assert view.detached() == view
    assert view.detached().exchanges == []
    later = talk(9, max_stored_turns=3).session_history.view
    assert (later.start, len(later)) == (6, len(later.messages()))
    assert later.start > 0


def test_a_token_window_after_the_oldest_turns_were_let_go(lm):
    chat = talk(12, max_stored_turns=3, window=windows.tokens(2, count=lambda message: 1))
    assert [turn.index for turn in chat.turns] == [9, 10, 11]
    assert [message["question"] for message in chat.session_history.messages] == ["q10", "q11"]


def test_letting_go_of_the_oldest_copies_seldom(lm):
    chat = talk(0, max_stored_turns=8)
    logs: list[Log] = []
    for number in range(40):
        chat(topic="t", question=f"q{number}")
        log = chat.state.position.log
        if not any(log is other for other in logs):
            logs.append(log)
        assert len(log.records) <= 2 * 8 + 1
    assert len(logs) < 40 / 8 + 1


def test_the_last_turns_of_a_place(lm):
    place = talk(6, max_stored_turns=5).state.position
    assert [record.index for record in place.keep_last(2).records()] == [4, 5]
    assert place.keep_last(2).last().index == 5
    assert place.keep_last(9) is place
    assert len(place.keep_last(0)) == 0
    assert place.keep_last(0).last() is None


def test_a_place_is_made_of_turns_with_any_index(lm):
    records = talk(6).state.position.records()[2:5]
    place = Position.of(records)
    assert (place.start, place.stop, place.log.base, len(place)) == (2, 5, 2, 3)
    assert place.records() == records
    assert place.back_to(4).records() == records[:2]
    assert place.back_to(0).records() == []
    assert place.back_to(9) == place
    assert Position.of([]).records() == []
    empty = Position()
    assert empty.append(records[0]).log is empty.log


def test_two_branches_grow_from_one_place(lm):
    chat = talk(3)
    place, more = chat.state.position, talk(1).state.position.records()[0]
    first, second = place.back_to(2).append(more), place.back_to(2).append(more)
    assert [len(first), len(second), len(place)] == [3, 3, 3]
    assert first.records()[-1] is second.records()[-1] is more
    assert place.records()[-1] is not more
    third = place.append(more)
    assert third.log is place.log
    assert place.append(more).log is not place.log
    assert third.log.exchanges == [record.exchange for record in third.log.records]
    later = talk(9, max_stored_turns=3).state.position
    branch = later.back_to(8).append(more)
    assert branch.records() == [*later.records()[:2], more]


def test_values_that_cannot_change_are_not_copied(lm):
    chat = sessionify(dspy.Predict("price: Decimal -> answer", custom_types={"Decimal": Decimal}))
    price = Decimal("1.20")
    chat(price=price)
    assert chat.turns[0].inputs["price"] is price
    assert chat.turns[0].history_snapshot.messages == []
    assert chat.session_history.messages[0]["price"] is price


def test_a_seed_and_turns_that_were_let_go(lm):
    seed = dspy.History(messages=[{"question": f"s{n}", "answer": "a"} for n in range(3)])
    chat = talk(8, initial_history=seed, max_stored_turns=2, max_turns=4)
    shown = [message["question"] for message in chat.session_history.messages]
    assert shown == ["s1", "s2", "q6", "q7"]


def test_the_first_field_of_a_message_of_another_program_went_in():
    two = {"text": "in", "label": "out"}
    view = HistoryView.of(dspy.History(messages=[two, {"only": "out"}]), ["question"])
    assert [message.input_names for message in view.head] == [{"text"}, set()]


def test_what_is_read_of_a_turn_is_the_readers_own_to_the_bottom(lm):
    chat = sessionify(dspy.Predict("question: list[list[str]] -> answer"))
    chat(question=[["one"]])
    chat.turns[0].inputs["question"][0].append("two")
    chat.session_history.messages[0]["question"][0].append("two")
    assert chat.turns[0].inputs == {"question": [["one"]]}
    assert chat.session_history.messages[0]["question"] == [["one"]]


class Once:
    """Can be copied one time."""

    def __init__(self, left: int = 1) -> None:
        self.left = left

    def __repr__(self) -> str:
        return "Once()"

    def __deepcopy__(self, memo: object) -> Once:
        if not self.left:
            raise TypeError("not again")
        return Once(self.left - 1)


def test_a_value_that_can_be_copied_no_more_is_read_as_its_text():
    turn = Turn(0, {"question": Once()}, {})
    assert isinstance(turn.inputs["question"], StandIn)
    assert turn.inputs["question"] == "Once()"
    assert turn.inputs["question"].type_name.endswith("Once")


def test_a_value_of_a_given_history_that_cannot_be_copied():
    stuck = Once(0)
    with pytest.warns(UserWarning, match="^the history's field 'question' .*:Once.* cannot be copied"):
        view = HistoryView.of(dspy.History(messages=[{"question": stuck, "answer": "a"}]))
    [shown] = view.messages()
    assert (shown["question"], type(shown["question"])) == ("Once()", StandIn)


def test_a_history_is_all_that_pydantic_expects(lm):
    snapshot, plain_one = talk(2).turns[1].history_snapshot, dspy.History(messages=plain(1))
    for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        assert getattr(snapshot, name) == getattr(plain_one, name)
    assert not hasattr(snapshot, "turns")
    assert not hasattr(type(snapshot).__new__(type(snapshot)), "messages")


def test_the_messages_of_whatever_is_given_for_a_history(lm):
    snapshot = talk(2).turns[1].history_snapshot
    forms = [snapshot, dspy.History(messages=plain(1)), {"messages": plain(1)}]
    assert [messages_of(form) for form in forms] == [plain(1)] * 3
    assert [messages_of(form) for form in ({}, {"messages": None}, None, 3)] == [[]] * 4


def test_a_window_that_takes_the_last_leaves_the_seed_out(lm):
    seed = dspy.History(messages=[{"question": "s", "answer": "a"}])
    chat = talk(3, initial_history=seed, window=lambda view: view.last(2))
    assert [message["question"] for message in chat.session_history.messages] == ["q1", "q2"]
    chat.window = lambda view: view.last(2, keep_head=True)
    assert [message["question"] for message in chat.session_history.messages] == ["s", "q1", "q2"]


def test_a_projection_says_which_inputs_are_shown(lm):
    assert talk(1, exclude_fields={"topic"}).session_history.messages[0].keys() == {"question", "answer"}
    assert talk(1, history_input_fields=["topic"]).session_history.messages[0].keys() == {"topic", "answer"}
    both = talk(1, history_input_fields=["topic"], exclude_fields={"topic"})
    assert both.session_history.messages[0].keys() == {"answer"}


def test_an_exchange_makes_one_message_for_a_projection():
    exchange = Exchange({"text": "in"}, {"text": "out"}, {"why": "so"})
    shown = exchange.message(Projection())
    assert shown == {"text": "in", "output_text": "out"}
    assert exchange.message(Projection()) is shown
    assert shown.key is not None
    assert shown.key != Exchange({"text": "in"}, {"text": "out"}).message(Projection()).key
    given = HistoryView.of(dspy.History(messages=plain(1))).head[0]
    assert given.key is None
    assert exchange.message(Projection(extras=frozenset({"why"}))) == {**shown, "why": "so"}
    assert exchange.message(Projection(exclude=frozenset({"text"}))) == {}
