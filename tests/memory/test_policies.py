"""What each policy shows a node, on the wire, and what it records."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspy_session import sessionify, windows, with_memory
from dspy_session.errors import ConfigurationError, UnknownPathError
from tests.memory.programs import Agent, contents, of_node, past, shown

POLICIES: dict[str, dict[str, Any]] = {
    "persistent": {},
    "episodic": {"lifespan": "episodic"},
    "stateless": {"lifespan": "stateless"},
    "shared": {"isolation": "shared"},
    "disabled": {"enabled": False},
}


def run(app, count=2):
    for number in range(count):
        app(question=f"question {number}")


@pytest.mark.parametrize("policy", POLICIES)
def test_the_table_of_policies(lm, policy):
    app = with_memory(Agent(), child_configs={"planner": POLICIES[policy]})
    run(app)
    second = of_node(lm, "plan")[1]
    node = app.state.node_states.get("planner")
    recorded = [] if node is None else [turn.inputs for turn in node.turns]
    if policy == "persistent":
        assert shown(second) == [{"question": "question 0"}, {"plan": "plan 1"}]
        assert recorded == [{"question": "question 0"}, {"question": "question 1"}]
    elif policy == "shared":
        assert shown(second) == [{"question": "question 0"}, {"answer": "answer 2"}]
        assert recorded == []
    else:
        assert shown(second) == []
        assert recorded == []
    assert len(app.turns) == 2


def test_an_excluded_node_sends_the_bytes_of_the_bare_predictor(lm):
    bare = Agent()
    bare.planner(question="question 1")
    for config in ({"enabled": False}, {"lifespan": "stateless"}):
        app = with_memory(Agent(), child_configs={"planner": config})
        run(app)
        assert of_node(lm, "plan")[-1] == lm.requests[0]


def test_an_episodic_node_sees_its_own_calls_of_the_turn(lm):
    class Twice(dspy.Module):
        def __init__(self):
            super().__init__()
            self.step = dspy.Predict("question -> answer")

        def forward(self, question):
            self.step(question=f"{question} first")
            return self.step(question=f"{question} second")

    app = with_memory(Twice(), lifespan="episodic")
    app(question="a")
    app(question="b")
    assert [len(past(request)) for request in lm.requests] == [0, 2, 0, 2]
    assert shown(lm.requests[3])[0] == {"question": "b first"}
    assert app.state.node_states["step"].pending == []


def test_shared_is_what_sessionify_shows(lm):
    app = with_memory(Agent(), isolation="shared")
    run(app, 3)
    session = sessionify(Agent())
    first = list(lm.requests)
    lm.requests.clear()
    session_requests = lm.requests
    run(session, 3)
    assert [shown(request) for request in session_requests[:2]] == [shown(request) for request in first[:2]]
    assert [len(request) for request in session_requests] == [len(request) for request in first]


def test_not_recursive_means_shared(lm):
    app = with_memory(Agent(), recursive=False)
    run(app)
    assert app.state.node_states == {}
    assert shown(of_node(lm, "plan")[1])[1] == {"answer": "answer 2"}


def test_a_single_predictor_is_shown_the_root_conversation(lm):
    app = with_memory(dspy.Predict("question -> answer"))
    run(app)
    assert len(past(lm.requests[1])) == 2
    assert app.state.node_states == {}


def test_a_single_stateless_predictor_is_shown_nothing_and_still_makes_turns(lm):
    app = with_memory(dspy.Predict("question -> answer"), lifespan="stateless")
    run(app)
    assert past(lm.requests[1]) == []
    assert len(app.turns) == 2


class Composite(dspy.Module):
    """Nodes in composites, lists and dicts, a retriever without predictors, a private attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> plan")
        self.drafts = [dspy.Predict("question -> draft"), dspy.Predict("question -> draft")]
        self.by_name = {"critic": dspy.Predict("draft -> critique")}
        self._hidden = dspy.Predict("critique -> answer")
        self.retriever = object()
        self.retrievers = {"web": object()}

    def forward(self, question):
        self.think(question=question)
        draft = [each(question=question).draft for each in self.drafts][-1]
        return self._hidden(critique=self.by_name["critic"](draft=draft).critique)


PATHS = ["think.predict", "drafts[0]", "drafts[1]", "by_name['critic']", "_hidden"]


def test_paths_are_those_of_dspy(lm):
    app = with_memory(Composite())
    run(app)
    assert list(app.node_table.policies) == PATHS
    assert sorted(app.state.node_states) == sorted(PATHS)
    assert set(PATHS) >= {name for name, _ in Composite().named_predictors()}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"include": ["think"]}, ["think.predict"]),
        ({"include": ["drafts"]}, ["drafts[0]", "drafts[1]"]),
        ({"include": ["drafts[1]", "by_name"]}, ["drafts[1]", "by_name['critic']"]),
        ({"exclude": ["drafts", "_hidden"]}, ["think.predict", "by_name['critic']"]),
        ({"include": ["drafts"], "exclude": ["drafts[0]"]}, ["drafts[1]"]),
        ({"where": lambda path, node: "draft" in node.signature.output_fields}, ["drafts[0]", "drafts[1]"]),
        ({"child_configs": {"drafts": {"enabled": False}, "drafts[1]": {"enabled": True}}},
         ["think.predict", "drafts[1]", "by_name['critic']", "_hidden"]),
        ({"child_configs": {"retriever": {"lifespan": "stateless"}, "retrievers['web']": {}}}, PATHS),
        ({"recursive": "predictors"}, PATHS),
    ],
)  # fmt: skip
def test_filters(lm, given, left):
    app = with_memory(Composite(), **given)
    run(app)
    assert sorted(app.state.node_states) == sorted(left)


@pytest.mark.parametrize(
    "path", ["planer", "drafts[2]", "think.predictor", "forward", "", "drafts[", "retriever.x"]
)
@pytest.mark.parametrize("how", ["include", "exclude", "child_configs"])
def test_a_wrong_path_is_an_error_that_lists_the_nodes(lm, path, how):
    given = {path: {}} if how == "child_configs" else [path]
    with pytest.raises(UnknownPathError, match=r"drafts\[0\]"):
        with_memory(Composite(), **{how: given})


@pytest.mark.parametrize(
    "given",
    [
        {"child_configs": {"think": {"lifespam": "episodic"}}},
        {"child_configs": {"think": {"lifespan": "forever"}}},
        {"child_configs": {"think": {"isolation": "both"}}},
        {"child_configs": {"think": {"enabled": "no"}}},
        {"child_configs": {"think": {"max_turns": 0}}},
        {"child_configs": {"think": {"consolidator": "me"}}},
        {"child_configs": {"think": None}},
        {"include": "think"},
        {"where": "think"},
        {"recursive": "modules"},
        {"lifespan": "eternal"},
        {"isolation": None},
        {"unbound": "maybe"},
    ],
)
def test_wrong_options_are_our_errors(lm, given):
    with pytest.raises(ConfigurationError):
        with_memory(Composite(), **given)


def test_unknown_options_list_what_there_is(lm):
    with pytest.raises(ConfigurationError, match="max_turns"):
        with_memory(Composite(), child_configs={"think": {"turns": 1}})


def test_session_options_by_node(lm):
    seen = []
    app = with_memory(
        Agent(),
        child_configs={
            "planner": {"max_turns": 1, "on_turn": lambda session, turn: seen.append(turn.outputs)},
            "writer": {"window": windows.turns(2), "exclude_fields": {"plan"}, "max_stored_turns": 2},
        },
    )
    run(app, 4)
    assert len(past(of_node(lm, "plan")[3])) == 2
    assert [list(message) for message in shown(of_node(lm, "answer")[3])] == [["question"], ["answer"]] * 2
    assert [turn.index for turn in app.state.node_states["writer"].turns] == [2, 3]
    assert seen == [{"plan": f"plan {n}"} for n in (1, 3, 5, 7)]


def test_nodes_inherit_the_roots_options_but_not_its_callback_or_seed(lm):
    told = []
    seed = dspy.History(messages=[{"question": "seed", "answer": "yes"}])
    app = with_memory(
        Agent(), max_turns=1, initial_history=seed, on_turn=lambda session, turn: told.append(turn.index)
    )
    run(app, 3)
    assert told == [0, 1, 2]
    assert all(len(past(request)) <= 2 for request in lm.requests)
    assert "seed" not in str(lm.requests)


def test_initial_history_of_one_node(lm):
    seed = dspy.History(messages=[{"question": "seeded question", "plan": "seeded plan"}])
    app = with_memory(Agent(), child_configs={"planner": {"initial_history": seed}})
    run(app, 1)
    assert shown(lm.requests[0]) == [{"question": "seeded question"}, {"plan": "seeded plan"}]


def test_react_remembers_its_steps(lm):
    def look(place: str) -> str:
        """Look."""
        return f"seen {place}"

    lm._script = lambda chat, names: {
        name: {"next_tool_name": "finish", "next_tool_args": {}}.get(name, f"some {name}") for name in names
    }
    app = with_memory(
        dspy.ReAct("question -> answer", tools=[look]), child_configs={"extract": {"enabled": False}}
    )
    run(app)
    assert sorted(app.state.node_states) == ["react"]
    assert len(past(lm.requests[2])) == 2


def test_best_of_n_inside_a_program_counts_once(lm):
    class Best(dspy.Module):
        def __init__(self):
            super().__init__()
            worker = dspy.Predict("question -> answer")
            self.best = dspy.BestOfN(worker, N=3, reward_fn=self.reward, threshold=2.0)

        def reward(self, args, pred):
            return 1.0 if pred.answer.endswith(("2", "5")) else 0.0

        def forward(self, question):
            return self.best(question=question)

    app = with_memory(Best())
    run(app)
    node = app.state.node_states["best.module"]
    assert [turn.outputs for turn in node.turns] == [{"answer": "answer 2"}, {"answer": "answer 5"}]
    assert [len(past(request)) for request in lm.requests] == [0, 0, 0, 2, 2, 2]


def test_the_original_program_keeps_nothing_and_sends_the_same_bytes(lm):
    program, untouched = Composite(), Composite()
    app = with_memory(program)
    assert app.module is program
    run(app)
    lm.requests.clear()
    program(question="alone")
    inside = list(lm.requests)
    lm.requests.clear()
    untouched(question="alone")

    def numbered_away(requests):
        return ["".join(c for c in str(contents(request)) if not c.isdigit()) for request in requests]

    assert numbered_away(inside) == numbered_away(lm.requests)
    assert [request[0] for request in inside] == [request[0] for request in lm.requests]
    assert program.dump_state() == untouched.dump_state()
    assert len(app.turns) == 2


def test_weights_are_the_programs(lm, tmp_path):
    app = with_memory(
        Agent(), lifespan="episodic", consolidator=dspy.Predict("past_memory, episode_transcript -> memory")
    )
    run(app)
    app.save_weights(tmp_path / "weights.json")
    fresh = Agent()
    fresh.load(tmp_path / "weights.json")
    assert [name for name, _ in app.named_predictors()] == ["planner", "writer"]
