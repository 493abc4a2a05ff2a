"""Calling a session: locks, inner calls, callbacks, and DSPy's own instruments."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from dspy_session import sessionify
from dspy_session.errors import BusyError
from dspy_session.testing.lm import ScriptedLM, text_of


class Gate(dspy.Module):
    """Lets the test see how many calls are inside, and answers what it was asked."""

    inside = 0
    most = 0

    def __init__(self):
        super().__init__()
        self.guard = None

    def _enter(self):
        Gate.inside += 1
        Gate.most = max(Gate.most, Gate.inside)

    def forward(self, question):
        self._enter()
        try:
            for _ in range(50):
                threading.Event().wait(0.0002)
        finally:
            Gate.inside -= 1
        return dspy.Prediction(answer=question)

    async def aforward(self, question):
        self._enter()
        try:
            for _ in range(20):
                await asyncio.sleep(0.0002)
        finally:
            Gate.inside -= 1
        return dspy.Prediction(answer=question)


@pytest.fixture(autouse=True)
def _empty_gate():
    Gate.inside = Gate.most = 0


def exact_chain(chat):
    """Whether each turn was given exactly the turns before it."""
    asked = [turn.inputs["question"] for turn in chat.turns]
    return all(
        [m["question"] for m in turn.history_snapshot.messages] == asked[: turn.index] for turn in chat.turns
    )


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_threads_wait_for_each_other(lock):
    chat = sessionify(Gate(), lock=lock)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: chat(question=n), range(12)))
    assert Gate.most == 1
    assert len(chat) == 12
    assert exact_chain(chat)


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_tasks_wait_for_each_other(lock):
    async def main():
        chat = sessionify(Gate(), lock=lock)
        await asyncio.gather(*(chat.acall(question=n) for n in range(10)))
        return chat

    chat = asyncio.run(main())
    assert Gate.most == 1
    assert [turn.inputs["question"] for turn in chat.turns] == list(range(10))
    assert exact_chain(chat)


@pytest.mark.parametrize("lock", ["thread", "async"])
def test_threads_and_tasks_of_several_loops_wait_for_each_other(lock):
    chat = sessionify(Gate(), lock=lock)

    async def several(start):
        await asyncio.gather(*(chat.acall(question=start + n) for n in range(3)))

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(lambda s=s: asyncio.run(several(s))) for s in (0, 10)]
        jobs += [pool.submit(lambda n=n: chat(question=n)) for n in (20, 21, 22)]
        for job in jobs:
            job.result(60)
    assert Gate.most == 1
    assert len(chat) == 9
    assert exact_chain(chat)


def test_without_a_lock_each_call_sees_a_snapshot_and_none_is_lost():
    chat = sessionify(Gate())
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: chat(question=n), range(24)))
    assert [turn.index for turn in chat.turns] == list(range(24))
    assert sorted(turn.inputs["question"] for turn in chat.turns) == list(range(24))
    for turn in chat.turns:
        shown = [m["question"] for m in turn.history_snapshot.messages]
        assert shown == [t.inputs["question"] for t in chat.turns][: len(shown)]


def test_a_lock_protects_one_state_not_all_users():
    chat = sessionify(Gate(), lock="thread")
    states = [chat.new_state() for _ in range(4)]
    arrived = threading.Barrier(4, timeout=30)

    class Meeting(dspy.Module):
        def forward(self, question):
            arrived.wait()
            return "met"

    meeting = sessionify(Meeting(), lock="thread", copy_mode="none")

    def ask(state):
        with meeting.use_state(state):
            return meeting(question="x")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, states)) == ["met"] * 4
    assert [len(state) for state in states] == [1] * 4


def test_busy_fails_instead_of_waiting():
    entered, leave = threading.Event(), threading.Event()

    class Waits(dspy.Module):
        def forward(self, question):
            entered.set()
            assert leave.wait(30)
            return "done"

    chat = sessionify(Waits(), lock="thread", busy="fail")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: chat(question="one"))
        assert entered.wait(30)
        with pytest.raises(BusyError, match="busy"):
            chat(question="two")
        leave.set()
        assert first.result(30) == "done"
    chat(question="three")
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "three"]


# ── calls inside an open turn ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lock", ["none", "thread", "async"])
@pytest.mark.parametrize("how", ["direct", "parallel", "async"])
def test_a_call_inside_an_open_turn_belongs_to_it(lm, lock, how):
    class Recursive(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> answer")
            self.whole = None

        def forward(self, question):
            if question.startswith("inner"):
                return self.inner(question=question)
            if how == "parallel":
                jobs = [(self.whole, {"question": "inner"}), (self.whole, {"question": "inner 2"})]
                dspy.Parallel(num_threads=2, disable_progress_bar=True)(jobs)
            elif how == "direct":
                self.whole(question="inner")
            return self.inner(question=question)

        async def aforward(self, question):
            if question.startswith("inner"):
                return await self.inner.acall(question=question)
            await asyncio.gather(self.whole.acall(question="inner"), self.whole.acall(question="inner 2"))
            return await self.inner.acall(question=question)

    module = Recursive()
    chat = sessionify(module, lock=lock, copy_mode="none")
    object.__setattr__(module, "whole", chat)
    for question in ("one", "two"):
        asyncio.run(chat.acall(question=question)) if how == "async" else chat(question=question)
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "two"]
    assert exact_chain(chat)
    half = len(lm.requests) // 2
    for request in lm.requests[half:]:
        assert "one" in text_of(request[1])
        assert len(request) == 4


# ── on_turn ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_turn_hears_each_recorded_turn(lm):
    seen = []
    chat = sessionify(dspy.Predict("question -> answer"), on_turn=lambda s, t: seen.append((s is chat, t)))
    chat(question="one")
    asyncio.run(chat.acall(question="two"))
    chat(question="three", history=dspy.History(messages=[]))
    chat.add_turn({"question": "four"}, {"answer": "x"})
    assert [(own, turn.index) for own, turn in seen] == [(True, 0), (True, 1)]
    assert seen[1][1] == chat.turns[1]


def test_on_turn_may_be_async(lm):
    seen = []

    async def hear(session, turn):
        await asyncio.sleep(0)
        seen.append(turn.index)

    chat = sessionify(dspy.Predict("question -> answer"), on_turn=hear, lock="async")
    chat(question="one")
    asyncio.run(chat.acall(question="two"))

    async def sync_call_in_a_loop():
        chat(question="three")

    asyncio.run(sync_call_in_a_loop())
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("lock", ["none", "thread", "async"])
def test_on_turn_may_call_the_session(lm, lock):
    def again(session, turn):
        if turn.index < 2:
            session(question=f"after {turn.index}")

    chat = sessionify(dspy.Predict("question -> answer"), on_turn=again, lock=lock)
    chat(question="one")
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "after 0", "after 1"]
    assert exact_chain(chat)


@pytest.mark.parametrize("use_async", [False, True])
def test_on_turn_cannot_break_the_session_and_logs_no_conversation(lm, caplog, use_async):
    if use_async:

        async def broken(session, turn):
            raise ValueError(f"secret {turn.inputs}")

    else:

        def broken(session, turn):
            raise ValueError(f"secret {turn.inputs}")

    chat = sessionify(dspy.Predict("question -> answer"), on_turn=broken)
    with caplog.at_level(logging.INFO):
        chat(question="my password")
        asyncio.run(chat.acall(question="my password"))
    assert len(chat) == 2
    assert "ValueError" in caplog.text
    assert "my password" not in caplog.text


# ── DSPy's own ───────────────────────────────────────────────────────────────────────────────────────────────


def test_positional_arguments(lm):
    class Adds(dspy.Module):
        def forward(self, left, right=2, *, scale=1):
            return (left + right) * scale

    chat = sessionify(Adds())
    assert chat(1) == 3
    assert chat(1, 3) == 4
    assert chat(1, right=4, scale=2) == 10
    assert [turn.inputs for turn in chat.turns] == [
        {"left": 1},
        {"left": 1, "right": 3},
        {"left": 1, "right": 4, "scale": 2},
    ]
    with pytest.raises(TypeError):
        chat(1, 2, 3)
    with pytest.raises(TypeError):
        chat(1, left=2)
    with pytest.raises(TypeError):
        chat(nothing=1)
    assert len(chat) == 3


def test_the_way_a_predictor_refuses_positional_arguments(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    with pytest.raises(ValueError, match=r"[Pp]ositional"):
        chat("one")
    assert len(chat) == 0


def test_module_is_the_copy_or_the_very_object(lm):
    module = dspy.Predict("question -> answer")
    assert sessionify(module).module is not module
    assert sessionify(module, copy_mode="shallow").module is not module
    assert sessionify(module, copy_mode="none").module is module


def test_callbacks_see_a_session_as_a_module(lm):
    from dspy.utils.callback import BaseCallback

    class Notes(BaseCallback):
        def __init__(self):
            self.started, self.ended = [], []

        def on_module_start(self, call_id, instance, inputs):
            self.started.append((type(instance).__name__, inputs))

        def on_module_end(self, call_id, outputs, exception):
            self.ended.append(exception)

    notes = Notes()
    with dspy.context(callbacks=[notes]):
        chat = sessionify(dspy.ChainOfThought("question -> answer"))
        chat(question="one")
    assert [name for name, _ in notes.started] == ["Session", "ChainOfThought", "Predict"]
    assert notes.ended == [None] * 3


def test_track_usage(lm):
    with dspy.context(track_usage=True):
        chat = sessionify(dspy.Predict("question -> answer"))
        answer = chat(question="one")
    assert answer.get_lm_usage()
    assert chat.turns[0].usage.prompt_tokens == 2


def test_usage_of_a_turn_is_that_turns_alone(lm):
    chat = sessionify(dspy.ChainOfThought("question -> answer"))

    async def at_once():
        await asyncio.gather(*(chat.acall(question=str(n)) for n in range(8)))

    asyncio.run(at_once())
    assert [turn.usage.calls for turn in chat.turns] == [1] * 8


def test_inspect_history(lm, capsys):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    assert len(chat.history) == 2
    chat.inspect_history()
    assert "two" in capsys.readouterr().out


def test_forward_and_aforward_are_calls_too(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    asyncio.run(chat.aforward(question="one"))
    chat.__class__.forward(chat, question="two")
    assert len(chat) == 2


def test_states_are_bound_for_a_block(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    anna, ben = chat.new_state(), chat.new_state()
    with chat.use_state(anna) as bound:
        assert bound is anna
        chat(question="anna")
        with chat.use_state(ben):
            chat(question="ben")
        chat(question="anna again")
    chat(question="nobody")
    assert [len(state) for state in (anna, ben, chat.own_state)] == [2, 1, 1]
    with pytest.raises(TypeError):
        chat.use_state({})


def test_nothing_of_a_conversation_is_logged(lm, caplog):
    with caplog.at_level(logging.INFO):
        chat = sessionify(dspy.Predict("question -> answer"), max_stored_turns=1)
        chat(question="my password")
        chat.undo()
        chat(question="my password")
        chat.score(lambda example, prediction: 1 / 0)
    assert "my password" not in caplog.text
    assert "division" not in caplog.text


def test_json_fallback_of_the_chat_adapter_keeps_the_conversation():
    replies = iter(["garbage", '{"answer": "fine"}'])

    def script(chat, names):
        return {"answer": "first"} if len(chat) == 2 else next(replies)

    lm = ScriptedLM(script)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        chat = sessionify(dspy.Predict("question -> answer"))
        chat(question="one")
        assert chat(question="two").answer == "fine"
    fallback = lm.requests[2]
    assert [m["role"] for m in fallback] == ["system", "user", "assistant", "user"]
    assert '"answer": "first"' in text_of(fallback[2])


def test_what_a_predictor_takes_beside_inputs_is_no_input(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one", config={"temperature": 0.5}, demos=[{"question": "d", "answer": "e"}], lm=lm)
    assert chat.turns[0].inputs == {"question": "one"}
    assert text_of(lm.requests[0][2]).find("e") >= 0


def test_batch_answers_each_by_itself(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="live")
    asked = [dspy.Example(question=str(n)).with_inputs("question") for n in range(3)]
    assert len(chat.batch(asked, num_threads=2, disable_progress_bar=True)) == 3
    assert len(chat) == 1
    assert [len(request) for request in lm.requests] == [2] * 4


def test_streams_are_turns(lm):
    async def main():
        chat = sessionify(dspy.Predict("question -> answer"))
        program = dspy.streamify(chat)
        for question in ("one", "two"):
            async for _ in program(question=question):
                pass
        return chat

    chat = asyncio.run(main())
    assert exact_chain(chat)
    assert len(chat) == 2


def test_copies_go_their_own_ways(lm):
    import copy

    import cloudpickle

    chat = sessionify(dspy.ChainOfThought("question -> answer"), lock="thread")
    chat(question="one")
    twins = [
        copy.copy(chat),
        copy.deepcopy(chat),
        chat.deepcopy(),
        cloudpickle.loads(cloudpickle.dumps(chat)),
    ]
    for twin in twins:
        before = len(lm.requests)
        twin(question="two")
        assert len(lm.requests[before]) == 4
        assert len(twin) == 2
    assert len(chat) == 1
