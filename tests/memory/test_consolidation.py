"""Episodes are folded into long-term memories after the turn, once, and no failure loses them."""

from __future__ import annotations

import asyncio
import threading
import time

import dspy
import pytest

from dspy_session import SessionState, get_node_memory, with_memory
from tests.memory.programs import Agent, of_node, past, shown

SIGNATURE = "past_memory, episode_transcript -> updated_memory"


class Keeper(dspy.Module):
    """Remembers how often it was asked, and what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, str]] = []
        self.fails = 0

    def forward(self, past_memory, episode_transcript):
        if self.fails:
            self.fails -= 1
            raise ConnectionError("down")
        self.told.append({"past": past_memory, "episode": episode_transcript})
        return dspy.Prediction(updated_memory=f"{past_memory}#{episode_transcript.count('- turn')}")


class AsyncKeeper(Keeper):
    forward = None  # type: ignore[assignment]

    async def aforward(self, past_memory, episode_transcript):
        await asyncio.sleep(0)
        return Keeper.forward(self, past_memory, episode_transcript)


del AsyncKeeper.forward


def episodic(consolidator, **options):
    config = {"lifespan": "episodic", "consolidator": consolidator}
    return with_memory(Agent(), child_configs={"planner": config}, **options)


def memory(app, path="planner"):
    return app.state.node_states[path].l2_memory


def test_the_memory_is_shown_first_on_the_next_call(lm):
    app = episodic(Keeper())
    app.module.planner.demos = [dspy.Example(question="demo", plan="demo plan")]
    app(question="one")
    assert memory(app) == "#1"
    app(question="two")
    second = of_node(lm, "plan")[1]
    assert [list(message) for message in shown(second)] == [["question"], ["plan"], ["long_term_memory"]]
    assert "#1" in past(second)[2]
    assert memory(app) == "#1#1"
    assert app.state.node_states["planner"].turns == []


def test_it_is_told_the_past_and_the_episode(lm):
    keeper = Keeper()
    app = episodic(keeper)
    app(question="one")
    app(question="two")
    assert [told["past"] for told in keeper.told] == ["", "#1"]
    assert '"question": "one"' in keeper.told[0]["episode"]
    assert "one" not in keeper.told[1]["episode"]


@pytest.mark.parametrize("make", [dspy.Predict, dspy.ChainOfThought])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_modules_of_dspy_give_their_answer_not_their_reasoning(lm, make, style):
    app = episodic(make(SIGNATURE))
    if style == "sync":
        app(question="one")
    else:
        asyncio.run(app.acall(question="one"))
    assert memory(app).startswith("updated_memory")
    assert past(of_node(lm, "updated_memory")[0]) == []


def test_an_output_of_another_name_is_taken_too(lm):
    app = episodic(dspy.ChainOfThought("past_memory, episode_transcript -> notes"))
    app(question="one")
    assert memory(app).startswith("notes")


@pytest.mark.parametrize("keeper", [Keeper, AsyncKeeper])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_sync_and_async_in_either_call_style(lm, keeper, style):
    app = episodic(keeper())
    if style == "sync":
        app(question="one")
    else:
        asyncio.run(app.acall(question="one"))
    assert memory(app) == "#1"


def test_functions_and_coroutine_functions(lm):
    async def consolidate(past_memory, episode_transcript):
        return "from a coroutine"

    for function, expected in (
        (lambda **_: "from a function", "from a function"),
        (consolidate, "from a coroutine"),
    ):
        app = episodic(function)
        app(question="one")
        assert memory(app) == expected
        asyncio.run(app.acall(question="two"))
        assert memory(app) == expected


def test_a_failure_loses_nothing_and_is_tried_again(lm, caplog):
    keeper = Keeper()
    keeper.fails = 2
    app = episodic(keeper)
    assert app(question="secret one").answer
    assert (memory(app), len(app.state.node_states["planner"].pending)) == ("", 1)
    app(question="two")
    app(question="three")
    assert memory(app) == "#3"
    assert keeper.told[0]["episode"].count("secret one") == 1
    assert app.state.node_states["planner"].pending == []
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text


def test_an_empty_answer_is_a_failure(lm):
    answers = [dspy.Prediction(reasoning="hm"), None, "at last"]
    app = episodic(lambda **_: answers.pop(0))
    app(question="one")
    app(question="two")
    assert memory(app) == ""
    app(question="three")
    assert memory(app) == "at last"


def test_a_sync_consolidator_does_not_block_the_loop(lm):
    gate = threading.Event()

    def slow(past_memory, episode_transcript):
        assert gate.wait(10)
        return "done"

    app = episodic(slow)

    async def run():
        call = asyncio.create_task(app.acall(question="one"))
        while not app.turns:
            await asyncio.sleep(0.001)
        gate.set()
        await call

    asyncio.run(run())
    assert memory(app) == "done"


def test_the_turn_is_committed_before(lm):
    seen = []

    def look(past_memory, episode_transcript):
        seen.append(len(app.state))
        return "seen"

    app = episodic(look)
    app(question="one")
    assert seen == [1]


def test_cancelled_during_consolidation_the_turn_stays_and_the_episode_waits(lm):
    async def forever(past_memory, episode_transcript):
        started.set()
        await asyncio.sleep(3600)

    app = episodic(forever, lock="async")

    async def run():
        call = asyncio.create_task(app.acall(question="one"))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    started = asyncio.Event()
    asyncio.run(run())
    node = app.state.node_states["planner"]
    assert (len(app.turns), len(node.pending), node.l2_memory) == (1, 1, "")


def test_undo_gives_back_the_memory_and_the_episodes_of_before(lm):
    keeper = Keeper()
    app = episodic(keeper)
    app(question="one")
    keeper.fails = 1
    app(question="two")
    app(question="three")
    assert memory(app) == "#1#2"
    app.undo()
    node = app.state.node_states["planner"]
    assert (node.l2_memory, len(node.pending)) == ("#1", 1)
    app(question="again")
    assert "two" in keeper.told[-1]["episode"]
    assert "three" not in keeper.told[-1]["episode"]
    app.undo(2)
    assert (node.l2_memory, node.pending) == ("#1", [])


def test_undone_while_it_runs_the_result_is_dropped(lm):
    def undoing(past_memory, episode_transcript):
        app.undo()
        return "stale"

    app = episodic(undoing)
    app(question="one")
    assert memory(app) == ""


def test_memories_are_committed_in_the_order_of_the_turns(lm):
    started: list[str] = []

    def consolidate(past_memory, episode_transcript):
        started.append(episode_transcript)
        time.sleep(0.02 if len(started) == 1 else 0.0)
        words = [
            word for word in ("first", "second", "third") if f'"question": "{word}"' in episode_transcript
        ]
        return " ".join([past_memory, *words]).strip()

    app = episodic(consolidate, lock="async")
    state = app.new_state()

    async def run():
        async with app.use_state(state):
            await asyncio.gather(*(app.acall(question=word) for word in ("first", "second", "third")))

    asyncio.run(run())
    assert state.node_states["planner"].l2_memory == "first second third"


def test_without_a_lock_nothing_is_lost_either(lm):
    def consolidate(past_memory, episode_transcript):
        words = [word for word in "abcd" if f'"question": "{word}"' in episode_transcript]
        return past_memory + "".join(words)

    lm.delay = 0.002
    app = episodic(consolidate)
    state = app.new_state()

    async def run():
        async with app.use_state(state):
            await asyncio.gather(*(app.acall(question=word) for word in "abcd"))
            await app.acall(question="end")

    asyncio.run(run())
    assert sorted(state.node_states["planner"].l2_memory) == sorted("abcd")
    assert state.node_states["planner"].pending == []


def test_each_user_has_a_memory_of_his_own(lm):
    app = episodic(dspy.Predict(SIGNATURE))
    lm._script = lambda chat, names: {name: f"{name} of {str(chat[-1]).count('alice')}" for name in names}
    states = {name: app.new_state() for name in ("alice", "bob")}
    for name, state in states.items():
        with app.use_state(state):
            app(question=f"I am {name}")
    assert "alice" in str(of_node(lm, "updated_memory")[0])
    assert "alice" not in str(of_node(lm, "updated_memory")[1])


def test_get_node_memory_inside_the_node(lm):
    found = []

    class Planner(dspy.Predict):
        def forward(self, **kwargs):
            found.append(get_node_memory())
            return super().forward(**kwargs)

    class Curious(Agent):
        def __init__(self):
            super().__init__()
            self.planner = Planner("question -> plan")

    config = {"lifespan": "episodic", "consolidator": Keeper()}
    app = with_memory(Curious(), child_configs={"planner": config})

    app(question="one")
    app(question="two")
    assert found == ["", "#1"]
    assert get_node_memory() == ""


def test_a_program_reads_the_memory_through_its_tool(lm):
    found = []

    class Asking(Agent):
        def forward(self, question):
            found.append(get_node_memory())
            return super().forward(question)

    app = with_memory(Asking(), lifespan="episodic", consolidator=Keeper())
    state = app.new_state(l2_memory="the root's own")
    with app.use_state(state):
        app(question="one")
    assert found == ["the root's own"]


def test_optimizers_do_not_see_it_and_it_can_be_compiled_by_itself(lm):
    consolidator = dspy.Predict(SIGNATURE)
    app = episodic(consolidator)
    assert [name for name, _ in app.named_predictors()] == ["planner", "writer"]
    assert consolidator not in app.predictors()
    example = dspy.Example(past_memory="", episode_transcript="t", updated_memory="m")
    trainset = [example.with_inputs("past_memory", "episode_transcript")]
    compiled = dspy.LabeledFewShot(k=1).compile(consolidator, trainset=trainset)
    assert compiled.demos


def test_an_episode_that_waits_survives_a_file(lm, tmp_path):
    keeper = Keeper()
    keeper.fails = 1
    app = episodic(keeper)
    state = app.new_state()
    with app.use_state(state):
        app(question="one")
    state.save(tmp_path / "state.json")
    loaded = SessionState.load_from(tmp_path / "state.json")
    with app.use_state(loaded):
        app(question="two")
    assert loaded.node_states["planner"].l2_memory == "#2"


def test_a_program_without_a_consolidator_keeps_what_waits_for_one(lm):
    keeper = Keeper()
    keeper.fails = 1
    app = episodic(keeper)
    state = app.new_state()
    with app.use_state(state):
        app(question="one")
    other = with_memory(Agent())
    with other.use_state(state):
        other(question="two")
    assert len(state.node_states["planner"].pending) == 1


def test_nodes_of_an_inner_app_are_consolidated_with_the_outer_turn(lm):
    class Outer(dspy.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, question):
            return self.inner(question=question)

    keeper = Keeper()
    outer = with_memory(Outer(episodic(keeper)))
    outer(question="one")
    assert outer.state.node_states["inner"].node_states["planner"].l2_memory == "#1"
    outer(question="two")
    assert "#1" in past(of_node(lm, "plan")[1])[0]
    outer.undo()
    assert outer.state.node_states["inner"].node_states["planner"].l2_memory == "#1"


def test_the_root_predictor_can_be_episodic(lm):
    app = with_memory(dspy.Predict("question -> answer"), lifespan="episodic", consolidator=Keeper())
    app(question="one")
    app(question="two")
    assert shown(lm.requests[1]) == [{"long_term_memory": "#1"}]
    assert len(app.turns) == 2


def test_after_a_file_undo_gives_them_back_too(lm):
    keeper = Keeper()
    keeper.fails = 2
    app = episodic(keeper)
    for question in ("one", "two", "three"):
        app(question=question)
    assert memory(app) == "#3"
    loaded = SessionState.from_dict(app.state.to_dict())
    loaded.undo()
    node = loaded.node_states["planner"]
    assert (node.l2_memory, len(node.pending)) == ("", 2)
    with app.use_state(SessionState.from_dict(loaded.to_dict())):
        app(question="again")
    assert [word in keeper.told[-1]["episode"] for word in ("one", "two", "three", "again")] == [
        True,
        True,
        False,
        True,
    ]


def test_saved_size_stays_linear_while_the_consolidator_is_down(lm):
    def size(count):
        keeper = Keeper()
        keeper.fails = count
        app = episodic(keeper)
        for number in range(count):
            app(question=f"q{number}")
        return len(str(app.state.to_dict()))

    assert size(40) < 2.2 * size(20)
