"""Leases as a store's backend sees them: what is asked of it, when, and what its failures lead to."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dspy_session.errors import ConfigurationError, LeaseError, StoreError
from dspy_session.stores import open_store
from dspy_session.stores.lease import LeaseKeeper, pauses

SHORT, LONG = 0.05, 86_400.0


class Backend:
    """Grants every lease unless told otherwise, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.tokens = itertools.count(1)
        self.refusals = 0
        self.taken: list[tuple[Any, ...]] = []
        self.renewed: list[tuple[Any, ...]] = []
        self.dropped: list[tuple[Any, ...]] = []
        self.answer: Callable[[str], bool] = lambda key: True
        self.changed = threading.Condition()
        self.keeper = LeaseKeeper(self.take, self.renew, self.drop)

    def take(self, scope: str, key: str, ttl: float) -> int | None:
        self.taken.append((scope, key, ttl))
        self.refusals -= 1
        return None if self.refusals >= 0 else next(self.tokens)

    def renew(self, scope: str, key: str, token: int, ttl: float) -> bool:
        with self.changed:
            self.renewed.append((scope, key, token, ttl))
            self.changed.notify_all()
        return self.answer(key)

    def drop(self, scope: str, key: str, token: int) -> None:
        self.dropped.append((scope, key, token))

    def renewals(self, key: str) -> int:
        return Counter(asked[1] for asked in self.renewed)[key]

    def see(self, key: str, more: int = 3) -> None:
        """Wait until a lease was renewed some more times."""
        with self.changed:
            enough = self.renewals(key) + more
            assert self.changed.wait_for(lambda: self.renewals(key) >= enough, 60)


@pytest.fixture
def backend() -> Backend:
    return Backend()


def renewing() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "dspy-session-leases"}


def test_the_backend_is_asked_for_what_is_held(backend: Backend) -> None:
    with backend.keeper.hold("s", "k", wait=0, ttl=SHORT) as lease:
        assert (lease.scope, lease.key, lease.token, lease.ttl) == ("s", "k", 1, SHORT)
        backend.see("k")
        assert backend.dropped == []
    assert backend.taken == [("s", "k", SHORT)]
    assert set(backend.renewed) == {("s", "k", 1, SHORT)}
    assert backend.dropped == [("s", "k", 1)]


def test_a_short_lease_is_renewed_beside_a_long_one(backend: Backend) -> None:
    with (
        backend.keeper.hold("", "long", wait=0, ttl=LONG),
        backend.keeper.hold("", "short", wait=0, ttl=SHORT),
        backend.keeper.hold("", "longer", wait=0, ttl=LONG),
    ):
        backend.see("short")
    assert backend.renewals("long") == backend.renewals("longer") == 0


def test_one_thread_renews_them_all_and_keeps_no_program_from_ending(backend: Backend) -> None:
    before = renewing()
    with (
        backend.keeper.hold("", "a", wait=0, ttl=SHORT),
        backend.keeper.hold("", "b", wait=0, ttl=SHORT),
    ):
        backend.see("a")
        backend.see("b")
        [thread] = renewing() - before
        assert thread.daemon


@pytest.mark.parametrize("ended", ["refused", "released", "abandoned"])
def test_what_is_over_is_not_renewed(backend: Backend, ended: str) -> None:
    keeper = backend.keeper
    lease = keeper.attempt("", "old", SHORT)
    assert lease is not None
    backend.see("old", 1)
    if ended == "refused":
        backend.answer = lambda key: key != "old"
        backend.see("old", 1)
    elif ended == "released":
        keeper.release(lease)
    else:
        keeper.abandon()
        assert backend.dropped == []
    with keeper.hold("", "new", wait=0, ttl=SHORT):
        # One renewal of the old lease may be on its way still.
        backend.see("new", 1)
        asked = backend.renewals("old")
        backend.see("new")
        assert backend.renewals("old") == asked


def test_a_lease_that_ends_while_it_is_renewed_is_not_held_again(backend: Backend) -> None:
    keeper, asked, go = backend.keeper, threading.Event(), threading.Event()

    def slowly(key: str) -> bool:
        if key == "old":
            asked.set()
            assert go.wait(60)
        return True

    backend.answer = slowly
    lease = keeper.attempt("", "old", SHORT)
    assert lease is not None
    assert asked.wait(60)
    keeper.release(lease)
    go.set()
    with keeper.hold("", "new", wait=0, ttl=SHORT):
        backend.see("new")
    assert backend.renewals("old") == 1


def test_a_backend_that_cannot_be_reached_is_asked_again(backend: Backend) -> None:
    def unreachable(key: str) -> bool:
        raise StoreError("unreachable")

    backend.answer = unreachable
    with backend.keeper.hold("", "k", wait=0, ttl=SHORT):
        backend.see("k")


def test_a_lease_that_cannot_be_given_back_does_not_hide_the_result(backend: Backend) -> None:
    def unreachable(scope: str, key: str, token: int) -> None:
        raise StoreError("unreachable")

    keeper = LeaseKeeper(backend.take, backend.renew, unreachable)
    with keeper.hold("", "k", wait=0, ttl=SHORT):
        pass
    with pytest.raises(KeyError), keeper.hold("", "k", wait=0, ttl=SHORT):
        raise KeyError


def test_an_idle_thread_ends_and_another_one_takes_over(backend: Backend) -> None:
    keeper, before = backend.keeper, renewing()
    lease = keeper.attempt("", "k", SHORT)
    assert lease is not None
    [thread] = renewing() - before
    while thread.is_alive():
        # Each wakes the thread, which finds nothing to do.
        keeper.release(lease)
        thread.join(0.01)
    with keeper.hold("", "again", wait=0, ttl=SHORT):
        backend.see("again")


def test_waiting_tries_again_until_the_lease_is_free(backend: Backend) -> None:
    for wait in (None, 60):
        backend.taken.clear()
        backend.refusals = 3
        with backend.keeper.hold("s", "k", wait=wait, ttl=1):
            assert backend.taken == [("s", "k", 1)] * 4


def test_waiting_ends_with_a_last_attempt(backend: Backend) -> None:
    for wait, said in ((0, "'k' (scope 's'); try again"), (0.9, "(scope 's') after waiting 0.9 s; try")):
        backend.taken.clear()
        backend.refusals = 10**9
        with pytest.raises(LeaseError) as caught, backend.keeper.hold("s", "k", wait=wait, ttl=1):
            raise AssertionError("entered")
        assert said in str(caught.value)
        assert (len(backend.taken) == 1) == (wait == 0)


def test_pauses_grow_from_milliseconds_to_a_quarter_of_a_second() -> None:
    for _ in range(20):
        some = list(itertools.islice(pauses(), 40))
        assert 0.0025 <= some[0] <= 0.005
        assert 0.00375 <= some[1] <= 0.0075
        assert all(0.125 <= pause <= 0.25 for pause in some[20:])
        assert len(set(some[20:])) > 1


@pytest.mark.parametrize("ttl", [0.05, 86_400])
def test_the_shortest_and_the_longest_lease(ttl: float) -> None:
    with open_store("memory://") as store, store.lease("k", wait=0, ttl=ttl) as lease:
        assert lease.ttl == ttl


@pytest.mark.parametrize("more", [{"ttl": 0.049}, {"ttl": 86_400.5}, {"wait": -0.1}, {"wait": float("nan")}])
def test_times_that_no_lease_can_have(more: dict[str, float]) -> None:
    with (
        open_store("memory://") as store,
        pytest.raises(ConfigurationError, match=next(iter(more))),
        store.lease("k", **more),  # type: ignore[arg-type]
    ):
        raise AssertionError("entered")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_renews_its_own_leases_and_not_its_parents(backend: Backend) -> None:
    def child(answer: Any) -> None:
        # The parent's thread may have held the lock when it forked.
        backend.changed = threading.Condition()
        backend.renewed.clear()
        with backend.keeper.hold("", "child", wait=0, ttl=SHORT):
            backend.see("child")
        answer.send(sorted({asked[1] for asked in backend.renewed}))

    fork: Any = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    with backend.keeper.hold("", "parent", wait=0, ttl=SHORT):
        with warnings.catch_warnings():
            # Newer versions of Python warn of every fork of a process that has threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = fork.Process(target=child, args=(there,))
            process.start()
        assert here.poll(60)
        assert here.recv() == ["child"]
        process.join(60)
