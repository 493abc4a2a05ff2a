"""No request ever holds another user's text, however the users' calls interleave."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import dspy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_session import sessionify, with_memory
from dspy_session.errors import BusyError
from dspy_session.testing.lm import ScriptedLM
from dspy_session.windows import summary

NAME = re.compile(r"user\d+x")
USERS = 6


def script(chat, names):
    """Repeats the names that it was told, so that a crossing would spread."""
    told = " ".join(sorted(set(NAME.findall(str(chat)))))
    return {name: f"{name} for {told}" for name in names} or f"text for {told}"


class Everything(dspy.Module):
    """Nodes of all policies, a part that is a session, a nested app, Parallel and BestOfN."""

    def __init__(self) -> None:
        super().__init__()
        self.keeps = dspy.ChainOfThought("question -> plan")
        self.episodic = dspy.Predict("question -> detail")
        self.shared = dspy.Predict("question -> remark")
        self.stateless = dspy.Predict("question -> aside")
        self.part = sessionify(dspy.Predict("question -> note"))
        self._apps = [with_memory(dspy.ChainOfThought("question -> verdict"))]
        self.best = dspy.BestOfN(
            dspy.Predict("question -> best"), N=2, reward_fn=lambda *_: 0.0, threshold=1.0
        )
        self.write = dspy.Predict("question -> answer")

    def forward(self, question):
        self.keeps(question=question)
        pairs = [
            (node, dspy.Example(question=question).with_inputs("question"))
            for node in (self.episodic, self.part)
        ]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        self.shared(question=question)
        self.stateless(question=question)
        self._apps[0](question=question)
        if question.endswith("fails"):
            raise ZeroDivisionError
        self.best(question=question)
        return self.write(question=question)


def build(lm):
    fold = dspy.Predict("past_memory, episode_transcript -> updated_memory")
    app = with_memory(
        Everything(),
        unbound="error",
        lock="thread",
        child_configs={
            "episodic": {"lifespan": "episodic", "consolidator": fold},
            "shared": {"isolation": "shared"},
            "stateless": {"lifespan": "stateless"},
            "write": {"window": summary(fold, keep=1)},
        },
    )
    for predictor in (*app.predictors(), fold, app.module.part, app.module._apps[0], app.module.best):
        predictor.set_lm(lm) if isinstance(predictor, dspy.Module) else None
    return app


WAYS = ("sync", "task", "to_thread", "executor", "raw", "parallel", "asyncify", "fails", "fork", "undo")
steps = st.lists(st.tuples(st.integers(0, USERS - 1), st.sampled_from(WAYS)), min_size=4, max_size=14)


class Users:
    """Makes the calls of many users at once."""

    def __init__(self, app):
        self.app = app
        self.states = [app.new_state() for _ in range(USERS)]
        self.pool = ThreadPoolExecutor(4)

    async def step(self, user, way, number):
        text = f"user{user}x says {number}"
        state, bound = self.states[user], self.app.bind(self.states[user])
        loop = asyncio.get_running_loop()
        if way == "executor":
            await loop.run_in_executor(self.pool, lambda: bound(question=text))
        elif way == "raw":
            thread = threading.Thread(target=bound, kwargs={"question": text})
            thread.start()
            await loop.run_in_executor(None, thread.join)
        elif way == "fork":
            with self.app.use_state(state.fork()):
                await self.app.acall(question=text)
        elif way == "undo":
            state.undo()
        else:
            async with self.app.use_state(state):
                await self._bound(way, text)

    async def _bound(self, way, text):
        if way == "sync":
            try:
                self.app(question=text)
            except BusyError:
                # A task of this loop holds the state: waiting for it here would never end.
                await self.app.acall(question=text)
        elif way == "task":
            await asyncio.create_task(self.app.acall(question=text))
        elif way == "to_thread":
            await asyncio.to_thread(self.app, question=text)
        elif way == "asyncify":
            await dspy.asyncify(self.app)(question=text)
        elif way == "parallel":
            pair = (self.app, dspy.Example(question=text).with_inputs("question"))
            await asyncio.to_thread(dspy.Parallel(num_threads=2, disable_progress_bar=True), [pair])
        else:
            try:
                await self.app.acall(question=f"{text} fails")
            except ZeroDivisionError:
                return
            raise AssertionError("the call was to fail")

    async def run(self, plan, seed):
        random = Random(seed)

        async def later(user, way, number):
            await asyncio.sleep(random.random() / 500)
            await self.step(user, way, number)

        await asyncio.gather(*(later(user, way, number) for number, (user, way) in enumerate(plan)))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=steps, seed=st.integers(0, 2**16))
def test_no_request_holds_another_users_text(plan, seed):
    lm = ScriptedLM(script)
    with dspy.context(lm=lm, adapter=None):
        users = Users(build(lm))
        try:
            asyncio.run(users.run(plan, seed))
        finally:
            users.pool.shutdown()
    for request in lm.requests:
        assert len(set(NAME.findall(str(request)))) == 1
    for number, state in enumerate(users.states):
        assert set(NAME.findall(str(state.to_dict()))) <= {f"user{number}x"}
    assert len(users.app.own_state) == 0
