"""`use_state` and `bind`: whatever runs in the block lands in the bound state, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import dspy
import pytest

from dspy_session import sessionify, with_memory
from dspy_session.errors import BindingError, ConfigurationError, StateTypeError, UnboundStateError
from tests.memory.programs import Agent, contents, of_node


@pytest.fixture
def app(lm):
    return with_memory(dspy.Predict("question -> answer"), unbound="error")


def asked(state):
    return [turn.inputs["question"] for turn in state.turns]


def test_the_state_is_the_blocks_value_and_takes_the_turns(app, lm):
    alice, bob = app.new_state(), app.new_state()
    with app.use_state(alice) as bound:
        assert bound is alice
        app(question="I am Alice")
    with app.use_state(bob):
        app(question="I am Bob")
    assert (asked(alice), asked(bob), len(app.turns)) == (["I am Alice"], ["I am Bob"], 0)
    assert "Alice" not in str(lm.requests[1])


def test_async_blocks_tasks_and_task_groups(app):
    states = [app.new_state() for _ in range(8)]

    async def task(number):
        await app.acall(question=f"{number} task")

    async def user(number, state):
        async with app.use_state(state):
            await app.acall(question=f"{number} plain")
            await asyncio.create_task(task(number))
            async with anyio.create_task_group() as group:
                group.start_soon(task, number)
            await asyncio.to_thread(app, question=f"{number} thread")

    async def everybody():
        await asyncio.gather(*(user(number, state) for number, state in enumerate(states)))

    asyncio.run(everybody())
    for number, state in enumerate(states):
        expected = [f"{number} plain", f"{number} task", f"{number} task", f"{number} thread"]
        assert asked(state) == expected


def test_parallel_batch_and_evaluate(app):
    state = app.new_state()
    examples = [dspy.Example(question=f"q{i}", answer="a").with_inputs("question") for i in range(4)]
    with app.use_state(state):
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(app, e) for e in examples])
        app.batch(examples, num_threads=2, disable_progress_bar=True)
        evaluate = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=2)
        evaluate(app)
    assert sorted(asked(state)) == sorted([f"q{i}" for i in range(4)] * 3)
    assert len(app.turns) == 0


def test_asyncify_and_streams_inside_the_block(app):
    state = app.new_state()

    async def run():
        async with app.use_state(state):
            await dspy.asyncify(app)(question="asyncified")
            async for _ in dspy.streamify(app)(question="streamed"):
                pass

    asyncio.run(run())
    assert asked(state) == ["asyncified", "streamed"]


def test_bind_carries_where_python_does_not(app, lm):
    state = app.new_state()
    bound = app.bind(state)
    # DSPy's own settings do not reach raw threads either: there the program has its model itself.
    app.set_lm(lm)
    thread = threading.Thread(target=bound, kwargs={"question": "raw thread"})
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(bound, question="executor").result()

    async def outside():
        async for _ in dspy.streamify(bound)(question="stream"):
            pass
        await asyncio.get_running_loop().run_in_executor(None, lambda: bound(question="loop's executor"))

    asyncio.run(outside())
    assert asked(state) == ["raw thread", "executor", "stream", "loop's executor"]
    assert bound.state is state
    assert [name for name, _ in bound.named_predictors()] == [name for name, _ in app.named_predictors()]


def test_without_bind_a_raw_thread_fails_before_the_model_is_asked(app, lm):
    with app.use_state(app.new_state()), ThreadPoolExecutor(1) as pool:
        failed = pool.submit(app, question="lost").exception()
    assert isinstance(failed, UnboundStateError)
    assert "bind" in str(failed)
    assert lm.requests == []


@pytest.mark.parametrize("policy", ["override", "use_if_provided", "replace_session"])
def test_an_explicit_history_does_not_open_a_way_into_the_default_state(lm, policy):
    app = with_memory(dspy.Predict("question -> answer"), unbound="error", history_policy=policy)
    history = dspy.History(messages=[{"question": "old", "answer": "yes"}])
    if policy == "override":
        app(question="replay", history=history)
    else:
        with pytest.raises(UnboundStateError):
            app(question="q", history=history)
        assert lm.requests == []
    assert len(app.turns) == 0


def test_retry_and_preview_without_a_state_fail_too(app):
    with pytest.raises(UnboundStateError):
        app.preview(question="q")


def test_a_generator_that_binds_is_an_error_that_names_bind(app):
    def stream():
        with app.use_state(app.new_state()):
            yield app(question="q")

    async def astream():
        async with app.use_state(app.new_state()):
            yield await app.acall(question="q")

    with pytest.raises(BindingError, match="bind"):
        next(stream())

    async def drive():
        async for _ in astream():
            pass

    with pytest.raises(BindingError, match="astream"):
        asyncio.run(drive())


def test_an_exit_stack_in_a_generator_is_an_error_too(app):
    def stream():
        with contextlib.ExitStack() as stack:
            stack.enter_context(app.use_state(app.new_state()))
            yield 1

    with pytest.raises(BindingError):
        next(stream())


def test_a_context_manager_made_of_a_generator_binds_for_its_block(app):
    state = app.new_state()

    @contextlib.contextmanager
    def request():
        with app.use_state(state):
            yield state

    @contextlib.asynccontextmanager
    async def arequest():
        async with app.use_state(state):
            yield state

    with request():
        app(question="sync")

    async def run():
        async with arequest():
            await app.acall(question="async")

    asyncio.run(run())
    assert asked(state) == ["sync", "async"]
    with pytest.raises(UnboundStateError):
        app(question="outside")

    def stream():
        with request():
            yield 1

    with pytest.raises(BindingError):
        next(stream())


def test_nested_repeated_and_re_entered_bindings(app):
    one, two = app.new_state(), app.new_state()
    binding = app.use_state(one)
    with binding:
        app(question="1a")
        with app.use_state(two):
            app(question="2a")
            with binding:
                app(question="1b")
            app(question="2b")
        app(question="1c")
    with binding:
        app(question="1d")
    assert (asked(one), asked(two)) == (["1a", "1b", "1c", "1d"], ["2a", "2b"])
    with pytest.raises(UnboundStateError):
        app(question="outside")


def test_a_failing_block_unbinds(app):
    with pytest.raises(ZeroDivisionError), app.use_state(app.new_state()):
        1 / 0  # noqa: B018
    assert not app.is_bound()


def test_two_apps_have_bindings_of_their_own(lm):
    first = with_memory(dspy.Predict("question -> answer"), unbound="error")
    second = with_memory(dspy.Predict("question -> answer"), unbound="error")
    one, two = first.new_state(), second.new_state()
    with first.use_state(one), second.use_state(two):
        first(question="to the first")
        second(question="to the second")
        with pytest.raises(UnboundStateError):
            first.fork()(question="to nobody")
    assert (asked(one), asked(two)) == (["to the first"], ["to the second"])


def test_one_program_in_two_apps_is_two_parts(lm):
    program = Agent()
    first, second = with_memory(program), with_memory(program)
    one, two = first.new_state(), second.new_state()
    with first.use_state(one):
        first(question="apples")
    with second.use_state(two):
        second(question="pears")
    assert all("apples" not in str(request) for request in lm.requests[2:])
    assert one.node_states["planner"].turns[0].inputs == {"question": "apples"}
    assert two.node_states["planner"].turns[0].inputs == {"question": "pears"}


class Outer(dspy.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.polish = dspy.Predict("draft -> text")

    def forward(self, question):
        return self.polish(draft=self.inner(question=question).answer)


def test_an_app_inside_another_app_keeps_its_memory_in_the_outer_state(lm):
    outer = with_memory(Outer(with_memory(Agent(), unbound="error")), unbound="error")
    alice, bob = outer.new_state(), outer.new_state()
    for text, state in (("alice 1", alice), ("bob 1", bob), ("alice 2", alice)):
        with outer.use_state(state):
            outer(question=text)
    assert asked(alice) == ["alice 1", "alice 2"]
    inner = alice.node_states["inner"]
    assert asked(inner) == ["alice 1", "alice 2"]
    assert asked(inner.node_states["planner"]) == ["alice 1", "alice 2"]
    assert len(outer.module.inner.own_state) == 0
    planner = of_node(lm, "plan")[2]
    assert "alice 1" in str(planner)
    assert "bob" not in str(planner)


def test_undo_and_fork_reach_the_nodes_of_the_inner_app(lm):
    outer = with_memory(Outer(with_memory(Agent())))
    outer(question="one")
    fork = outer.fork()
    outer(question="two")
    outer.undo()
    planner = outer.state.node_states["inner"].node_states["planner"]
    assert asked(planner) == ["one"]
    outer(question="three")
    assert asked(planner) == ["one", "three"]
    assert "two" not in str(of_node(lm, "plan")[-1])
    assert asked(fork.state.node_states["inner"].node_states["planner"]) == ["one"]


def test_retry_of_the_outer_app_keeps_the_inner_nodes(lm):
    outer = with_memory(Outer(with_memory(Agent())))
    outer(question="one")
    outer(question="two")
    outer.retry()
    planner = outer.state.node_states["inner"].node_states["planner"]
    assert asked(planner) == ["one", "two"]
    assert of_node(lm, "plan")[2] == of_node(lm, "plan")[1]


def test_an_unrelated_session_has_its_own_ledger(lm):
    journal = sessionify(dspy.Predict("entry -> note"))

    class Writer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.write = dspy.Predict("question -> answer")

        def forward(self, question):
            journal(entry=question)
            return self.write(question=question)

    app = with_memory(Writer())
    state = app.new_state()
    with app.use_state(state):
        app(question="q")
    assert len(journal.turns) == 1
    assert list(state.node_states) == ["write"]


def test_a_background_task_that_outlives_the_call_makes_a_turn_of_its_own(lm):
    gate: list[asyncio.Event] = []

    class Patient(dspy.Module):
        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict("question -> answer")
            self.later = None

        async def aforward(self, question):
            async def afterwards():
                await gate[0].wait()
                await self.answer.acall(question="lost")
                await app.acall(question="afterwards")

            if question == "now":
                self.later = asyncio.create_task(afterwards())
            return await self.answer.acall(question=question)

    app = with_memory(Patient(), unbound="error", lock="async")
    state = app.new_state()

    async def run():
        gate.append(asyncio.Event())
        async with app.use_state(state):
            await app.acall(question="now")
        gate[0].set()
        await app.module.later

    asyncio.run(run())
    assert asked(state) == ["now", "afterwards"]
    assert asked(state.node_states["answer"]) == ["now", "afterwards"]


def test_calls_inside_an_open_turn_belong_to_it(lm):
    class Recursive(dspy.Module):
        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question):
            if question == "outer":
                app(question="inner")
            return self.answer(question=question)

    app = with_memory(Recursive(), lock="thread")
    app(question="outer")
    assert asked(app.state) == ["outer"]
    assert asked(app.state.node_states["answer"]) == ["inner", "outer"]


def test_best_of_n_around_an_app_that_demands_a_state(app, lm):
    state = app.new_state()
    best = dspy.BestOfN(app, N=3, reward_fn=lambda args, pred: 0.0, threshold=1.0)
    with app.use_state(state):
        best(question="q1")
        best(question="q2")
    assert asked(state) == ["q1", "q2"]
    assert len(contents(lm.requests[3])) == 3


def test_only_a_state_can_be_bound(app):
    for bind in (app.use_state, app.bind):
        for value in ({"turns": []}, None, "max"):
            with pytest.raises(StateTypeError, match="new_state") as raised:
                bind(value)
            assert isinstance(raised.value, ConfigurationError)
            assert isinstance(raised.value, TypeError)


def test_a_state_pickles_with_its_nodes(lm):
    app = with_memory(Agent())
    state = app.new_state()
    with app.use_state(state):
        app(question="q")
    copy = pickle.loads(pickle.dumps(state))
    assert copy == state
    with app.use_state(copy):
        app(question="again")
    assert len(contents(of_node(lm, "plan")[1])) == 3
