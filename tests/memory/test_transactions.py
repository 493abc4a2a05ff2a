"""A turn is one transaction: the nodes' calls become part of the state with the root turn, or not at all."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from dspy_session import SessionState, with_memory
from tests.memory.programs import Agent, of_node, past, shown


class Fragile(Agent):
    def forward(self, question):
        prediction = super().forward(question)
        if "fail" in question:
            raise RuntimeError("too bad")
        return prediction


def texts(state: SessionState, path: str = "") -> list[str]:
    found = state.node_states[path] if path else state
    return [turn.inputs["question"] for turn in found.turns]


def everywhere(state: SessionState) -> list[list[str]]:
    return [texts(state), *(texts(state, path) for path in sorted(state.node_states))]


def test_a_failing_turn_leaves_no_trace(lm):
    app = with_memory(Fragile())
    app(question="one")
    before = app.state.to_dict()
    with pytest.raises(RuntimeError, match="too bad"):
        app(question="please fail")
    assert app.state.to_dict() == before
    app(question="two")
    assert everywhere(app.state) == [["one", "two"]] * 3
    assert "fail" not in str(of_node(lm, "plan")[-1])


def test_a_cancelled_turn_leaves_no_trace_and_no_lock(lm):
    class Slow(Agent):
        async def aforward(self, question):
            prediction = await super().aforward(question)
            if question == "slow":
                reached.set()
                await asyncio.sleep(3600)
            return prediction

    app = with_memory(Slow(), lock="async")
    state = app.new_state()

    async def run():
        async with app.use_state(state):
            task = asyncio.create_task(app.acall(question="slow"))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await app.acall(question="next")

    reached = asyncio.Event()
    asyncio.run(run())
    assert everywhere(state) == [["next"]] * 3


def test_replays_stage_nothing_and_send_the_bytes_of_the_turn(lm):
    app = with_memory(Agent())
    for number in range(3):
        app(question=f"q{number}")
    sent = {turn.index: lm.requests[2 * turn.index : 2 * turn.index + 2] for turn in app.turns}
    before = app.state.to_dict()
    for turn in app.turns:
        first = len(lm.requests)
        app(**turn.inputs, history=turn.history_snapshot)
        replayed = lm.requests[first:]
        assert replayed[0] == sent[turn.index][0]
        assert past(replayed[1]) == past(sent[turn.index][1])
    assert app.state.to_dict() == before


def test_a_replay_is_exact_after_a_file(lm, tmp_path):
    app = with_memory(Agent(), child_configs={"planner": {"max_stored_turns": 3}})
    for number in range(4):
        app(question=f"q{number}")
    sent = lm.requests[4]
    app.save(tmp_path / "talk.json")
    fresh = type(app).load_from(tmp_path / "talk.json", Agent())
    fresh.use_nodes(**app._node_arguments)
    turn = fresh.turns[3]
    fresh(**turn.inputs, history=turn.history_snapshot)
    assert shown(of_node(lm, "plan")[-1]) == shown(of_node(lm, "plan")[3])[2:]
    assert sent is not None


def test_a_foreign_history_shows_nodes_nothing_of_the_user(lm):
    app = with_memory(Agent())
    app(question="secret")
    app(question="replay", history=dspy.History(messages=[{"question": "x", "answer": "y"}]))
    assert "secret" not in str(lm.requests[2:])
    assert everywhere(app.state) == [["secret"]] * 3


def test_undo_takes_root_and_nodes_back(lm):
    app = with_memory(Agent())
    for number in range(4):
        app(question=f"q{number}")
    removed = app.undo(2)
    assert [turn.inputs["question"] for turn in removed] == ["q2", "q3"]
    assert everywhere(app.state) == [["q0", "q1"]] * 3
    app(question="new")
    assert [message.get("question") for message in shown(of_node(lm, "plan")[-1])[::2]] == ["q0", "q1"]
    app.pop_turn()
    assert everywhere(app.state) == [["q0", "q1"]] * 3


def test_a_fork_goes_its_own_way(lm):
    app = with_memory(Agent())
    app(question="common")
    state = app.state.fork()
    with app.use_state(state):
        app(question="fork")
    app(question="original")
    assert everywhere(state) == [["common", "fork"]] * 3
    assert everywhere(app.state) == [["common", "original"]] * 3
    branch = app.fork()
    branch(question="branch")
    assert everywhere(branch.state) == [["common", "original", "branch"]] * 3
    assert everywhere(app.state) == [["common", "original"]] * 3


def test_reset_empties_root_and_nodes(lm):
    app = with_memory(Agent())
    app(question="old")
    app.reset()
    app(question="new")
    assert everywhere(app.state) == [["new"]] * 3
    assert "old" not in str(lm.requests[2:])


def test_replace_session_begins_anew_in_the_nodes_too(lm):
    app = with_memory(Agent(), history_policy="replace_session")
    app(question="old")
    app(question="new", history=dspy.History(messages=[{"question": "given", "answer": "yes"}]))
    assert "old" not in str(lm.requests[2:])
    assert everywhere(app.state) == [["new"]] * 3


def test_max_stored_turns_trims_the_nodes_by_turn(lm):
    class Twice(Agent):
        def forward(self, question):
            self.planner(question=f"{question} draft")
            return super().forward(question)

    app = with_memory(Twice(), max_stored_turns=2)
    for number in range(4):
        app(question=f"q{number}")
    assert texts(app.state) == ["q2", "q3"]
    assert texts(app.state, "planner") == ["q2 draft", "q2", "q3 draft", "q3"]
    app.undo()
    assert texts(app.state, "planner") == ["q2 draft", "q2"]


def test_add_turn_is_a_call_of_the_nodes_that_it_fits(lm):
    app = with_memory(Agent())
    app.add_turn({"question": "known", "plan": "given"}, {"answer": "by hand"})
    app(question="next")
    assert shown(of_node(lm, "answer")[0]) == [{"question": "known", "plan": "given"}, {"answer": "by hand"}]
    app.undo(2)
    assert everywhere(app.state) == [[], [], []]


def test_update_module_keeps_what_the_nodes_have(lm):
    app = with_memory(Agent())
    app(question="one")
    app.update_module(Agent())
    app(question="two")
    assert everywhere(app.state) == [["one", "two"]] * 3
    assert shown(of_node(lm, "plan")[-1])[0] == {"question": "one"}


def test_update_module_refuses_a_program_without_the_nodes_that_policies_name(lm):
    app = with_memory(Agent(), child_configs={"planner": {"lifespan": "stateless"}})
    app(question="one")
    with pytest.raises(LookupError, match="planner"):
        app.update_module(dspy.Predict("question -> answer"))
    assert isinstance(app.module, Agent)


def test_retry_repeats_the_nodes_and_keeps_the_other_answer(lm, tmp_path):
    app = with_memory(Agent())
    app(question="one")
    app(question="two")
    app.retry()
    assert everywhere(app.state) == [["one", "two"]] * 3
    assert past(of_node(lm, "plan")[2]) == past(of_node(lm, "plan")[1])
    other = app.branches[0]
    planned = other.state.node_states["planner"].turns[-1].outputs
    assert planned == {"plan": "plan 3"} != app.state.node_states["planner"].turns[-1].outputs
    app.save(tmp_path / "talk.json")
    loaded = type(app).load_from(tmp_path / "talk.json", Agent()).branches[0]
    assert [turn.outputs for turn in loaded.turns] == [turn.outputs for turn in other.turns]
    assert loaded.state.node_states["planner"].turns[-1].outputs == planned


def test_a_failing_retry_leaves_everything_as_it_was(lm):
    app = with_memory(Fragile())
    app(question="one")
    before = app.state.to_dict()
    with pytest.raises(RuntimeError):
        app.retry(question="fail")
    assert app.state.to_dict() == before


def test_concurrent_turns_of_one_user_without_a_lock_are_all_kept(lm):
    lm.delay = 0.005
    app = with_memory(Agent())
    state = app.new_state()

    async def run():
        async with app.use_state(state):
            await asyncio.gather(*(app.acall(question=f"q{n}") for n in range(8)))

    asyncio.run(run())
    assert sorted(texts(state)) == [f"q{n}" for n in range(8)]
    assert texts(state, "planner") == texts(state, "writer") == texts(state)
    removed = [turn.inputs["question"] for turn in reversed(state.undo(3))]
    assert len(removed) == 3
    assert texts(state, "planner") == texts(state)


def test_preview_shows_what_the_node_would_be_sent(lm):
    app = with_memory(Agent())
    app(question="one")
    shown_before = app.preview(question="two")
    app(question="two")
    assert shown_before == lm.requests[2]
    assert everywhere(app.state) == [["one", "two"]] * 3


def test_parallel_inside_a_turn_stages_all_calls(lm):
    class Wide(dspy.Module):
        def __init__(self):
            super().__init__()
            self.worker = dspy.Predict("question -> answer")

        def forward(self, question):
            examples = [dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(4)]
            pairs = [(self.worker, example) for example in examples]
            answers = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answer=" ".join(answer.answer for answer in answers))

    app = with_memory(Wide(), lock="thread")
    with ThreadPoolExecutor(1):
        app(question="a")
    assert sorted(texts(app.state, "worker")) == [f"a {n}" for n in range(4)]
