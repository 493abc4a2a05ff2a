"""Stores from an event loop: nothing blocks it, nothing is half done when a task is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dspy_session.errors import ConversationNotFoundError, LeaseError, StaleStateError
from dspy_session.stores import Lease, Store, open_store
from dspy_session.stores._wrapping import WrappedStore
from dspy_session.stores.aio import AsyncStore

from .backends import PERSISTENT, address


class SlowStore(WrappedStore):
    """Commits only once it is let go, and says when it has begun."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.begun, self.go = threading.Event(), threading.Event()

    def append(self, key: str, turns: Any = (), **options: Any) -> str:
        self.begun.set()
        assert self.go.wait(60)
        return super().append(key, turns, **options)

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> Any:
        found = super().load(key, scope=scope, last=last)
        self.begun.set()
        assert self.go.wait(60)
        return found


class LeasedStore(WrappedStore):
    """Counts the leases that are held."""

    held = 0

    def lease(self, key: str, **options: Any) -> AbstractContextManager[Lease]:
        outer = super().lease(key, **options)
        store = self

        class Counted(AbstractContextManager[Lease]):
            def __enter__(self) -> Lease:
                lease = outer.__enter__()
                store.held += 1
                return lease

            def __exit__(self, *error: Any) -> None:
                store.held -= 1
                outer.__exit__(*error)

        return Counted()


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store("memory://") as store:
        store.create("k", {"h": 1})
        yield store


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def turn(name: str) -> Mapping[str, Any]:
    return {"id": name}


@pytest.mark.anyio
@pytest.mark.parametrize("backend", PERSISTENT)
async def test_every_operation(backend: str) -> None:
    with address(backend) as url:
        async with AsyncStore(open_store(url)) as store:
            revision = await store.create("k", {"h": 1}, scope="s", turns=[turn("a")], title="T")
            async with store.lease("k", scope="s") as lease:
                revision = await store.append(
                    "k", [turn("b")], scope="s", expected=revision, fence=lease.token
                )
            assert (await store.load("k", scope="s")).revision == revision
            assert [t.id for t in await store.turns("k", scope="s", before=1)] == ["a"]
            await store.fork("k", "f", scope="s", at=1)
            assert [row.key for row in await store.list(scope="s", order="updated", limit=1)] == ["f"]
            assert await store.scopes() == ("s",)
            assert (await store.verify(scope="s")).ok
            assert await store.prune(keep=1, scope="s") == 1
            assert await store.erase("k", scope="s", forks="keep") == ("k",)
            assert [t.id for t in (await store.load("f", scope="s")).turns] == ["a"]
            with pytest.raises(ConversationNotFoundError):
                await store.load("k", scope="s")


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_store_works(store: Store) -> None:
    slow = SlowStore(store)
    talk = AsyncStore(slow)
    revision = store.load("k").revision
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: talk.append("k", [turn("a")], expected=revision))
        while not slow.begun.is_set():
            await anyio.sleep(0)
        slow.go.set()
    assert store.load("k").total == 1


@pytest.mark.anyio
async def test_a_cancelled_commit_that_has_begun_ends(store: Store) -> None:
    slow = SlowStore(store)
    revision = store.load("k").revision
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: AsyncStore(slow).append("k", [turn("a")], expected=revision))
        while not slow.begun.is_set():
            await anyio.sleep(0)
        tasks.cancel_scope.cancel()
        slow.go.set()
    assert store.load("k").total == 1


@pytest.mark.anyio
async def test_a_commit_that_was_cancelled_before_writes_nothing(store: Store) -> None:
    revision = store.load("k").revision
    with anyio.CancelScope() as scope:
        scope.cancel()
        await AsyncStore(store).append("k", [turn("a")], expected=revision)
    assert scope.cancelled_caught
    assert store.load("k").total == 0


@pytest.mark.anyio
async def test_a_cancelled_read_is_abandoned(store: Store) -> None:
    slow = SlowStore(store)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: AsyncStore(slow).load("k"))
            while not slow.begun.is_set():
                await anyio.sleep(0)
            scope.cancel()
    slow.go.set()
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_a_cancelled_request_gives_its_lease_back(store: Store) -> None:
    counted = LeasedStore(store)
    talk = AsyncStore(counted)
    entered = anyio.Event()

    async def request() -> None:
        async with talk.lease("k"):
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await entered.wait()
        with pytest.raises(LeaseError):
            async with talk.lease("k", wait=0):
                raise AssertionError("two holders at once")
        tasks.cancel_scope.cancel()
    assert counted.held == 0
    async with talk.lease("k", wait=0):
        assert counted.held == 1


@pytest.mark.anyio
async def test_many_waiters_take_turns_without_a_refusal(tmp_path: Path) -> None:
    async with AsyncStore(open_store(f"sqlite:///{tmp_path}/a.db")) as talk:
        await talk.create("k", {})

        async def request(number: int) -> None:
            async with talk.lease("k") as lease:
                revision = (await talk.load("k", last=0)).revision
                await talk.append("k", [turn(f"t{number}")], expected=revision, fence=lease.token)

        async with anyio.create_task_group() as tasks:
            # More than there are threads: waiting must not keep one.
            for number in range(60):
                tasks.start_soon(request, number)
        assert (await talk.load("k")).total == 60


@pytest.mark.anyio
async def test_errors_come_through(store: Store) -> None:
    talk = AsyncStore(store, limiter=anyio.CapacityLimiter(1))
    with pytest.raises(StaleStateError) as caught:
        await talk.append("k", [turn("a")], expected="old")
    assert caught.value.turn == turn("a")
