"""States as data: the whole tree, typed, linear, and early files."""

from __future__ import annotations

import json
import warnings
from typing import Any

import dspy
import pydantic
import pytest

from dspy_session import Session, SessionState, sessionify, with_memory
from dspy_session._exchange import Exchange
from dspy_session.errors import FormatError, SerializationError, UnsupportedVersionError
from dspy_session.history import HistoryView
from dspy_session.turns import TurnRecord
from tests.conversations.programs import Opaque, Passing, opaque_places, whole
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


# ── branches, episodes and memories in files ─────────────────────────────────────────────────────────────────


class Seldom(dspy.Module):
    """Plans only where a plan is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question):
        plan = self.planner(question=question).plan if "plan" in question else "none"
        return self.writer(question=question, plan=plan)


def again(state, *, whole=True):
    """A state that was written and read; whole, unless nodes have let go of turns that marks speak of."""
    wire = json.loads(json.dumps(state.to_dict()))
    read = SessionState.from_dict(wire)
    assert not whole or read.to_dict() == wire
    return read


def said(state):
    """What was said in a state and in its nodes, and where."""
    turns = [(turn.index, turn.id, turn.inputs, turn.outputs) for turn in state.turns]
    return turns, state.l2_memory, {path: said(node) for path, node in sorted(state.node_states.items())}


def branches(app, state):
    with app.use_state(state):
        return app.branches


def down(past_memory, episode_transcript):
    raise ConnectionError


@pytest.mark.parametrize("options", [{}, {"child_configs": {"planner": {"max_stored_turns": 2}}}])
def test_branches_of_nodes_come_back(lm, options):
    app = with_memory(Seldom(), **options)
    for question in ("plan a", "b", "plan c", "plan d", "plan e"):
        app(question=question)
    app.retry()
    app(question="f")
    app.retry()
    app.undo()
    app.retry()
    ours, theirs = app.branches, branches(app, again(app.state, whole=not options))
    assert [said(branch.state) for branch in theirs] == [said(branch.state) for branch in ours]
    for branch in (*ours, *theirs):
        branch(question="plan z")
    for one, two in zip(ours, theirs, strict=True):
        assert [len(node.turns) for node in one.state.node_states.values()] == [
            len(node.turns) for node in two.state.node_states.values()
        ]
        two.undo()
        one.undo()
        assert said(one.state) == said(two.state)


def test_a_branch_is_written_from_where_it_leaves_the_conversation(lm):
    app = with_memory(Seldom())
    for question in ("plan a", "b", "plan c"):
        app(question=question)
    app.retry()
    app.rate(2, 1.0, "better")
    app.retry()
    wire = app.state.to_dict()
    assert [[turn["index"] for turn in branch] for branch in wire["branches"]] == [[2], [2]]
    for nodes in wire["branch_nodes"]:
        planner, writer = nodes["planner"], nodes["writer"]
        assert (planner["stop"], [turn["index"] for turn in planner["turns"]]) == (1, [1])
        assert (writer["stop"], [turn["index"] for turn in writer["turns"]]) == (2, [2])
    [_, better] = branches(app, again(app.state))
    # Of what nodes were shown in an answer that was replaced, nothing is kept.
    assert better.state.node_states["planner"].turns[1].history_snapshot.messages == []
    assert (better.turns[2].score, better.turns[2].feedback) == (1.0, "better")


def test_a_node_that_was_not_asked_has_nothing_of_its_own_in_a_branch(lm):
    app = with_memory(Seldom())
    app(question="plan a")
    app(question="b")
    app.retry()
    [nodes] = app.state.to_dict()["branch_nodes"]
    assert nodes["planner"] == {"stop": 1, "turns": [], "memory": ""}
    [branch] = branches(app, again(app.state))
    assert said(branch.state) == said(app.branches[0].state)


def test_memories_and_what_waits_come_back(lm):
    def remember(past_memory, episode_transcript):
        if "fail" in episode_transcript and "at last" not in episode_transcript:
            raise ConnectionError
        return f"{past_memory}+{episode_transcript.count('- turn')}"

    config = {"lifespan": "episodic", "consolidator": remember}
    app = with_memory(Seldom(), child_configs={"planner": config})
    for question in ("plan a", "plan b", "fail plan c", "d", "plan e"):
        app(question=question)
    node = app.state.node_states["planner"]
    assert (node.l2_memory, len(node.pending)) == ("+1+1", 2)
    loaded = again(app.state)
    for steps in range(5):
        assert whole(loaded) == whole(app.state), steps
        loaded.undo()
        app.undo()
    assert loaded.node_states["planner"].l2_memory == ""


def test_what_waits_is_written_once(lm):
    keeper = {"lifespan": "episodic", "consolidator": down}
    app = with_memory(Seldom(), child_configs={"planner": keeper})
    for number in range(4):
        app(question=f"plan {number}")
    waiting = app.state.node_states["planner"].pending
    assert [episode.turn_id for episode in waiting] == [turn.id for turn in app.turns]
    wire = app.state.to_dict()
    # A mark is of before its turn: the episode of the last turn is in none.
    assert [episode["turn"] for episode in wire["episodes"]["planner"]] == [turn.id for turn in app.turns[:3]]
    assert [turn["nodes"]["planner"]["pending"] for turn in wire["turns"]] == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert [episode.turn_id for episode in again(app.state).node_states["planner"].pending] == [
        turn.id for turn in app.turns
    ]


def test_a_branch_that_was_read_is_marked_by_its_own_nodes(lm):
    app = with_memory(Seldom())
    app(question="plan a")
    app(question="plan b")
    app.retry(question="c")
    [branch] = branches(app, again(app.state))
    mark = branch.state.turns[1]._record.nodes["planner"]
    assert [record.exchange.inputs["question"] for record in mark.after.records()] == ["plan a", "plan b"]
    branch.undo()
    assert [turn.inputs for turn in branch.state.node_states["planner"].turns] == [{"question": "plan a"}]


def test_branches_without_their_nodes_are_damage(lm):
    app = with_memory(Seldom())
    app(question="plan a")
    app.retry()
    app.retry()
    wire = app.state.to_dict()
    del wire["branch_nodes"][1]
    with pytest.raises(FormatError, match="damaged"):
        SessionState.from_dict(wire)


def test_what_cannot_be_written_is_named_with_its_node(lm):
    def places(state):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state.to_dict()
        found = opaque_places(caught)
        return sorted(found)

    app = with_memory(Passing())
    app(question="a")
    assert places(app.state) == ["node node, turn 0, inputs, field 'thing'"]
    app.retry()
    assert places(app.state) == [
        "node node, inputs, field 'thing'",
        "node node, turn 0, inputs, field 'thing'",
    ]
    keeper = {"lifespan": "episodic", "consolidator": down}
    episodic = with_memory(Passing(), child_configs={"node": keeper})
    episodic(question="a")
    episodic(question="b")
    assert places(episodic.state) == [
        "an episode, inputs, field 'thing'",
        "node node, an episode, inputs, field 'thing'",
    ]
    recorded = sessionify(Passing(), record="calls")
    recorded(question="a")
    assert places(recorded.state) == ["turn 0, call of node, field 'thing'"]

    class Odd(dspy.Predict):
        def forward(self, **kwargs):
            return dspy.Prediction(answer=Opaque())

    class Telling(dspy.Module):
        def __init__(self):
            super().__init__()
            self.odd = Odd("question -> answer")

        def forward(self, question):
            self.odd(question=question)
            return dspy.Prediction(answer="fine")

    telling = sessionify(Telling(), record="calls")
    telling(question="a")
    assert places(telling.state) == ["turn 0, call of odd, field 'answer'"]
    seeded = sessionify(dspy.Predict("question -> answer"))
    seeded.state.set_head(dspy.History(messages=[{"question": Opaque()}]))
    assert places(seeded.state) == ["history, field 'question'"]


def test_a_strict_file_refuses_what_nodes_cannot_write(lm, tmp_path):
    app = with_memory(dspy.Predict("question -> answer"))
    app(question="a")
    app.state.node("node").append(TurnRecord(0, Exchange({"thing": Opaque()}, {}), HistoryView()))
    with pytest.raises(SerializationError, match=r"^node node, turn 0, inputs, field 'thing'"):
        app.save(tmp_path / "talk.json", strict=True)


def test_calls_of_other_files(lm):
    recorded = sessionify(Agent(), record="calls")
    recorded(question="a")
    wire = recorded.state.to_dict()
    [planner, writer] = wire["turns"][0]["calls"]
    del planner["predictor"]
    planner["snapshot"] = None
    state = SessionState.from_dict(wire)
    [call, other] = state.turns[0].calls
    assert (call.predictor, call.history, call.path) == ("", None, "planner")
    assert other.predictor == writer["predictor"]
    assert state.to_dict()["turns"][0]["calls"][0] == {**planner, "predictor": ""}
    for part in ("inputs", "outputs"):
        planner[part], kept = ["no object"], planner[part]
        with pytest.raises(FormatError, match="call: expected an object"):
            SessionState.from_dict(wire)
        planner[part] = kept
