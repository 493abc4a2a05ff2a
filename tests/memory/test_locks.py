"""Locks belong to the state: one user's requests wait for each other, two users' never."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from dspy_session import with_memory
from dspy_session.errors import BusyError
from tests.memory.programs import Agent


class Gated(Agent):
    """Waits in the midst of a turn until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, threading.Event] = {}
        self.entered: dict[str, threading.Event] = {}

    def forward(self, question):
        if question in self.gates:
            self.entered[question].set()
            assert self.gates[question].wait(20)
        return super().forward(question)

    async def aforward(self, question):
        while question in self.gates and not self.gates[question].is_set():
            self.entered[question].set()
            await asyncio.sleep(0.001)
        return await super().aforward(question)

    def gate(self, question):
        self.gates[question], self.entered[question] = threading.Event(), threading.Event()


def made(lm, **options):
    app = with_memory(Gated(), unbound="error", **options)
    app.set_lm(lm)
    app.module.gate("slow")
    return app


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_one_user_waits(lm, lock):
    app = made(lm, lock=lock)
    bound = app.bind(app.new_state())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(bound, question="slow")
        assert app.module.entered["slow"].wait(20)
        second = pool.submit(bound, question="next")
        assert len(bound.state) == 0
        app.module.gates["slow"].set()
        first.result(20)
        second.result(20)
    assert [turn.inputs["question"] for turn in bound.state.turns] == ["slow", "next"]
    assert "slow" in str(lm.requests[2])


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_one_user_fails_at_once_if_so_wanted(lm, lock):
    app = made(lm, lock=lock, busy="fail")
    bound = app.bind(app.new_state())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bound, question="slow")
        assert app.module.entered["slow"].wait(20)
        with pytest.raises(BusyError):
            bound(question="next")
        with pytest.raises(BusyError):
            asyncio.run(bound.acall(question="next"))
        app.module.gates["slow"].set()
        first.result(20)
    assert bound(question="after").answer
    assert len(bound.state) == 2


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_two_users_never_wait(lm, lock):
    app = made(lm, lock=lock)
    alice, bob = app.bind(app.new_state()), app.bind(app.new_state())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(alice, question="slow")
        assert app.module.entered["slow"].wait(20)
        assert bob(question="quick").answer
        assert asyncio.run(bob.acall(question="quick")).answer
        app.module.gates["slow"].set()
        first.result(20)
    assert (len(alice.state), len(bob.state)) == (1, 2)


def test_threads_and_tasks_wait_for_each_other(lm):
    app = made(lm, lock="thread")
    bound = app.bind(app.new_state())

    async def run():
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(bound.acall(question="slow"))
            while not app.module.entered["slow"].is_set():
                await asyncio.sleep(0.001)
            waiting = pool.submit(bound, question="thread")
            app.module.gates["slow"].set()
            await task
            await asyncio.wrap_future(waiting)

    asyncio.run(run())
    assert [turn.inputs["question"] for turn in bound.state.turns] == ["slow", "thread"]


def test_a_cancelled_waiter_does_not_keep_the_lock(lm):
    app = made(lm, lock="async")
    bound = app.bind(app.new_state())

    async def run():
        holder = asyncio.create_task(bound.acall(question="slow"))
        while not app.module.entered["slow"].is_set():
            await asyncio.sleep(0.001)
        waiter = asyncio.create_task(bound.acall(question="never"))
        await asyncio.sleep(0.01)
        waiter.cancel()
        app.module.gates["slow"].set()
        await holder
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await bound.acall(question="free")

    asyncio.run(run())
    assert [turn.inputs["question"] for turn in bound.state.turns] == ["slow", "free"]


@pytest.mark.parametrize("lock", ["thread", "async"])
@pytest.mark.parametrize("busy", ["wait", "fail"])
def test_parallel_inside_forward_does_not_dead_lock(lm, lock, busy):
    class Wide(dspy.Module):
        def __init__(self):
            super().__init__()
            self.worker = dspy.Predict("question -> answer")

        def forward(self, question):
            pairs = [
                (app, dspy.Example(question=f"{question}.{n}").with_inputs("question")) for n in range(3)
            ]
            if "." not in question:
                dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return self.worker(question=question)

    app = with_memory(Wide(), lock=lock, busy=busy)
    state = app.new_state()
    with app.use_state(state):
        app(question="q")
    assert [turn.inputs["question"] for turn in state.turns] == ["q"]
    assert sorted(t.inputs["question"] for t in state.node_states["worker"].turns) == [
        "q",
        "q.0",
        "q.1",
        "q.2",
    ]


def test_a_failed_turn_frees_the_lock(lm):
    app = with_memory(dspy.Predict("question -> answer"), lock="thread", busy="fail")
    failing = [True]

    def script(chat, names):
        if failing:
            raise ConnectionError("down")
        return {"answer": "fine"}

    lm._script = script
    with pytest.raises(ConnectionError, match="down"):
        app(question="q")
    failing.clear()
    assert app(question="q").answer == "fine"


def test_a_sync_call_that_would_block_its_own_loop_for_ever_fails(lm):
    app = made(lm, lock="async")
    bound = app.bind(app.new_state())

    async def run():
        holder = asyncio.create_task(bound.acall(question="slow"))
        while not app.module.entered["slow"].is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="acall"):
            bound(question="blocking")
        app.module.gates["slow"].set()
        await holder
        bound(question="free")

    asyncio.run(run())
    assert [turn.inputs["question"] for turn in bound.state.turns] == ["slow", "free"]
