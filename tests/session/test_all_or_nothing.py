"""A turn is recorded whole or not at all, and an answer that was paid for is never lost."""

from __future__ import annotations

import asyncio
import threading

import dspy
import pytest

from dspy_session import StandIn, sessionify
from dspy_session.testing.lm import ScriptedLM


class Failing(dspy.Module):
    def __init__(self, error=None):
        super().__init__()
        self.inner = dspy.Predict("question -> answer")
        self.error = error

    def forward(self, question):
        answer = self.inner(question=question)
        if question.startswith("fail"):
            raise self.error or RuntimeError("the program broke")
        return answer

    async def aforward(self, question):
        answer = await self.inner.acall(question=question)
        if question.startswith("fail"):
            raise self.error or RuntimeError("the program broke")
        return answer


@pytest.mark.parametrize("lock", ["none", "thread", "async"])
@pytest.mark.parametrize("policy", ["override", "use_if_provided", "replace_session"])
@pytest.mark.parametrize("use_async", [False, True])
def test_an_exception_leaves_everything_as_it_was(lm, lock, policy, use_async):
    def ask(**inputs):
        return asyncio.run(chat.acall(**inputs)) if use_async else chat(**inputs)

    chat = sessionify(
        Failing(),
        lock=lock,
        history_policy=policy,
        initial_history=dspy.History(messages=[{"question": "s"}]),
    )
    ask(question="one")
    before = chat.save_state()
    with pytest.raises(RuntimeError, match="the program broke"):
        ask(question="fail")
    with pytest.raises(RuntimeError, match="the program broke"):
        ask(question="fail", history=dspy.History(messages=[{"question": "x", "answer": "y"}]))
    assert chat.save_state() == before
    ask(question="two")
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "two"]


def test_an_error_of_the_model():
    def script(chat, names):
        if len(chat) > 2:
            raise ConnectionError("no network")
        return {"answer": "fine"}

    with dspy.context(lm=ScriptedLM(script), adapter=None):
        chat = sessionify(dspy.Predict("question -> answer"), lock="thread")
        chat(question="one")
        with pytest.raises(ConnectionError, match="no network"):
            chat(question="two")
        assert len(chat) == 1
        chat.undo()
        chat(question="again")


def test_an_error_of_the_adapter():
    from dspy.utils.exceptions import AdapterParseError

    with dspy.context(lm=ScriptedLM(lambda chat, names: "{}"), adapter=dspy.JSONAdapter()):
        chat = sessionify(dspy.Predict("question -> answer: int"), lock="async")
        with pytest.raises(AdapterParseError):
            chat(question="one")
        assert len(chat) == 0


class Slow(dspy.Module):
    """Waits until it is let go."""

    def __init__(self):
        super().__init__()
        self.started = 0

    async def aforward(self, question):
        self.started += 1
        await asyncio.sleep(3600 if question == "forever" else 0)
        return dspy.Prediction(answer=question)


@pytest.mark.parametrize("lock", ["none", "thread", "async"])
def test_a_cancelled_task(lock):
    async def main():
        chat = sessionify(Slow(), lock=lock)
        await chat.acall(question="one")
        task = asyncio.create_task(chat.acall(question="forever"))
        while chat.module.started < 2:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(chat.acall(question="waits"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await waiting
        await chat.acall(question="two")
        return [turn.inputs["question"] for turn in chat.turns]

    assert asyncio.run(main()) == ["one", "waits", "two"]


def test_a_cancelled_waiter_passes_the_lock_on():
    async def main():
        chat = sessionify(Slow(), lock="async")
        first = asyncio.create_task(chat.acall(question="forever"))
        while not chat.module.started:
            await asyncio.sleep(0)
        second = asyncio.create_task(chat.acall(question="second"))
        third = asyncio.create_task(chat.acall(question="third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        first.cancel()
        await third
        await asyncio.gather(first, second, return_exceptions=True)
        return [turn.inputs["question"] for turn in chat.turns]

    assert asyncio.run(main()) == ["third"]


def test_a_client_that_leaves_in_mid_stream():
    reached = threading.Event()

    class Streamed(dspy.Module):
        async def aforward(self, question):
            reached.set()
            await asyncio.sleep(3600 if question == "forever" else 0)
            return dspy.Prediction(answer=question)

    async def main():
        chat = sessionify(Streamed(), lock="async")
        stream = dspy.streamify(chat, is_async_program=True)(question="forever")
        reading = asyncio.create_task(stream.__anext__())
        while not reached.is_set():
            await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await stream.aclose()
        assert len(chat) == 0
        await chat.acall(question="two")
        return len(chat)

    assert asyncio.run(main()) == 1


def test_replace_session_replaces_only_with_the_answer(lm):
    chat = sessionify(Failing(), history_policy="replace_session")
    chat(question="one")
    given = dspy.History(messages=[{"question": "seed", "answer": "told"}])
    with pytest.raises(RuntimeError):
        chat(question="fail", history=given)
    assert [turn.inputs["question"] for turn in chat.turns] == ["one"]
    chat(question="new", history=given)
    assert [turn.inputs["question"] for turn in chat.turns] == ["new"]
    assert chat.session_history.messages[0] == {"question": "seed", "answer": "told"}


# ── values that cannot be copied ─────────────────────────────────────────────────────────────────────────────


def uncopyable_values():
    return {
        "lock": threading.Lock(),
        "generator": (n for n in range(3)),
        "nested": {"deep": [threading.Lock()]},
    }


@pytest.mark.parametrize("kind", uncopyable_values())
def test_an_output_that_cannot_be_copied_costs_nothing(lm, kind):
    class Returns(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer="paid for", handle=uncopyable_values()[kind])

    chat = sessionify(Returns())
    with pytest.warns(UserWarning, match="'handle'"):
        answer = chat(question="one")
    assert answer.answer == "paid for"
    turn = chat.turns[0]
    assert turn.outputs["answer"] == "paid for"
    assert isinstance(turn.outputs["handle"], StandIn)
    assert turn.outputs["handle"].type_name.startswith(("_thread:", "builtins:"))
    chat_dict = chat.save_state()
    assert chat_dict["turns"][0]["outputs"]["handle"]["$type"] == "stand-in"


@pytest.mark.parametrize("kind", uncopyable_values())
def test_an_input_that_cannot_be_copied_reaches_the_program(lm, kind):
    class Takes(dspy.Module):
        def forward(self, question, handle):
            assert not isinstance(handle, StandIn)
            return dspy.Prediction(answer="fine")

    chat = sessionify(Takes())
    with pytest.warns(UserWarning, match="'handle'"):
        chat(question="one", handle=uncopyable_values()[kind])
    assert chat.turns[0].inputs["question"] == "one"
    assert isinstance(chat.turns[0].inputs["handle"], StandIn)
    assert not chat.turns[0].exact


def test_a_value_whose_text_cannot_be_had(lm):
    class Awkward:
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

        def __str__(self):
            raise RuntimeError("no text")

        __repr__ = __str__

    class Returns(dspy.Module):
        def forward(self, question):
            return {"answer": "paid for", "handle": Awkward()}

    chat = sessionify(Returns())
    with pytest.warns(UserWarning, match="handle"):
        assert chat(question="one")["answer"] == "paid for"
    assert "Awkward" in chat.turns[0].outputs["handle"].type_name
    assert chat.turns[0].outputs["handle"]


def test_results_of_every_shape(lm):
    import pydantic

    class Model(pydantic.BaseModel):
        answer: str = "m"

    class Gives(dspy.Module):
        def __init__(self, result):
            super().__init__()
            self.result = result

        def forward(self, question):
            return self.result

    cases = [
        ("text", {"output": "text"}),
        (None, {"output": None}),
        (42, {"output": 42}),
        ({"a": 1}, {"a": 1}),
        (Model(), {"answer": "m"}),
        (dspy.Prediction(x=1), {"x": 1}),
        (dspy.Example(x=1), {"x": 1}),
        (("a", "b"), {"output": ("a", "b")}),
    ]
    for result, outputs in cases:
        chat = sessionify(Gives(result))
        assert chat(question="one") == result
        assert chat.turns[0].outputs == outputs
        chat(question="two")


def test_a_history_whose_values_cannot_be_copied(lm):
    given = dspy.History.model_construct(messages=[{"question": threading.Lock(), "answer": "eight"}])
    chat = sessionify(dspy.Predict("question -> answer"), history_policy="use_if_provided")
    with pytest.warns(UserWarning, match="'question'"):
        assert chat(question="one", history=given).answer == "answer 1"
    assert isinstance(chat.turns[0].history_snapshot.messages[0]["question"], StandIn)
    with pytest.warns(UserWarning, match="'question'"):
        sessionify(dspy.Predict("question -> answer"), initial_history=given)(question="one")


def test_a_value_that_can_be_copied_only_once(lm):
    class Once:
        copies = 0

        def __deepcopy__(self, memo):
            Once.copies += 1
            if Once.copies > 1:
                raise RuntimeError("no more copies")
            return Once()

    class Returns(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer="fine", handle=Once())

    chat = sessionify(Returns())
    chat(question="one")
    assert chat.turns[0].outputs["answer"] == "fine"
    assert isinstance(chat.turns[0].outputs["handle"], StandIn)
    assert chat.session_history.messages[0]["answer"] == "fine"
