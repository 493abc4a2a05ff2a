"""Tasks that are cancelled at any moment: what is stored is whole, and the lease is given back."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dspy_session.stores._wrapping import WrappedStore

from .programs import chat, questions


class Gated(WrappedStore):
    """Stops in the middle of an operation until it is told to go on."""

    def __init__(self, inner, where):
        super().__init__(inner)
        self.where, self.reached, self.go = where, threading.Event(), threading.Event()

    def _gate(self, name):
        if name == self.where and not self.go.is_set():
            self.reached.set()
            assert self.go.wait(30)

    def load(self, *args, **options):
        self._gate("load")
        return super().load(*args, **options)

    def append(self, *args, **options):
        self._gate("before append")
        revision = super().append(*args, **options)
        self._gate("after append")
        return revision

    def lease(self, *args, **options):
        held = super().lease(*args, **options)

        class Held:
            def __enter__(inner):
                lease = held.__enter__()
                self._gate("lease")
                return lease

            def __exit__(inner, *details):
                self._gate("release")
                return held.__exit__(*details)

        return Held()


@pytest.mark.parametrize(
    ("where", "stored"),
    [
        ("lease", ["one"]),
        ("load", ["one"]),
        ("before append", ["one", "two"]),
        ("after append", ["one", "two"]),
        ("release", ["one", "two"]),
    ],
)
def test_a_task_cancelled_in_the_midst_of_a_store_operation(memory, lm, where, stored):
    app, gated = chat(), Gated(memory, where)
    with app.conversation("k", store=memory):
        app(question="one")

    async def request():
        async with app.conversation("k", store=gated) as talk:
            await app.acall(question="two")
        return talk

    async def main():
        task = asyncio.create_task(request())
        while not gated.reached.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0.02)
        gated.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with app.conversation("k", store=memory, lease="fail") as talk:
            return questions(talk.state)

    assert asyncio.run(main()) == stored


def test_a_task_that_is_cancelled_over_and_over(memory, lm):
    """As by a server whose own scope was cancelled while it waits for the request's task."""
    app, gated = chat(), Gated(memory, "release")
    with app.conversation("k", store=memory):
        app(question="one")

    async def request():
        async with app.conversation("k", store=gated):
            await app.acall(question="two")

    async def main():
        task = asyncio.create_task(request())
        while not gated.reached.is_set() and len(memory.load("k").turns) < 2:
            await asyncio.sleep(0)
        gated.go.set()
        for _ in range(100_000):
            if task.done():
                break
            task.cancel()
            await asyncio.sleep(0)
        assert task.done()
        async with app.conversation("k", store=memory, lease="fail") as talk:
            return questions(talk.state)

    assert asyncio.run(main()) == ["one", "two"]


def test_requests_cancelled_at_every_step(store, lm):
    app = chat()

    async def request(question):
        async with app.conversation("k", store=store):
            await app.acall(question=question)

    async def main():
        done = []
        for steps in range(40):
            task = asyncio.create_task(request(f"question {steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            await asyncio.sleep(steps / 10_000)
            task.cancel()
            if not isinstance(
                (await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError
            ):
                done.append(f"question {steps}")
            async with app.conversation("k", store=store, lease="fail"):
                pass
        return done

    done = asyncio.run(main())
    with app.conversation("k", store=store) as talk:
        assert [question for question in questions(talk.state) if question in done] == done
    assert store.verify().ok
