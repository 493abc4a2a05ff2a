"""A turn's snapshot is exactly what the call was given, whatever happens afterwards."""

from __future__ import annotations

import copy
import pickle

import dspy
import pytest
from wire import search

from dspy_session import Session, Turn, sessionify


class Watching(dspy.Module):
    """Notes the history that it is given, and can spoil it."""

    def __init__(self, spoil=False):
        super().__init__()
        self.inner = dspy.Predict("question -> answer")
        self.given = []
        self.spoil = spoil

    def forward(self, question, history: dspy.History | None = None):
        self.given.append(copy.deepcopy(history.messages))
        answer = self.inner(question=question, history=history)
        if self.spoil:
            history.messages.append({"question": "invented", "answer": "invented"})
            if len(history.messages) > 1:
                history.messages[0]["question"] = "spoiled"
        return answer


def messages(turn):
    return turn.history_snapshot.messages


@pytest.mark.parametrize(
    "options", [{}, {"max_turns": 2}, {"max_stored_turns": 2}, {"exclude_fields": {"answer"}}]
)
@pytest.mark.parametrize("spoil", [False, True])
def test_snapshot_is_what_the_program_was_given(lm, options, spoil):
    chat = sessionify(Watching(spoil), **options)
    kept = []
    for number in range(6):
        chat(question=f"q{number}")
        kept.append(chat.turns[-1])
    assert [messages(turn) for turn in kept] == chat.module.given


def test_snapshots_survive_every_change(lm, tmp_path):
    chat = sessionify(dspy.Predict("question -> answer"), max_stored_turns=5)
    kept = []
    for number in range(8):
        chat(question=f"q{number}")
        kept.append((chat.turns[-1], copy.deepcopy(messages(chat.turns[-1]))))

    def unchanged():
        return all(messages(turn) == was for turn, was in kept)

    chat.edit_turn(-1, outputs={"answer": "edited"})
    assert unchanged()
    fork = chat.fork()
    fork.undo(2)
    fork(question="other")
    assert unchanged()
    chat.undo(2)
    chat.add_turn({"question": "added"}, {"answer": "added"})
    chat(question="after")
    assert unchanged()
    chat.max_turns = 1
    chat.exclude_fields = {"question"}
    assert unchanged()
    expected = [messages(turn) for turn in chat.turns]
    chat.save(tmp_path / "chat.json")
    loaded = Session.load_from(tmp_path / "chat.json", dspy.Predict("question -> answer"))
    assert [messages(turn) for turn in loaded.turns] == expected
    assert all(turn.exact for turn in loaded.turns)
    chat.reset()
    assert unchanged()


def test_the_edit_is_seen_by_later_calls_only(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    chat.edit_turn(0, outputs={"answer": "corrected"})
    chat(question="three")
    assert messages(chat.turns[1]) == [{"question": "one", "answer": "answer 1"}]
    assert messages(chat.turns[2])[0] == {"question": "one", "answer": "corrected"}


def test_a_snapshot_is_a_history_in_every_way(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    snapshot = chat.turns[1].history_snapshot
    plain = dspy.History(messages=[{"question": "one", "answer": "answer 1"}])
    assert isinstance(snapshot, dspy.History)
    assert snapshot == plain
    assert plain == snapshot
    assert hash(snapshot) == hash(chat.fork().turns[1].history_snapshot)
    for twin in (copy.copy(snapshot), copy.deepcopy(snapshot), pickle.loads(pickle.dumps(snapshot))):
        assert twin == snapshot
        assert hash(twin) == hash(snapshot)
    assert snapshot.model_dump() == plain.model_dump()
    assert snapshot.model_dump_json() == plain.model_dump_json()
    assert dspy.History.model_validate(snapshot.model_dump()) == snapshot
    assert repr(snapshot) == repr(plain).replace("dspy.", "")
    assert str(snapshot) == str(plain)
    assert snapshot != dspy.History(messages=[])


def test_a_holder_who_changes_a_snapshot_changes_nothing_else(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    held = chat.turns[1].history_snapshot
    held.messages.append({"question": "x"})
    held.messages[0]["answer"] = "forged"
    assert messages(chat.turns[1]) == [{"question": "one", "answer": "answer 1"}]
    chat.session_history.messages.clear()
    assert len(chat.session_history.messages) == 2
    before = len(lm.requests)
    chat(question="three")
    assert "forged" not in str(lm.requests[before])


def test_a_caller_who_changes_values_later_does_not_change_the_turn(lm):
    chat = sessionify(dspy.Predict("question: list[str] -> answer"))
    asked = ["one"]
    answer = chat(question=asked)
    asked.append("two")
    answer.answer = "forged"
    assert chat.turns[0].inputs == {"question": ["one"]}
    assert chat.turns[0].outputs == {"answer": "answer 1"}
    chat.turns[0].inputs["question"].append("three")
    chat.turns[0].outputs["answer"] = "forged"
    assert chat.turns[0].inputs == {"question": ["one"]}
    assert chat.session_history.messages == [{"question": ["one"], "answer": "answer 1"}]


def test_a_value_that_the_program_keeps_and_changes(lm):
    class Accumulating(dspy.Module):
        def __init__(self):
            super().__init__()
            self.found = []

        def forward(self, question):
            self.found.append(question)
            return dspy.Prediction(found=self.found)

    chat = sessionify(Accumulating())
    chat(question="one")
    chat(question="two")
    assert [turn.outputs["found"] for turn in chat.turns] == [["one"], ["one", "two"]]
    assert messages(chat.turns[1]) == [{"question": "one", "found": ["one"]}]


def test_an_input_that_the_program_changes_is_recorded_as_it_was_given(lm):
    class Emptying(dspy.Module):
        def forward(self, items):
            items.clear()
            return "done"

    chat = sessionify(Emptying())
    chat(items=[1, 2])
    assert chat.turns[0].inputs == {"items": [1, 2]}


def test_a_history_that_is_given_is_copied(lm):
    given = dspy.History(messages=[{"question": "seven", "answer": ["eight"]}])
    chat = sessionify(dspy.Predict("question -> answer"), history_policy="use_if_provided")
    chat(question="one", history=given)
    given.messages[0]["answer"].append("nine")
    given.messages.append({"question": "x", "answer": "y"})
    assert messages(chat.turns[0]) == [{"question": "seven", "answer": ["eight"]}]


def test_the_seed_is_copied(lm):
    seed = dspy.History(messages=[{"question": "seven", "answer": "eight"}])
    chat = sessionify(dspy.Predict("question -> answer"), initial_history=seed)
    seed.messages.clear()
    chat(question="one")
    assert messages(chat.turns[0]) == [{"question": "seven", "answer": "eight"}]
    assert len(chat.session_history.messages) == 2
    chat.reset()
    assert len(chat.session_history.messages) == 1


def test_react_v2_adds_to_a_history_of_its_own(lm):
    def script(chat, names):
        return {
            "next_thought": "think",
            "tool_calls": {"tool_calls": [{"name": "submit", "args": {"answer": f"a{len(chat)}"}}]},
        }

    from dspy_session.testing.lm import ScriptedLM

    with dspy.context(lm=ScriptedLM(script), adapter=None):
        chat = sessionify(dspy.ReActV2("question -> answer", tools=[search]))
        for question in ("one", "two", "three"):
            chat(question=question)
    assert [len(messages(turn)) for turn in chat.turns] == [0, 1, 2]
    assert [set(m) for m in messages(chat.turns[2])] == [{"question", "answer"}] * 2
    assert set(chat.turns[2].outputs) == {"answer"}
    # What the agent added in this turn is kept apart; the conversation is not repeated in every turn.
    assert [len(turn.extras["history"].messages) for turn in chat.turns] == [1, 1, 1]


def test_turns_are_values(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    turn = chat.turns[1]
    for twin in (copy.copy(turn), copy.deepcopy(turn), pickle.loads(pickle.dumps(turn))):
        assert twin == turn
        assert twin.id == turn.id
    assert turn == chat.turns[1]
    assert turn != chat.turns[0]
    assert turn.created_at is not None
    assert turn.created_at.tzinfo is not None
    assert turn.model == "scripted"
    assert turn.usage.total_tokens == 3
    assert turn.usage.calls == 1
    assert turn.score is None
    assert turn.feedback is None
    made = Turn(0, {"question": "x"}, {"answer": "y"}, dspy.History(messages=[]), 0.5)
    assert made.score == 0.5
    assert len(pickle.dumps(turn)) < 5_000


def test_trimming_does_not_renumber_and_forks_share_turns(lm):
    chat = sessionify(dspy.Predict("question -> answer"), max_stored_turns=2)
    ids = []
    for number in range(5):
        chat(question=f"q{number}")
        ids.append(chat.turns[-1].id)
    assert [turn.index for turn in chat.turns] == [3, 4]
    assert [turn.id for turn in chat.turns] == ids[3:]
    fork = chat.fork()
    assert [turn.id for turn in fork.turns] == ids[3:]
    fork.turns[0].score = 0.25
    assert chat.turns[0].score is None
    chat.turns[0].score = 0.75
    assert fork.turns[0].score == 0.25


def test_snapshots_of_exchanges_that_are_no_turns_any_more_survive_a_file(lm, tmp_path):
    chat = sessionify(dspy.Predict("question -> answer"), history_policy="use_if_provided")
    chat(question="zero")
    chat(question="one", history=dspy.History(messages=[]))
    chat(question="two")
    chat.max_turns = 1
    chat.retry()
    chat.edit_turn(0, outputs={"answer": "edited"})
    (branch,) = chat.branches
    assert [m["answer"] for m in messages(branch.turns[2])] == ["answer 1", "answer 2"]
    chat.save(tmp_path / "chat.json")
    loaded = Session.load_from(tmp_path / "chat.json", dspy.Predict("question -> answer"))
    assert loaded.turns == chat.turns
    assert messages(loaded.branches[0].turns[2]) == messages(branch.turns[2])


def test_branches_survive_trimming_and_a_file(lm, tmp_path):
    chat = sessionify(dspy.Predict("question -> answer"), max_stored_turns=3)
    for number in range(4):
        chat(question=f"q{number}")
    chat.retry()
    chat(question="q4")
    chat(question="q5")
    before = [[turn.index for turn in branch.turns] for branch in chat.branches]
    assert before == [[1, 2, 3]]
    chat.save(tmp_path / "chat.json")
    loaded = Session.load_from(tmp_path / "chat.json", dspy.Predict("question -> answer"))
    assert loaded.branches[0].turns == chat.branches[0].turns
    loaded.branches[0](question="goes on")
    loaded.branches[0].edit_turn(2, outputs={"answer": "x"})
