"""Sessions in streams, over HTTP on loopback: chunks reach the listener, and only whole turns are kept."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest
from dspy.streaming import StreamListener, StreamResponse

from dspy_session import sessionify, with_memory
from dspy_session.testing.lm import text_of
from tests.optimizing.endpoint import Endpoint, endpoint

pytestmark = pytest.mark.filterwarnings(
    # The HTTP clients under DSPy close their sockets when they are collected.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Pydantic serializer warnings:UserWarning",
    "ignore:Item .* on TypedDict class:UserWarning",
    "ignore::DeprecationWarning",
)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as running:
        lm = dspy.LM("openai/loop", api_base=running.url, api_key="none", cache=False, num_retries=0)
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), trace=[], callbacks=[], track_usage=False):
            yield running


class Pipeline(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.ChainOfThought("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.writer(question=question, plan=self.planner(question=question).plan)

    async def aforward(self, question: str) -> Any:
        plan = (await self.planner.acall(question=question)).plan
        return await self.writer.acall(question=question, plan=plan)


PROGRAMS: dict[str, Callable[[], Any]] = {
    "predict": lambda: dspy.Predict("question -> answer"),
    "cot": lambda: dspy.ChainOfThought("question -> answer"),
    "pipeline": Pipeline,
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda session: session,
    "fork": lambda session: session.fork(),
    "deepcopy": copy.deepcopy,
    "reset_copy": lambda session: session.reset_copy(),
    "bound": lambda session: session.bind(session.new_state()),
}


async def consume(stream: Any) -> tuple[str, Any]:
    """The streamed text, and the prediction at the end."""
    text, prediction = "", None
    async for item in stream:
        if isinstance(item, StreamResponse):
            text += item.chunk
        elif isinstance(item, dspy.Prediction):
            prediction = item
    # Older listeners pass on the line break in front of the end marker.
    return text.strip(), prediction


def streamed(program: Any, *, is_async: bool) -> Callable[..., Any]:
    listener = StreamListener(signature_field_name="answer", allow_reuse=True)
    return dspy.streamify(program, stream_listeners=[listener], is_async_program=is_async)  # type: ignore[no-any-return]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_chunk_reaches_the_listener(server: Endpoint, name: str, way: str, is_async: bool) -> None:
    async def converse(program: Any) -> list[tuple[str, Any]]:
        stream = streamed(program, is_async=is_async)
        return [await consume(stream(question=q)) for q in ("first", "second")]

    bare = asyncio.run(converse(PROGRAMS[name]()))
    original = sessionify(PROGRAMS[name]())
    session = WAYS[way](original)
    told = asyncio.run(converse(session))
    assert told[0] == bare[0]
    for text, prediction in told:
        assert text == prediction.answer
    turns = session.state.turns
    assert [turn.outputs["answer"] for turn in turns] == [prediction.answer for _, prediction in told]
    past = server.requests[-1]
    assert next(text_of(m) for m in past if m["role"] == "user").startswith("[[ ## question ## ]]\nfirst")
    if way != "itself":
        assert len(original) == 0
    assert server.streamed > 0


def test_two_fields_of_two_predictors(server: Endpoint) -> None:
    session = with_memory(Pipeline())
    listeners = [
        StreamListener(signature_field_name="plan", predict=session.module.planner.predict),
        StreamListener(signature_field_name="answer"),
    ]
    stream = dspy.streamify(session, stream_listeners=listeners)

    async def collect() -> dict[str, str]:
        found: dict[str, str] = {}
        async for item in stream(question="first"):
            if isinstance(item, StreamResponse):
                found[item.signature_field_name] = found.get(item.signature_field_name, "") + item.chunk
        return found

    found = asyncio.run(collect())
    assert set(found) == {"plan", "answer"}
    assert found["answer"].strip() == session.turns[0].outputs["answer"]


def test_a_synchronous_stream(server: Endpoint) -> None:
    session = sessionify(PROGRAMS["predict"]())
    listener = StreamListener(signature_field_name="answer", allow_reuse=True)
    stream = dspy.streamify(session, stream_listeners=[listener], async_streaming=False)
    for question in ("first", "second"):
        text = "".join(item.chunk for item in stream(question=question) if isinstance(item, StreamResponse))
        assert text.strip() == session.turns[-1].outputs["answer"]
    assert len(session) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_broken_stream_leaves_no_turn(server: Endpoint, is_async: bool) -> None:
    session = sessionify(PROGRAMS["predict"](), lock="async")
    stream = streamed(session, is_async=is_async)
    asyncio.run(consume(stream(question="first")))
    server.answer = lambda messages, names: {"other": "not what was asked for"}
    with pytest.raises(Exception):  # noqa: B017
        asyncio.run(consume(stream(question="second")))
    assert len(session) == 1
    server.answer = lambda messages, names: dict.fromkeys(names, "well")
    asyncio.run(consume(stream(question="third")))
    assert [turn.inputs["question"] for turn in session.turns] == ["first", "third"]


def test_a_reader_who_leaves_leaves_no_turn(server: Endpoint) -> None:
    session = sessionify(PROGRAMS["predict"](), lock="async")

    async def leave() -> None:
        stream = streamed(session, is_async=True)(question="first")
        async for item in stream:
            if isinstance(item, StreamResponse):
                break
        # Older versions of DSPy tell whoever closes a stream that it was closed.
        with contextlib.suppress(BaseException):
            await stream.aclose()

    asyncio.run(leave())
    assert len(session) == 0
    session(question="second")
    assert len(session) == 1


def test_streams_of_many_users_at_once(server: Endpoint) -> None:
    app = with_memory(PROGRAMS["predict"](), unbound="error")
    states = [app.new_state() for _ in range(8)]

    async def user(number: int) -> None:
        stream = streamed(app.bind(states[number]), is_async=True)
        for place in range(2):
            await consume(stream(question=f"user {number} says {place}"))

    async def everybody() -> None:
        await asyncio.gather(*(user(number) for number in range(8)))

    asyncio.run(everybody())
    for number, state in enumerate(states):
        assert [t.inputs["question"] for t in state.turns] == [f"user {number} says {i}" for i in range(2)]
        assert "message 4" in state.turns[1].outputs["answer"]
        assert f"user {number} says 0" in state.turns[1].outputs["answer"]


def test_a_stream_consumed_outside_of_the_block(server: Endpoint) -> None:
    app = with_memory(PROGRAMS["predict"]())
    app.set_lm(dspy.settings.lm)
    state = app.new_state()
    stream = streamed(app.bind(state), is_async=False)(question="first")
    thread = threading.Thread(target=lambda: asyncio.run(consume(stream)))
    thread.start()
    thread.join()
    assert len(state) == 1
    assert len(app.own_state) == 0


def test_usage_of_a_turn_over_http(server: Endpoint) -> None:
    session = sessionify(Pipeline())
    with dspy.context(track_usage=True):
        prediction = session(question="first")
    usage = prediction.get_lm_usage()
    assert usage["openai/loop"]["total_tokens"] == 54
    assert session.turns[0].usage is not None
    assert session.turns[0].usage.total_tokens == 54
    assert session.turns[0].usage.calls == 2
    assert session.turns[0].model == "openai/loop"


def test_status_messages(server: Endpoint) -> None:
    class Status(dspy.streaming.StatusMessageProvider):
        def module_start_status_message(self, instance: Any, inputs: Any) -> str:
            return f"{type(instance).__name__} starts"

    async def collect(program: Any) -> list[str]:
        stream = dspy.streamify(program, status_message_provider=Status())
        return [i.message async for i in stream(question="q") if isinstance(i, dspy.streaming.StatusMessage)]

    bare = asyncio.run(collect(Pipeline()))
    told = asyncio.run(collect(sessionify(Pipeline())))
    assert bare
    assert told == ["Session starts", *bare]
