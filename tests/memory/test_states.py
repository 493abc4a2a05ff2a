"""States as data: the whole tree, typed, linear, and early files."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pydantic
import pytest

from dspy_session import Session, SessionState, with_memory
from dspy_session.errors import FormatError, UnsupportedVersionError
from tests.memory.programs import Agent, of_node, past, shown


class Plan(pydantic.BaseModel):
    steps: list[str]


class Typed(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict(dspy.Signature("question -> plan: Plan", custom_types={"Plan": Plan}))
        self.writer = dspy.Predict("question, steps -> answer")

    def forward(self, question):
        plan = self.planner(question=question).plan
        return self.writer(question=question, steps=" ".join(plan.steps))


@pytest.fixture
def typed(lm):
    lm._script = lambda chat, names: {
        name: {"steps": ["look", "leap"]} if name == "plan" else f"some {name}" for name in names
    }
    return lm


def filled(count=3, **options):
    app = with_memory(Agent(), **options)
    state = app.new_state()
    with app.use_state(state):
        for number in range(count):
            app(question=f"q{number}")
    return app, state


def test_a_state_comes_back_whole(lm, tmp_path):
    app, state = filled()
    state.save(tmp_path / "state.json")
    loaded = SessionState.load_from(tmp_path / "state.json")
    assert loaded == state
    assert loaded.to_dict() == state.to_dict()
    lm.requests.clear()
    for each in (state, loaded):
        with app.use_state(each):
            app(question="next")
    assert lm.requests[0] == lm.requests[2]


def test_a_loaded_state_is_undone_by_turn(lm):
    _, state = filled()
    loaded = SessionState.from_dict(json.loads(json.dumps(state.to_dict())))
    for each in (state, loaded):
        each.undo(2)
    assert loaded == state
    assert len(loaded.node_states["planner"]) == 1


def test_after_trimming_too(lm):
    app, state = filled(8, max_stored_turns=3)
    loaded = SessionState.from_dict(state.to_dict())
    assert loaded == state
    assert [turn.index for turn in loaded.node_states["planner"].turns] == [5, 6, 7]
    loaded.undo()
    with app.use_state(loaded):
        app(question="next")
    assert [m.get("question") for m in shown(of_node(lm, "plan")[-1])[::2]] == ["q5", "q6"]


def test_node_logs_that_are_trimmed_by_themselves(lm):
    app, state = filled(6, child_configs={"planner": {"max_stored_turns": 2}})
    loaded = SessionState.from_dict(state.to_dict())
    assert loaded == state
    lm.requests.clear()
    turn = loaded.turns[1]
    app(**turn.inputs, history=turn.history_snapshot)
    assert past(lm.requests[0]) == []
    loaded.undo(6)
    assert loaded.node_states["planner"].turns == []


def test_typed_values_of_nodes(typed, tmp_path):
    app = with_memory(Typed())
    app(question="one")
    app.save(tmp_path / "talk.json")
    loaded = Session.load_from(tmp_path / "talk.json", Typed())
    assert loaded.state.node_states["planner"].turns[0].outputs == {"plan": Plan(steps=["look", "leap"])}
    state = SessionState.from_dict(app.state.to_dict(), types=[Plan])
    assert state.node_states["planner"].turns[0].outputs["plan"].steps == ["look", "leap"]
    with pytest.warns(UserWarning, match="Plan"):
        SessionState.from_dict(app.state.to_dict())


def test_save_carries_the_nodes_of_the_default_state(lm, tmp_path):
    app = with_memory(Agent())
    app(question="one")
    app.save(tmp_path / "talk.json")
    loaded = Session.load_from(tmp_path / "talk.json", Agent())
    assert loaded.state == app.state
    app.reset()
    app.load_conversation(json.loads((tmp_path / "talk.json").read_text()))
    app(question="two")
    assert shown(of_node(lm, "plan")[-1])[0] == {"question": "one"}


def test_size_is_linear(lm):
    sizes = [len(json.dumps(filled(count)[1].to_dict())) for count in (20, 40, 80)]
    assert sizes[2] - sizes[1] < 2.3 * (sizes[1] - sizes[0])


EARLY: dict[str, Any] = {
    "version": 1,
    "turns": [
        {
            "index": 0,
            "inputs": {"question": "one"},
            "outputs": {"answer": "first"},
            "history_snapshot": {"messages": []},
            "score": 0.5,
        }
    ],
    "initial_history": None,
    "l2_memory": "",
    "node_states": {
        "planner": {
            "version": 1,
            "turns": [
                {
                    "index": 0,
                    "inputs": {"question": "one"},
                    "outputs": {"plan": "early plan"},
                    "history_snapshot": {"messages": []},
                    "score": None,
                }
            ],
            "initial_history": None,
            "l2_memory": "remembered",
            "node_states": {},
        }
    },
}


def test_the_first_version(lm):
    state = SessionState.from_dict(EARLY)
    app = with_memory(Agent())
    with app.use_state(state):
        app(question="two")
    assert state.turns[0].score == 0.5
    messages = shown(of_node(lm, "plan")[0])
    assert messages == [{"long_term_memory": "remembered"}, {"question": "one"}, {"plan": "early plan"}]
    state.undo()
    assert len(state.node_states["planner"]) == 1
    again = SessionState.from_dict(state.to_dict())
    assert again.node_states["planner"].l2_memory == "remembered"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 99}, UnsupportedVersionError),
        ({"turns": None}, FormatError),
        ({"turns": [1]}, FormatError),
        ({"l2_memory": 3}, FormatError),
        ({"node_states": {"planner": 4}}, FormatError),
        ({"node_states": [1]}, FormatError),
        ({"summaries": [{"text": "x"}]}, FormatError),
        ({"pending": [{}]}, FormatError),
        ({"branch_nodes": [{"planner": {}}], "branches": [[]]}, FormatError),
    ],
)
@pytest.mark.parametrize("version", [1, 3])
def test_damage_is_a_clear_error(lm, change, error, version):
    if version == 1 and ("summaries" in change or "pending" in change or "branch_nodes" in change):
        change = {**change, "version": 3, "turns": []}
    data = EARLY if version == 1 else filled()[1].to_dict()
    with pytest.raises(error):
        SessionState.from_dict({**data, **change})


def test_new_states(lm):
    app = with_memory(Agent(), initial_history=dspy.History(messages=[{"question": "seed", "answer": "s"}]))
    assert app.new_state().initial_history.messages[0]["question"] == "seed"
    own = app.new_state(initial_history=dspy.History(messages=[]), l2_memory="likes tea")
    assert own.initial_history.messages == []
    with app.use_state(own):
        app(question="q")
    assert len(own) == 1
