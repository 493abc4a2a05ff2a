"""A block of a stored conversation: what is loaded, bound and written, on every kind of store."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import dspy
import pydantic
import pytest

from dspy_session import errors, sessionify, windows, with_memory
from dspy_session.stores import open_store
from dspy_session.stores.aio import AsyncStore
from dspy_session.stores.redaction import RedactingStore

from .programs import Broken, Watched, chat, planned, questions, whole


@pytest.mark.parametrize("make", [chat, planned])
def test_what_is_loaded_is_what_was_there(store, lm, make):
    app = make()
    for number in range(4):
        with app.conversation("k", store=store, scope="t") as talk:
            app(question=f"question {number}")
            assert len(store.load("k", scope="t").turns) == number + 1
    assert questions(talk.state) == [f"question {number}" for number in range(4)]
    with make().conversation("k", store=store, scope="t") as again:
        assert whole(again.state) == whole(talk.state)
        assert all(turn.exact for turn in again.state.turns)
    assert store.verify().ok
    with pytest.raises(errors.ConversationNotFoundError):
        store.load("k", scope="another")


@pytest.mark.parametrize("make", [chat, planned])
def test_a_stored_turn_replays_byte_for_byte(store, lm, make):
    # The same request has the same answer, so that the second predictor of a replay is asked the same, too.
    lm._script = lambda chat, names: {name: f"{name} {zlib.crc32(str(chat).encode())}" for name in names}
    app, sent = make(), []
    for number in range(4):
        with app.conversation("k", store=store):
            before = len(lm.requests)
            app(question=f"{'quick' if number == 2 else 'slow'} question {number}")
            sent.append(lm.requests[before:])
    with make().conversation("k", store=store) as talk:
        turns = talk.state.turns
    another = make()
    for turn, requests in zip(turns, sent, strict=True):
        before = len(lm.requests)
        another(**turn.inputs, history=turn.history_snapshot)
        assert lm.requests[before:] == requests


def test_async_block(store, lm):
    app = planned()

    async def main():
        for number in range(3):
            async with app.conversation("k", store=AsyncStore(store)) as talk:
                await app.acall(question=f"question {number}")
        return talk

    talk = asyncio.run(main())
    assert questions(talk.state) == ["question 0", "question 1", "question 2"]
    with app.conversation("k", store=store) as again:
        assert whole(again.state) == whole(talk.state)


def test_a_program_that_is_only_sync_through_acall(store, lm):
    class Plain(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> answer")

        def forward(self, question):
            return self.inner(question=question)

    app = sessionify(Plain())

    async def main():
        async with app.conversation("k", store=store):
            await app.acall(question="one")
            await app.acall(question="two")

    asyncio.run(main())
    assert len(store.load("k").turns) == 2


def test_several_calls_each_are_one_commit(memory, lm):
    watched, app = Watched(memory), chat()
    with app.conversation("k", store=watched):
        for number in range(3):
            app(question=f"question {number}")
    assert [turns for turns, _, _ in watched.commits] == [1, 1]
    assert len(memory.load("k").turns) == 3


def test_calls_side_by_side_in_one_block(store, lm):
    app = chat()

    async def main():
        async with app.conversation("k", store=store) as talk:
            await asyncio.gather(*(app.acall(question=f"question {number}") for number in range(12)))
            return sorted(questions(talk.state))

    assert asyncio.run(main()) == sorted(f"question {number}" for number in range(12))
    assert len(store.load("k").turns) == 12
    app.module.lm = lm
    with app.conversation("k", store=store) as talk, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: app.bind(talk.state)(question=f"more {n}"), range(8)))
    assert len(store.load("k").turns) == 20
    assert store.verify().ok


def test_two_apps_two_conversations(memory, lm):
    one, other = chat(), planned()
    with one.conversation("a", store=memory), other.conversation("b", store=memory):
        one(question="for one")
        other(question="for the other")
    assert [row.turns for row in memory.list()] == [1, 1]
    assert memory.load("a").turns[0].data["inputs"] == {"question": "for one"}


def test_nothing_is_written_for_an_empty_block(memory, lm):
    with chat().conversation("k", store=memory):
        pass
    assert memory.list() == ()


def test_a_failing_program_writes_nothing(memory, lm):
    app = chat()
    with app.conversation("k", store=memory):
        app(question="one")

    def request():
        with app.conversation("k", store=memory):
            app.undo()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        request()
    assert len(memory.load("k").turns) == 1
    with app.conversation("k", store=memory, lease="fail"):
        app(question="the lease is free")


# ── changing by hand ─────────────────────────────────────────────────────────────────────────────────────────


def changed(app):
    """Every way to change a conversation by hand."""
    app.undo()
    app.add_turn({"question": "by hand"}, {"answer": "by hand"})
    app.edit_turn(1, outputs={"answer": "edited"})
    app.retry()
    app.turns[0].score, app.turns[0].feedback = 0.5, "so so"
    app.turns[-1].score = 1
    app.state.l2_memory = "told"
    app(question="after")


@pytest.mark.parametrize("make", [chat, planned])
def test_changes_by_hand(store, lm, make):
    app = make()
    with app.conversation("k", store=store):
        for number in range(4):
            app(question=f"question {number}")
        app.turns[3].score = 3
    with app.conversation("k", store=store) as talk:
        changed(app)
        now = whole(talk.state)
    with app.conversation("k", store=store) as again:
        assert whole(again.state) == now
        assert again.state.conversation_id == talk.state.conversation_id
        assert again.state.turns[1].outputs == {"answer": "edited"}
    assert store.verify().ok


def test_reset_in_a_windowed_talk(store, lm):
    app = chat(max_turns=2)
    with app.conversation("k", store=store):
        for number in range(6):
            app(question=f"question {number}")
    with app.conversation("k", store=store) as talk:
        assert talk.first == 4
        app.reset()
        app(question="anew")
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["anew"]
        assert store.load("k").total == 1


def test_reset_after_prune(store, lm):
    app = chat()
    with app.conversation("k", store=store):
        for number in range(6):
            app(question=f"question {number}")
    assert store.prune(keep=2) == 4
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["question 4", "question 5"]
        app.reset()
        app(question="anew")
        app(question="and on")
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["anew", "and on"]
        assert talk.load_older() == []


def test_an_edit_keeps_the_scores_behind_it(store, lm):
    app = chat()
    with app.conversation("k", store=store):
        for number in range(4):
            app(question=f"question {number}")
        app.turns[3].score = 0.75
    with app.conversation("k", store=store):
        app.edit_turn(0, outputs={"answer": "edited"})
    with app.conversation("k", store=store) as talk:
        assert [turn.score for turn in talk.state.turns] == [None, None, None, 0.75]


def test_memory_set_by_hand_survives_going_back(store, lm):
    app = chat()
    with app.conversation("k", store=store) as talk:
        app(question="one")
        app(question="two")
        talk.state.l2_memory = "likes tea"
    with app.conversation("k", store=store) as talk:
        app.undo()
        assert talk.state.l2_memory == "likes tea"
    with app.conversation("k", store=store) as talk:
        assert (len(talk.state), talk.state.l2_memory) == (1, "likes tea")


def test_a_history_that_replaces_the_session(store, lm):
    app = chat(history_policy="replace_session")
    given = dspy.History(messages=[{"question": "seed", "answer": "told"}])
    with app.conversation("k", store=store):
        app(question="one")
        app(question="two")
        app(question="new", history=given)
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["new"]
        assert talk.state.initial_history.messages == given.messages


def test_a_fork_in_the_block_is_no_part_of_it(memory, lm):
    app = chat()
    with app.conversation("k", store=memory):
        app(question="one")
        other = app.fork()
        other(question="elsewhere")
        assert len(other) == 2
    assert len(memory.load("k").turns) == 1


def test_a_retry_does_not_write_the_past_again(memory, lm):
    app = chat()
    with app.conversation("k", store=memory):
        for _ in range(60):
            app(question="q" * 500)
    with app.conversation("k", store=memory):
        app.retry()
    last = memory.load("k", last=1).turns[0].data
    assert len(str(last)) < 2_000


def test_costs_are_counted_once(memory, lm):
    app = chat()
    with app.conversation("k", store=memory) as talk:
        for number in range(3):
            app(question=f"question {number}")
            talk.state.turns[-1].record.usage = None
        app.edit_turn(0, outputs={"answer": "edited"})
    assert memory.list()[0].cost == 0


# ── memories ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_episodes_and_their_memory(store, lm):
    said = []

    def remember(past_memory, episode_transcript):
        said.append(episode_transcript)
        if len(said) == 4:
            raise RuntimeError("not now")
        return f"{past_memory}+{len(said)}"

    app = planned(lifespan="episodic", consolidator=remember)
    with app.conversation("k", store=store):
        app(question="one")
    with app.conversation("k", store=store) as talk:
        app(question="two")
        waiting = whole(talk.state)
    with app.conversation("k", store=store) as talk:
        assert whole(talk.state) == waiting
        assert any(node.pending for node in talk.state.node_states.values())
        app(question="three")
        after = whole(talk.state)
    with app.conversation("k", store=store) as talk:
        assert whole(talk.state) == after
        assert not any(node.pending for node in talk.state.node_states.values())
        app.undo()
        undone = whole(talk.state)
    with app.conversation("k", store=store) as talk:
        assert whole(talk.state) == undone


def test_a_session_with_nodes_inside_an_app(store, lm):
    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.expert = planned()

        def forward(self, question):
            return self.expert(question=question)

    app = with_memory(Outer())
    with app.conversation("k", store=store) as talk:
        app(question="one")
        app(question="two")
    assert talk.state.node_states["expert"].node_states["plan"].turns
    with app.conversation("k", store=store) as again:
        assert whole(again.state) == whole(talk.state)
        app(question="three")
        now = whole(again.state)
    with app.conversation("k", store=store) as again:
        assert whole(again.state) == now


def test_a_node_that_keeps_fewer_turns_than_one_turn_has(store, lm):
    class Often(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question):
            for part in range(5):
                last = self.ask(question=f"{question} {part}")
            return last

    app = with_memory(Often(), child_configs={"ask": {"max_stored_turns": 2}})
    for number in range(3):
        with app.conversation("k", store=store) as talk:
            app(question=f"question {number}")
    with app.conversation("k", store=store) as again:
        assert questions(again.state.node_states["ask"]) == ["question 2 3", "question 2 4"]
        assert questions(again.state.node_states["ask"]) == questions(talk.state.node_states["ask"])


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({}, None),
        ({"max_turns": 3}, 3),
        ({"window": windows.blocks(high=6, low=3)}, 6),
        ({"window": windows.tokens(100)}, None),
        ({"max_stored_turns": 4}, 4),
        ({"max_stored_turns": 4, "max_turns": 2}, 2),
    ],
)
def test_only_what_the_window_needs_is_loaded(memory, lm, options, last):
    watched, app = Watched(memory), chat(**options)
    with app.conversation("k", store=memory):
        for number in range(10):
            app(question=f"question {number}")
    with app.conversation("k", store=watched) as talk:
        assert len(talk.state) == (10 if last is None else last)
        app(question="one more")
    assert watched.loads == [last]


def test_a_windowed_talk_sends_what_a_whole_one_sends(memory, lm):
    for window in (windows.turns(3), windows.blocks(high=6, low=3)):
        app, key = chat(window=window), repr(window)
        for number in range(9):
            with app.conversation(key, store=memory):
                app(question=f"question {number}")
        stored = lm.requests[-9:]
        lm.requests.clear()
        plain = chat(window=window)
        answers = [turn.data["outputs"] for turn in memory.load(key).turns]
        lm._script = iter(answers)
        for number in range(9):
            plain(question=f"question {number}")
        assert lm.requests == stored
        lm._script = None


def test_a_seldom_called_node_is_loaded_from_further_back(memory, lm):
    watched, app = Watched(memory), planned(max_turns=2)
    with app.conversation("k", store=memory):
        for number in range(3):
            app(question=f"slow {number}")
        for number in range(9):
            app(question=f"quick {number}")
    with app.conversation("k", store=watched) as talk:
        assert questions(talk.state.node_states["plan"])[-2:] == ["slow 1", "slow 2"]
        app(question="slow again")
    assert watched.loads[0] == 2
    assert "slow 1" in str(lm.requests[-2])


def test_snapshots_that_reach_further_back_are_not_exact(store, lm):
    app, part = chat(), chat(max_turns=3)
    with app.conversation("k", store=store):
        for number in range(6):
            app(question=f"question {number}")
    with part.conversation("k", store=store) as talk:
        assert [turn.exact for turn in talk.state.turns] == [False] * 3
        assert [turn.index for turn in talk.load_older(2)] == [1, 2]
        assert [turn.exact for turn in talk.state.turns] == [False] * 5
        assert [turn.index for turn in asyncio.run(talk.aload_older())] == [0]
        assert [turn.exact for turn in talk.state.turns] == [True] * 6
        assert talk.load_older() == []
        part(question="on")
    with app.conversation("k", store=store) as talk:
        assert [turn.exact for turn in talk.state.turns] == [True] * 7


def test_load_older_of_a_changed_talk(store, lm):
    app = chat(max_turns=1)
    with app.conversation("k", store=store):
        app(question="one")
        app(question="two")
    with app.conversation("k", store=store) as talk:
        store.append("k", [{"id": "other"}], expected=talk.revision)
        with pytest.raises(errors.StaleStateError):
            talk.load_older()


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────


class Point(pydantic.BaseModel):
    x: int
    y: int = 0


class Where(dspy.Signature):
    """Where is it?"""

    what: str = dspy.InputField()
    near: Point = dspy.InputField()
    place: Point = dspy.OutputField()


def test_typed_values(store, lm):
    lm._script = lambda chat, names: {"place": '{"x": 1, "y": 2}'}
    app = sessionify(dspy.Predict(Where))
    with app.conversation("k", store=store):
        app(what="tea", near=Point(x=3))
    with app.conversation("k", store=store) as talk:
        turn = talk.state.turns[0]
        assert turn.inputs["near"] == Point(x=3)
        assert turn.outputs["place"] == Point(x=1, y=2)
    kinds = {
        "day": datetime.date(2026, 1, 2),
        "sum": decimal.Decimal("1.10"),
        "raw": b"\x00\xff",
        "set": {1, 2},
    }
    with app.conversation("types", store=store):
        app.add_turn({"what": "x", "near": Point(x=1)}, {"place": Point(x=1)}, extras=kinds)
    with app.conversation("types", store=store) as talk:
        assert talk.state.turns[0].extras == kinds


def test_redacted_turns_are_not_exact(memory, lm):
    def redact(kind, document):
        if kind == "turn" and document["inputs"]["question"] == "my card is 1234":
            document["inputs"]["question"] = "my card is ****"
        return document

    app, safe = chat(max_turns=2), RedactingStore(memory, redact)
    with app.conversation("k", store=safe):
        for question in ("hello", "my card is 1234", "and now?", "bye", "really"):
            app(question=question)
    with app.conversation("k", store=safe, last=5) as talk:
        assert [turn.exact for turn in talk.state.turns] == [True, False, False, False, True]
    assert "1234" not in str(memory.load("k"))


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cancelled_request_writes_nothing_and_gives_its_lease_back(store, lm):
    begun = threading.Event()

    class Slow(dspy.Module):
        async def aforward(self, question):
            begun.set()
            await asyncio.sleep(3600 if question == "for ever" else 0)
            return dspy.Prediction(answer=question)

    app = sessionify(Slow())

    async def request(question):
        async with app.conversation("k", store=store):
            await app.acall(question=question)

    async def main():
        await request("one")
        task = asyncio.create_task(request("for ever"))
        while not begun.is_set() or len(asyncio.all_tasks()) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with app.conversation("k", store=store, lease="fail"):
            await app.acall(question="two")

    asyncio.run(main())
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["one", "two"]


def test_a_stream_inside_the_block(store, lm):
    app = chat()
    streamed = dspy.streamify(app)

    async def main():
        async with app.conversation("k", store=store):
            async for item in streamed(question="one"):
                last = item
        return last

    assert asyncio.run(main()).answer
    assert len(store.load("k").turns) == 1


def test_a_call_that_outlives_its_block_is_told(memory, lm):
    app = chat()

    async def main():
        go = asyncio.Event()

        class Slow(dspy.Module):
            async def aforward(self, question):
                await go.wait()
                return dspy.Prediction(answer=question)

        slow = sessionify(Slow())
        async with slow.conversation("k", store=memory):
            task = asyncio.create_task(slow.acall(question="late"))
            await asyncio.sleep(0)
        go.set()
        with pytest.raises(errors.StoreError, match="ended before this call did") as caught:
            await task
        assert caught.value.turn.outputs == {"answer": "late"}

    asyncio.run(main())
    assert memory.list() == ()
    del app


def test_not_in_a_generator_and_not_twice(memory, lm):
    app = chat()

    def generator():
        with app.conversation("k", store=memory):
            yield

    with pytest.raises(errors.BindingError, match="generator"):
        next(generator())
    talk = app.conversation("k", store=memory, lease=None)
    with talk, pytest.raises(errors.BindingError, match="open already"), talk:
        pass


@pytest.mark.parametrize("wrong", [{"lease": "often"}, {"on_conflict": "ignore"}])
def test_wrong_options(memory, wrong):
    with pytest.raises(errors.ConfigurationError):
        chat().conversation("k", store=memory, **wrong)


def test_an_address_is_no_store():
    with pytest.raises(errors.ConfigurationError, match="open_store"):
        chat().conversation("k", store="memory://")


def test_a_store_that_is_back_soon(memory, lm):
    app = chat()
    with app.conversation("k", store=Broken(memory, "before", "after", None, "after")):
        app(question="one")
        app(question="two")
    assert questions_of(memory) == ["one", "two"]


def test_a_store_that_stays_away_leaves_no_turn(memory, lm):
    app = chat()
    with app.conversation("k", store=memory):
        app(question="one")
    with app.conversation("k", store=Broken(memory, *["before"] * 4)) as talk:
        with pytest.raises(errors.StoreUnavailableError) as caught:
            app(question="two")
        assert caught.value.turn.inputs == {"question": "two"}
        assert questions(talk.state) == ["one"]
        app(question="three")
    assert questions_of(memory) == ["one", "three"]


def test_a_retry_that_fails_to_commit_brings_the_old_answer_back(memory, lm):
    app = planned()
    with app.conversation("k", store=memory) as talk:
        app(question="one")
        app(question="two")
        before = whole(talk.state)
    with app.conversation(
        "k", store=Broken(memory, "before", error=lambda: errors.StoreError("full"))
    ) as talk:
        with pytest.raises(errors.StoreError, match="full"):
            app.retry()
        assert whole(talk.state) == before
    with app.conversation("k", store=memory) as talk:
        assert whole(talk.state) == before


def test_side_by_side_calls_with_a_refused_one_are_all_told(memory, lm):
    """A call whose turn was taken back with another's must not return as if it were stored."""
    app = chat()

    async def main():
        async with app.conversation(
            "k", store=Broken(memory, "before", error=lambda: errors.StoreError("full"))
        ):
            return await asyncio.gather(
                *(app.acall(question=f"question {n}") for n in range(6)), return_exceptions=True
            )

    outcomes = asyncio.run(main())
    good = [outcome.answer for outcome in outcomes if isinstance(outcome, dspy.Prediction)]
    assert len(good) < 6
    stored = memory.load("k").turns if memory.list() else ()
    assert sorted(good) == sorted(turn.data["outputs"]["answer"] for turn in stored)


def questions_of(store):
    return [turn.data["inputs"]["question"] for turn in store.load("k").turns]


def test_two_workers_share_a_file(tmp_path, lm):
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as one, open_store(url) as other:
        app, again = chat(), chat()
        with app.conversation("k", store=one):
            app(question="one")
        with again.conversation("k", store=other):
            again(question="two")
        assert questions_of(one) == ["one", "two"]


def test_a_memory_that_cannot_be_stored_costs_no_answer(memory, lm):
    class Memoryless(Broken):
        def append(self, key, turns=(), **options):
            if any(note["kind"] == "memory" and note["text"] for note in options["annotations"]):
                raise errors.StoreError("full")
            return super().append(key, turns, **options)

    app = planned(lifespan="episodic", consolidator=lambda past_memory, **_: f"{past_memory}+")
    with app.conversation("k", store=memory):
        app(question="one")
    with app.conversation("k", store=Memoryless(memory)) as talk:
        assert app(question="two").answer
        assert talk.state.node_states["plan"].pending
    assert len(memory.load("k").turns) == 2
