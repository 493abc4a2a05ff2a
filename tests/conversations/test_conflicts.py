"""Two requests of one user: leases, and what becomes of a turn when somebody else has committed first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dspy_session import errors, telemetry
from dspy_session.stores.base import MAX_KEY_BYTES

from .programs import Broken, chat, planned, questions, whole


def seeded(app, store, *asked):
    with app.conversation("k", store=store):
        for question in asked or ("one", "two"):
            app(question=question)


def elsewhere(app, store, *asked, undo=0):
    """What another worker does meanwhile."""
    with app.conversation("k", store=store, lease=None):
        if undo:
            app.undo(undo)
        for question in asked:
            app(question=question)


def test_a_lease_makes_others_wait(store, lm):
    app, order = chat(), []
    app.module.lm = lm
    seeded(app, store)
    inside, go = threading.Event(), threading.Event()

    def holder():
        with app.conversation("k", store=store):
            inside.set()
            go.wait(30)
            order.append("first")
            app(question="first")

    thread = threading.Thread(target=holder)
    thread.start()
    inside.wait(30)
    with pytest.raises(errors.LeaseError), app.conversation("k", store=store, lease="fail"):
        raise AssertionError("the lease is held")
    waiter = threading.Thread(target=lambda: (elsewhere_waiting(app, store), order.append("second")))
    waiter.start()
    go.set()
    thread.join(60)
    waiter.join(60)
    assert order == ["first", "second"]
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["one", "two", "first", "second"]


def elsewhere_waiting(app, store):
    with app.conversation("k", store=store, lease="wait"):
        app(question="second")


@pytest.mark.parametrize("make", [chat, planned])
def test_raise_carries_the_turn_and_leaves_the_state(store, lm, make):
    app, other = make(), make()
    seeded(app, store)
    before = telemetry.counts().get("conflicts", 0)
    with app.conversation("k", store=store, lease=None) as talk:
        known = whole(talk.state)
        elsewhere(other, store, "theirs")
        with pytest.raises(errors.StaleStateError) as caught:
            app(question="ours")
        assert caught.value.turn.inputs == {"question": "ours"}
        assert caught.value.turn.outputs["answer"]
        assert caught.value.found == store.load("k").revision
        assert whole(talk.state) == known
    assert telemetry.counts()["conflicts"] == before + 1
    with app.conversation("k", store=store) as talk:
        turn = caught.value.turn
        app.add_turn(turn.inputs, turn.outputs)
        assert questions(talk.state) == ["one", "two", "theirs", "ours"]
    assert len(store.load("k").turns) == 4


@pytest.mark.parametrize("make", [chat, planned])
def test_append(store, lm, make):
    app, other = make(), make()
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="append") as talk:
        elsewhere(other, store, "theirs", "theirs again")
        app(question="ours")
        app.turns[-1].score = 1
        assert questions(talk.state) == ["one", "two", "theirs", "theirs again", "ours"]
        assert talk.state.turns[-1].index == 4
        assert [m["question"] for m in talk.state.turns[-1].history_snapshot.messages] == ["one", "two"]
        app(question="ours again")
        now = whole(talk.state)
    with make().conversation("k", store=store) as talk:
        assert whole(talk.state) == now
        assert talk.state.turns[-2].score == 1
        assert all(turn.exact for turn in talk.state.turns)
    assert store.verify().ok


def test_append_where_another_worker_began_the_talk(store, lm):
    app, other = chat(), chat()
    with app.conversation("k", store=store, lease=None, on_conflict="append"):
        elsewhere(other, store, "theirs")
        app(question="ours")
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["theirs", "ours"]


def test_append_after_theirs_went_back(store, lm):
    app, other = chat(), chat()
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="append"):
        elsewhere(other, store, "theirs", undo=2)
        app(question="ours")
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["theirs", "ours"]
        assert [m["question"] for m in talk.state.turns[1].history_snapshot.messages] == ["one", "two"]


def test_append_of_scores_alone(store, lm):
    app, other = chat(), chat()
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="append"):
        elsewhere(other, store, "theirs")
        app.turns[0].score = 0.5
    with app.conversation("k", store=store) as talk:
        assert [turn.score for turn in talk.state.turns] == [0.5, None, None]


def test_append_brings_memories_together(store, lm):
    def failing(**_):
        raise RuntimeError("later")

    app = planned(lifespan="episodic", consolidator=failing)
    other = planned(lifespan="episodic", consolidator=failing)
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="append") as talk:
        elsewhere(other, store, "theirs")
        app(question="ours")
        talk.state.l2_memory = "told"
    with app.conversation("k", store=store) as talk:
        waiting = [r.exchange.inputs["question"] for e in talk.state.node("plan").pending for r in e.records]
        assert waiting == ["one", "two", "theirs", "ours"]
        assert talk.state.l2_memory == "told"


def test_append_side_by_side(store, lm):
    app, other = chat(), chat()
    seeded(app, store)

    async def main():
        async with app.conversation("k", store=store, lease=None, on_conflict="append"):
            elsewhere(other, store, "theirs")
            await asyncio.gather(*(app.acall(question=f"ours {n}") for n in range(8)))

    asyncio.run(main())
    with app.conversation("k", store=store) as talk:
        assert sorted(questions(talk.state)) == sorted(
            ["one", "two", "theirs", *(f"ours {n}" for n in range(8))]
        )


@pytest.mark.parametrize("make", [chat, planned])
def test_fork(store, lm, make):
    app, other = make(), make()
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="fork") as talk:
        elsewhere(other, store, "theirs")
        app(question="ours")
        app(question="ours again")
        now, key = whole(talk.state), talk.key
    assert key.startswith("k~")
    with app.conversation("k", store=store) as talk:
        assert questions(talk.state) == ["one", "two", "theirs"]
    with app.conversation(key, store=store) as talk:
        assert whole(talk.state) == now
        assert questions(talk.state) == ["one", "two", "ours", "ours again"]
    assert {row.key: row.source for row in store.list()} == {"k": None, key: "k"}


def test_fork_of_a_talk_with_the_longest_key(store, lm):
    app, other, key = chat(), chat(), "ü" * (MAX_KEY_BYTES // 2)
    with app.conversation(key, store=store, lease=None, on_conflict="fork") as talk:
        with other.conversation(key, store=store):
            other(question="theirs")
        app(question="ours")
        assert talk.key != key
    assert sorted(row.turns for row in store.list()) == [1, 1]


def test_fork_where_the_line_was_moved_back(store, lm):
    app, other = chat(), chat()
    seeded(app, store)
    with app.conversation("k", store=store, lease=None, on_conflict="fork"):
        elsewhere(other, store, "theirs", "theirs again", undo=2)
        with pytest.raises(errors.StaleStateError) as caught:
            app(question="ours")
    assert caught.value.turn.inputs == {"question": "ours"}


def test_a_fork_whose_answer_is_lost(memory, lm):
    app, other = chat(), chat()
    seeded(app, memory)
    broken = Broken(memory, None, "after", "after")
    with app.conversation("k", store=broken, lease=None, on_conflict="fork") as talk:
        elsewhere(other, memory, "theirs")
        app(question="ours")
        assert questions(talk.state) == ["one", "two", "ours"]
    assert len(memory.load(talk.key).turns) == 3


@pytest.mark.parametrize("on_conflict", ["raise", "append", "fork"])
def test_a_lease_that_was_lost(memory, lm, on_conflict):
    """A worker that was paused for longer than its lease lasts."""
    app, other = chat(), chat()
    seeded(app, memory)
    with app.conversation("k", store=memory, ttl=0.2, on_conflict=on_conflict) as talk:
        memory._leases.abandon()
        with other.conversation("k", store=memory):
            other(question="theirs")
        if on_conflict == "raise":
            with pytest.raises(errors.LeaseError) as caught:
                app(question="ours")
            assert caught.value.turn.inputs == {"question": "ours"}
            assert questions(talk.state) == ["one", "two"]
            return
        app(question="ours")
    with app.conversation(talk.key, store=memory) as talk:
        expected = ["one", "two", "theirs", "ours"] if on_conflict == "append" else ["one", "two", "ours"]
        assert questions(talk.state) == expected
