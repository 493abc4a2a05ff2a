"""Each trace of a turn names its conversation, wherever the turn is made; other traces name none."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from dspy_session import sessionify, with_memory
from dspy_session.errors import ConfigurationError
from dspy_session.stores import open_store
from dspy_session.testing.lm import ScriptedLM


class Steps(dspy.Module):
    """Two predictors, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.reply = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.reply(question=question, plan=self.plan(question=question).plan)


class Fan(dspy.Module):
    """Asks in DSPy's own thread pool."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        pool = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        return pool([(self.ask, {"question": f"{question} {i}"}) for i in range(3)])[0]


def ids(traces: list[Any]) -> list[str | None]:
    return [trace.info.trace_metadata.get("mlflow.trace.session") for trace in traces]


def test_the_turns_of_a_conversation_are_one_session(logged: Any, experiment: Any) -> None:
    from dspy_session.integrations.mlflow import trace_session_id

    chat, other = sessionify(Steps()), sessionify(Steps())
    for question in ("one", "two"):
        chat(question=question)
    other(question="three")
    assert ids(logged()) == [trace_session_id(chat)] * 2 + [trace_session_id(other)]
    assert trace_session_id(chat) == chat.state.conversation_id
    # The question that MLflow's session view asks.
    wanted = f"metadata.`mlflow.trace.session` = '{trace_session_id(chat)}'"
    found = experiment.search_traces(return_type="list", filter_string=wanted)
    assert [len(trace.data.spans) for trace in found] == [10, 10]


def test_mlflow_finds_the_sessions(logged: Any, experiment: Any) -> None:
    if not hasattr(experiment, "search_sessions"):
        pytest.skip(f"MLflow {experiment.__version__} has no search_sessions")
    chats = [sessionify(Steps()) for _ in range(2)]
    for chat in (*chats, chats[0]):
        chat(question="one")
    found = {session.id: len(session) for session in experiment.search_sessions()}
    assert found == {chats[0].state.conversation_id: 2, chats[1].state.conversation_id: 1}


def test_a_conversation_that_begins_anew_is_a_session_of_its_own(logged: Any) -> None:
    chat = sessionify(Steps())
    chat(question="one")
    chat.fork()(question="two")
    chat.reset()
    chat(question="three")
    first, forked, anew = ids(logged())
    assert first == forked != anew == chat.state.conversation_id


def test_each_user_of_an_app(logged: Any) -> None:
    """In threads, in tasks, and from a module that carries the state."""
    app = with_memory(Steps(), unbound="error", lock="async")
    states = [app.new_state() for _ in range(4)]

    def in_thread(state: Any) -> None:
        with app.use_state(state):
            app(question="in a thread")

    async def in_task(state: Any) -> None:
        async with app.use_state(state):
            await app.acall(question="in a task")

    async def tasks() -> None:
        await asyncio.gather(*[in_task(state) for state in states])

    with ThreadPoolExecutor(2) as pool:
        model = dspy.settings.lm
        app.set_lm(model)
        list(pool.map(in_thread, states))
        list(pool.map(lambda state: app.bind(state)(question="bound"), states))
    asyncio.run(tasks())
    assert Counter(ids(logged())) == {state.conversation_id: 3 for state in states}


def test_stored_conversations_go_by_their_keys(logged: Any) -> None:
    app = with_memory(Steps(), unbound="error")

    async def request(store: Any, key: str, scope: str) -> None:
        async with app.conversation(key, store=store, scope=scope):
            await app.acall(question="one")

    async def main(store: Any) -> None:
        await asyncio.gather(
            *[request(store, key, scope) for key in ("ada", "max") for scope in ("", "house")]
        )

    with open_store("memory://") as store:
        asyncio.run(main(store))
        with app.conversation("ada", store=store) as talk:
            from dspy_session.integrations.mlflow import trace_session_id

            app(question="two")
            assert trace_session_id(talk) == trace_session_id(talk.state) == trace_session_id(app) == "ada"
    assert Counter(ids(logged())) == {"ada": 2, "max": 1, "house/ada": 1, "house/max": 1}


def test_streams(logged: Any) -> None:
    chat = sessionify(Steps())

    async def read() -> None:
        async for _ in dspy.streamify(chat, is_async_program=True)(question="one"):
            pass

    asyncio.run(read())
    assert ids(logged()) == [chat.state.conversation_id]


def test_a_turn_that_fails(logged: Any) -> None:
    def down(*_: Any) -> Any:
        raise RuntimeError("the model is down")

    chat = sessionify(Steps())
    with dspy.context(lm=ScriptedLM(down)), pytest.raises(RuntimeError):
        chat(question="one")
    assert len(chat) == 0
    (trace,) = logged()
    assert ids([trace]) == [chat.state.conversation_id]
    assert trace.info.state.value == "ERROR"


def test_a_second_answer(logged: Any) -> None:
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat.retry()
    assert ids(logged()) == [chat.state.conversation_id] * 2


def test_work_in_a_pool_inside_a_turn(logged: Any) -> None:
    """DSPy's threads begin traces of their own."""
    chat = sessionify(Fan())
    chat(question="one")
    assert ids(logged()) == [chat.state.conversation_id] * 4


def test_attempts_belong_to_the_conversation(logged: Any) -> None:
    app = with_memory(dspy.Predict("question -> answer"), unbound="error")
    best = dspy.BestOfN(app, N=2, reward_fn=lambda inputs, prediction: 0.0, threshold=1.0)
    with open_store("memory://") as store, app.conversation("ada", store=store):
        best(question="one")
    assert set(ids(logged())) == {"ada"}


def test_sessions_inside_a_session(logged: Any) -> None:
    class Desk(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clerk = sessionify(dspy.Predict("question -> answer"))

        def forward(self, question: str) -> Any:
            return self.clerk(question=question)

    desk = sessionify(Desk())
    desk(question="one")
    assert ids(logged()) == [desk.state.conversation_id]


def test_a_trace_of_yours_around_a_turn(logged: Any, experiment: Any) -> None:
    chat, judge = sessionify(Steps()), sessionify(dspy.Predict("answer -> verdict"))
    with experiment.start_span("request"):
        judge(answer=chat(question="one").answer)
    (trace,) = logged()
    assert ids([trace]) == [chat.state.conversation_id]
    assert trace.info.request_metadata["mlflow.trace.session"] == chat.state.conversation_id


def test_calls_that_become_no_turn_belong_to_no_conversation(logged: Any) -> None:
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    examples = chat.to_examples()
    with chat.replay():
        chat(question="two")
    chat(**examples[0].inputs())
    dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=1, display_progress=False)(chat)
    dspy.Predict("question -> answer")(question="three")
    first, *rest = ids(logged())
    assert first == chat.state.conversation_id
    assert rest == [None] * 4


def test_ids_and_users_of_your_own(logged: Any) -> None:
    from dspy_session.integrations.mlflow import autolog

    app = with_memory(dspy.Predict("question -> answer"), unbound="error")
    ada, nobody = app.new_state(), app.new_state()
    names = {ada.conversation_id: "ada"}
    autolog(
        session_id=lambda state: f"s-{state.conversation_id}",
        user=lambda state: names.get(state.conversation_id),
        silent=True,
    )
    for state in (ada, nobody):
        with app.use_state(state):
            app(question="one")
    first, second = [trace.info.trace_metadata for trace in logged()]
    assert first["mlflow.trace.session"] == f"s-{ada.conversation_id}"
    assert first["mlflow.trace.user"] == "ada"
    assert second["mlflow.trace.session"] == f"s-{nobody.conversation_id}"
    assert "mlflow.trace.user" not in second


def test_the_order_of_the_callbacks_does_not_matter(logged: Any) -> None:
    dspy.configure(callbacks=list(reversed(dspy.settings.callbacks)))
    chat, bare = sessionify(Steps()), sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    bare(question="two")
    assert ids(logged()) == [chat.state.conversation_id, bare.state.conversation_id]


def test_it_ends_when_it_is_told_to(logged: Any) -> None:
    from dspy_session.integrations.mlflow import SessionTraces, autolog

    autolog(silent=True)
    assert [type(callback) for callback in dspy.settings.callbacks].count(SessionTraces) == 1
    autolog(disable=True, silent=True)
    assert not any(isinstance(callback, SessionTraces) for callback in dspy.settings.callbacks)
    sessionify(Steps())(question="one")
    assert logged() == []


def test_a_call_that_could_have_no_effect_is_refused(logged: Any) -> None:
    from dspy_session.integrations.mlflow import autolog

    autolog(disable=True, silent=True)
    before = list(dspy.settings.callbacks)
    with dspy.context(lm=ScriptedLM()), pytest.raises(ConfigurationError, match=r"inside `dspy\.context`"):
        autolog(silent=True)
    assert dspy.settings.callbacks == before
    autolog(silent=True)
    chat = sessionify(Steps())
    chat(question="one")
    assert ids(logged()) == [chat.state.conversation_id]
