"""The rest of DSPy around a session and inside of one: pools, async, samplers, usage, callbacks, tools."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.parallelizer import ParallelExecutor

from dspy_session import sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import PROGRAMS, Desk, Pair, wire
from tests.optimizing.test_replay import numbered

MAKERS = {
    "predict": lambda: sessionify(PROGRAMS["predict"]()),
    "pair": lambda: sessionify(Pair()),
    "memory": lambda: with_memory(Pair()),
}


@pytest.fixture
def lm() -> Any:
    model = ScriptedLM(numbered)
    with dspy.context(lm=model, adapter=None, trace=[], callbacks=[]):
        yield model


def questions(session: Any) -> list[str]:
    return [turn.inputs["question"] for turn in session.state.turns]


# ── pools ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("kind", MAKERS)
def test_parallel_around_sessions(lm: ScriptedLM, kind: str, num_threads: int) -> None:
    sessions = [MAKERS[kind]() for _ in range(6)]
    for place in range(2):
        pairs = [(session, {"question": f"user {i} says {place}"}) for i, session in enumerate(sessions)]
        dspy.Parallel(num_threads=num_threads, disable_progress_bar=True)(pairs)
    for i, session in enumerate(sessions):
        assert questions(session) == [f"user {i} says 0", f"user {i} says 1"]
        assert len(session.turns[1].history_snapshot.messages) == 1
    seen = [request for request in lm.requests if len(request) > 2]
    for request in seen:
        users = {text_of(m).split("user ")[1][0] for m in request if "user " in text_of(m)}
        assert len(users) == 1


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("lock", ["none", "thread"])
def test_parallel_calls_of_one_session(lm: ScriptedLM, lock: Any, num_threads: int) -> None:
    session = sessionify(Pair(), lock=lock)
    pairs = [(session, {"question": f"{i}"}) for i in range(10)]
    dspy.Parallel(num_threads=num_threads, disable_progress_bar=True)(pairs)
    assert sorted(questions(session)) == sorted(f"{i}" for i in range(10))
    assert [turn.index for turn in session.turns] == list(range(10))
    if lock == "thread":
        assert [len(t.history_snapshot.messages) for t in session.turns] == list(range(10))


class Fan(dspy.Module):
    """Asks its parts in parallel."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = list(steps)

    def forward(self, question: str) -> Any:
        pairs = [(step, {"question": question}) for step in self.steps]
        answers = dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)
        return dspy.Prediction(answer=" ".join(answer.answer for answer in answers))


@pytest.mark.parametrize("wrap", [sessionify, with_memory])
def test_parallel_inside_of_forward(lm: ScriptedLM, wrap: Any) -> None:
    session = wrap(Fan(*(dspy.Predict("question -> answer") for _ in range(3))))
    session(question="first")
    sent = wire(lm, lambda: session(question="second"))
    assert len(sent) == 3
    assert all(any("first" in text_of(m) for m in request[1:-1]) for request in sent)
    assert len(session) == 2


def test_sessions_in_a_pool_inside_of_a_session(lm: ScriptedLM) -> None:
    session = sessionify(
        Fan(sessionify(dspy.Predict("question -> answer")), dspy.Predict("question -> answer"))
    )
    for question in ("first", "second"):
        session(question=question)
    assert len(session) == 2
    assert len(session.state.node_states["steps[0]"]) == 2


def test_a_straggler_is_recorded_once(lm: ScriptedLM) -> None:
    session = sessionify(dspy.Predict("question -> answer"))
    runs: list[str] = []
    guard = threading.Lock()

    class Slow(ScriptedLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().forward(*args, **kwargs)
            with guard:
                runs.append("run")
                first = len(runs) == 1
            if first:
                time.sleep(2.5)
            return answer

    slow = Slow(numbered)
    with dspy.context(lm=slow):
        executor = ParallelExecutor(num_threads=2, timeout=0.5, straggler_limit=3, disable_progress_bar=True)
        executor.execute(lambda question: session(question=question), ["only one"])
    waiting = [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
    for thread in waiting:
        thread.join(10)
    assert len(runs) == 2
    assert questions(session) == ["only one"]


# ── async ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", MAKERS)
def test_asyncify(lm: ScriptedLM, kind: str) -> None:
    session = MAKERS[kind]()

    async def converse() -> None:
        call = dspy.asyncify(session)
        await call(question="first")
        await call(question="second")

    asyncio.run(converse())
    assert questions(session) == ["first", "second"]
    assert len(session.turns[1].history_snapshot.messages) == 1


class Late(dspy.Module):
    """An async program."""

    def __init__(self) -> None:
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.step.acall(question=question)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("order", ["syncify(session)", "session(syncify)"])
def test_syncify(lm: ScriptedLM, in_place: bool, order: str) -> None:
    if order == "syncify(session)":
        session = sessionify(Late())
        program = dspy.syncify(session, in_place=in_place)
    else:
        program = session = sessionify(dspy.syncify(Late(), in_place=in_place))
    for question in ("first", "second"):
        program(question=question)
    assert [list(turn.inputs.values()) for turn in session.turns] == [["first"], ["second"]]
    assert any("first" in text_of(m) for m in lm.requests[1][1:-1])
    assert len(lm.requests) == 2


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────────────


class Sampled(ScriptedLM):
    """Answers with the number of the request, and remembers its settings."""

    def __init__(self) -> None:
        super().__init__(self.numbered)
        self.asked = 0

    def numbered(self, chat: Any, names: list[str]) -> dict[str, Any]:
        type(self).count += 1
        return {name: {} if name == "advice" else f"{name} number {type(self).count}" for name in names}

    count = 0


def third(args: Any, prediction: Any) -> float:
    return 1.0 if prediction.answer.endswith(" 3") else 0.1 * int(prediction.answer.split()[-1])


@pytest.fixture
def sampled() -> Any:
    Sampled.count = 0
    model = Sampled()
    with dspy.context(lm=model, adapter=None, trace=[], callbacks=[]):
        yield model


def sampler(kind: str, module: Any, n: int = 3) -> Any:
    return getattr(dspy, kind)(module=module, N=n, reward_fn=third, threshold=1.0)


@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
@pytest.mark.parametrize("wrap", [sessionify, with_memory])
def test_samplers_around_a_session(sampled: Sampled, kind: str, wrap: Any) -> None:
    told: list[Any] = []
    session = wrap(dspy.Predict("question -> answer"), on_turn=lambda s, turn: told.append(turn))
    program = sampler(kind, session)
    prediction = program(question="first")
    assert [turn.outputs["answer"] for turn in session.turns] == [prediction.answer]
    program(question="second")
    assert questions(session) == ["first", "second"]
    assert len(session.turns[1].history_snapshot.messages) == 1
    assert [turn.inputs["question"] for turn in told] == ["first", "second"]
    last = sampled.requests[-1]
    past = [text_of(m) for m in last[1:-1] if m["role"] == "user"]
    assert sum("first" in text for text in past) == 1
    session(question="third")
    assert questions(session) == ["first", "second", "third"]


@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
@pytest.mark.parametrize("wrap", [sessionify, with_memory])
def test_samplers_inside_a_session(sampled: Sampled, kind: str, wrap: Any) -> None:
    session = wrap(sampler(kind, dspy.Predict("question -> answer")))
    session(question="first")
    asked = len(sampled.requests)
    session(question="second")
    assert questions(session) == ["first", "second"]
    sent = [r for r in sampled.requests[asked:] if "second" in text_of(r[-1]) and len(r) > 2]
    assert sent
    for request in sent:
        past = [text_of(m) for m in request[1:-1]]
        assert any("first" in text for text in past)
        assert not any("second" in text for text in past)


@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
def test_samplers_around_a_program_with_a_session_in_it(sampled: Sampled, kind: str) -> None:
    part = sessionify(dspy.Predict("question -> answer"))
    program = sampler(kind, Desk(part), n=2)
    program(question="first")
    assert len(part) == 1
    program(question="second")
    assert questions(part) == ["first", "second"]
    assert len(part.turns[1].history_snapshot.messages) == 1


@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
def test_samplers_in_a_bound_state(sampled: Sampled, kind: str) -> None:
    app = with_memory(Pair())
    state = app.new_state()
    program = sampler(kind, app, n=2)
    with app.use_state(state):
        program(question="first")
        program(question="second")
    assert [turn.inputs["question"] for turn in state.turns] == ["first", "second"]
    assert len(app.own_state) == 0
    assert {path: len(node) for path, node in state.node_states.items()} == {
        "planner.predict": 2,
        "writer": 2,
    }


@pytest.mark.parametrize("last_wins", [False, True])
@pytest.mark.parametrize("wrap", [sessionify, with_memory])
def test_samplers_around_one_session_in_many_threads(wrap: Any, last_wins: bool) -> None:
    slow = ScriptedLM(numbered, delay=0.002)
    rewards = itertools.count()

    def reward(*_: Any) -> float:
        return next(rewards) / 1_000 if last_wins else 0.5

    for _ in range(10):
        with dspy.context(lm=slow, adapter=None, trace=[], callbacks=[]):
            session = wrap(Pair())
            program = dspy.BestOfN(module=session, N=2, reward_fn=reward, threshold=1.0)
            pairs = [(program, {"question": str(i)}) for i in range(8)]
            dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
        assert sorted(questions(session)) == [str(i) for i in range(8)]
    assert [turn.index for turn in session.turns] == list(range(8))
    if wrap is with_memory:
        assert {len(node) for node in session.state.node_states.values()} == {8}


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Pydantic serializer warnings:UserWarning",
    "ignore:Item .* on TypedDict class:UserWarning",
)
@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
def test_resampling_really_happens(kind: str, tmp_path: Any) -> None:
    from tests.optimizing.endpoint import endpoint

    count = iter(range(1, 100))

    def answer(messages: Any, names: list[str]) -> dict[str, Any]:
        return {name: {} if name == "advice" else f"{name} number {next(count)}" for name in names}

    with endpoint(answer) as server:
        lm = dspy.LM("openai/loop", api_base=server.url, api_key="none", cache=True, num_retries=0)
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), trace=[], callbacks=[]):
            session = sessionify(dspy.Predict("question -> answer"))
            question = f"really? {tmp_path}"
            sampler(kind, session, n=3)(question=question)
            asked = [r for r in server.requests if "really?" in text_of(r[-1])]
            assert len(asked) == 3 if kind == "BestOfN" else len(asked) >= 2
            assert len(session) == 1


# ── usage, callbacks, traces, contexts ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", MAKERS)
def test_usage(lm: ScriptedLM, kind: str) -> None:
    bare = {"predict": PROGRAMS["predict"], "pair": Pair, "memory": Pair}[kind]()
    session = MAKERS[kind]()
    with dspy.context(track_usage=True):
        expected = bare(question="first").get_lm_usage()
        assert session(question="first").get_lm_usage() == expected
        asyncio_usage = dspy.asyncify(session)
        assert asyncio.run(asyncio_usage(question="second")).get_lm_usage() == expected
    assert session.turns[0].usage is not None
    assert session.turns[0].usage.calls == (1 if kind == "predict" else 2)


class Watcher(BaseCallback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append(f"+{type(instance).__name__}")

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append("-" if exception is None else "!")

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append("lm")

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append("format")

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append("parse")

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append("tool")


@pytest.mark.parametrize("name", ["predict", "cot", "pair", "react"])
def test_callbacks_see_a_session_as_one_module_around_the_program(lm: ScriptedLM, name: str) -> None:
    bare_watcher, watcher = Watcher(), Watcher()
    with dspy.context(callbacks=[bare_watcher]):
        PROGRAMS[name]()(question="first")
    session = sessionify(PROGRAMS[name]())
    with dspy.context(callbacks=[watcher]):
        session(question="first")
        first = list(watcher.seen)
        session(question="second")
    assert first == ["+Session", *bare_watcher.seen, "-"]
    assert watcher.seen[len(first) :] == first


def test_callbacks_of_the_session_itself(lm: ScriptedLM) -> None:
    watcher = Watcher()
    session = sessionify(Pair())
    session.callbacks.append(watcher)
    session(question="first")
    assert watcher.seen == ["+Session", "-"]
    watcher.seen.clear()
    for copied in (session.deepcopy(), session.fork(), session.reset_copy()):
        copied(question="second")
    assert watcher.seen == ["+Session", "-"] * 3


def test_the_trace_is_the_bare_programs_with_histories(lm: ScriptedLM) -> None:
    session = sessionify(Pair())
    session(question="first")
    with dspy.context(trace=[]):
        session(question="second")
        trace = dspy.settings.trace
    assert [step[0] for step in trace] == [p for _, p in session.named_predictors()]
    for _, inputs, outputs in trace:
        assert [m["question"] for m in inputs["history"].messages] == ["first"]
        assert outputs


def test_a_context_inside_of_forward(lm: ScriptedLM) -> None:
    other = ScriptedLM(numbered, model="other")

    class Switching(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("question -> plan")
            self.second = dspy.Predict("question, plan -> answer")

        def forward(self, question: str) -> Any:
            with dspy.context(lm=other, adapter=dspy.JSONAdapter(), trace=[]):
                plan = self.first(question=question).plan
            return self.second(question=question, plan=plan)

    session = sessionify(Switching())
    session(question="first")
    session(question="second")
    assert len(other.requests) == len(lm.requests) == 2
    for model in (other, lm):
        assert any("first" in text_of(m) for m in model.requests[1][1:-1])
    assert "JSON" in text_of(other.requests[1][0]) or "json" in text_of(other.requests[1][-1]).lower()
    assert "[[ ## answer ## ]]" in text_of(lm.requests[1][-1])
    assert session.turns[0].model == "other, scripted"


def test_inspect_history(lm: ScriptedLM) -> None:
    session = sessionify(Pair())
    session(question="first")
    assert [len(entry["messages"]) for entry in session.history] == [2, 2]


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────

MCP_SERVER = """
try:
    from mcp.server import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer
server = MCPServer("places")

@server.tool()
def tool(place: str) -> str:
    "Look a place up."
    return f"{place} lies in Norway"

server.run()
"""


def test_mcp_tools(lm: ScriptedLM, tmp_path: Any) -> None:
    pytest.importorskip("mcp", reason="the mcp package is not installed")
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    script = tmp_path / "server.py"
    script.write_text(MCP_SERVER)

    async def converse() -> Any:
        parameters = StdioServerParameters(command=sys.executable, args=["-W", "ignore", str(script)])
        async with stdio_client(parameters) as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            tools = [dspy.Tool.from_mcp_tool(client, found) for found in (await client.list_tools()).tools]
            session = sessionify(dspy.ReAct("question -> answer", tools=tools, max_iters=3))
            await session.acall(question="first")
            await session.acall(question="second")
            return session

    session = asyncio.run(converse())
    assert len(session) == 2
    assert "Oslo lies in Norway" in str(session.turns[1].extras["trajectory"])
    assert any("first" in text_of(m) for m in lm.requests[-1][1:-1])
