"""What a refused operation is told: which conversation, position or turn it was about, by every store alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest

from dspy_session.errors import DspySessionError, StaleStateError
from dspy_session.stores import Store, open_store

from .backends import PERSISTENT, address

Refused = Callable[[Store, str], object]
NOBODY = [{"kind": "s", "turn": "nobody"}]


@contextmanager
def opened(backend: str) -> Iterator[tuple[Store, str]]:
    """A store with the conversations k, pruned to its turns 1 to 3, and f, a fork of it; k's revision."""
    with address(backend) if backend != "memory" else _nowhere() as url, open_store(url) as store:
        turns = [{"id": f"t{number}"} for number in range(4)]
        revision = store.create("k", {}, scope="s", turns=turns)
        store.prune(key="k", keep=3, scope="s")
        store.fork("k", "f", scope="s")
        yield store, revision


@contextmanager
def _nowhere() -> Iterator[str]:
    yield "memory://"


REFUSALS: dict[str, tuple[Refused, str]] = {
    "load": (lambda store, _: store.load("x", scope="s"), "there is no conversation 'x' in scope 's'"),
    "turns": (lambda store, _: store.turns("x", scope="s"), "there is no conversation 'x' in scope 's'"),
    "append": (
        lambda store, _: store.append("x", scope="s", expected="r"),
        "there is no conversation 'x' in scope 's'",
    ),
    "fork": (lambda store, _: store.fork("x", "y", scope="s"), "there is no conversation 'x' in scope 's'"),
    "erase": (lambda store, _: store.erase("x", scope="s"), "there is no conversation 'x' in scope 's'"),
    "prune": (
        lambda store, _: store.prune(key="x", keep=1, scope="s"),
        "there is no conversation 'x' in scope 's'",
    ),
    "verify": (lambda store, _: store.verify("x", scope="s"), "there is no conversation 'x' in scope 's'"),
    "verify without a scope": (
        lambda store, _: store.verify("x"),
        "there is no conversation 'x' in scope ''",
    ),
    "a taken key": (
        lambda store, _: store.create("k", {}, scope="s"),
        "there is a conversation 'k' in scope 's' already",
    ),
    "a fork onto a taken key": (
        lambda store, _: store.fork("k", "f", scope="s"),
        "there is a conversation 'f' in scope 's' already",
    ),
    "a position before the first": (
        lambda store, revision: store.append("k", scope="s", expected=revision, keep=0),
        "0 is no position of this conversation: it has those from 1 to 4",
    ),
    "a position behind the last": (
        lambda store, revision: store.append("k", scope="s", expected=revision, keep=5),
        "5 is no position of this conversation: it has those from 1 to 4",
    ),
    "a fork from nowhere": (
        lambda store, _: store.fork("k", "g", scope="s", at=0),
        "0 is no position of this conversation: it has those from 1 to 4",
    ),
    "a taken id": (
        lambda store, revision: store.append("k", [{"id": "t2", "v": 1}], scope="s", expected=revision),
        "a turn with the id 't2' is in 'k' already, elsewhere or with other content",
    ),
    "an annotation about nothing": (
        lambda store, revision: store.append("k", scope="s", expected=revision, annotations=NOBODY),
        "an annotation speaks of the turn 'nobody', which is not on the line of 'k'",
    ),
    "a first annotation about nothing": (
        lambda store, _: store.create("x", {}, scope="s", annotations=NOBODY),
        "an annotation speaks of the turn 'nobody', which is not on the line of 'x'",
    ),
    "erasing what has forks": (
        lambda store, _: store.erase("k", scope="s"),
        "'k' has forks which share turns with it: 'f'. ",
    ),
    "a lost lease": (
        lambda store, revision: store.append("k", scope="s", expected=revision, fence=7, title="t"),
        "the lease of 'k' (scope 's') with token 7 is lost: ",
    ),
}


@pytest.mark.parametrize("backend", ["memory", *PERSISTENT])
def test_a_refusal_says_what_it_is_about(backend: str) -> None:
    with opened(backend) as (store, revision):
        before = store.load("k", scope="s")
        for name, (operation, words) in REFUSALS.items():
            with pytest.raises(DspySessionError) as caught:
                operation(store, revision)
            assert str(caught.value).startswith(words), name
        with pytest.raises(StaleStateError) as stale:
            store.append("k", [{"id": "new"}], scope="s", expected="outdated")
        assert (stale.value.expected, stale.value.found) == ("outdated", revision)
        assert store.load("k", scope="s") == before
        assert [row.key for row in store.list(scope="s")] == ["f", "k"]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_times_are_those_of_the_clock_to_the_microsecond(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(nanoseconds: int) -> None:
        monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000 + nanoseconds)

    def moment(microseconds: int) -> datetime:
        return datetime(2023, 11, 14, 22, 13, 20, microseconds, tzinfo=timezone.utc)

    with address(backend) if backend != "memory" else _nowhere() as url, open_store(url) as store:
        at(123_456_999)
        revision = store.create("k", {})
        at(200_000_999)
        store.fork("k", "f")
        at(300_000_999)
        store.append("k", [{"id": "a"}], expected=revision)
        times = {row.key: (row.created, row.updated) for row in store.list()}
        assert times == {"k": (moment(123_456), moment(300_000)), "f": (moment(200_000), moment(200_000))}
        assert [row.key for row in store.list(since=moment(300_000))] == ["k"]
        assert store.list(since=moment(300_001)) == ()
        assert store.expire(before=moment(200_000)) == ()
        assert store.expire(before=moment(200_001)) == ("f",)


def test_the_store_in_memory_says_that_it_does_not_last() -> None:
    with open_store("memory://") as store:
        store.create("k", {}, turns=[{"id": "a"}])
        report = store.verify()
        assert report.settings == {
            "backend": "memory",
            "durability": "none: everything ends with the process",
        }
        assert (report.conversations, report.turns, report.ok, report.warnings) == (1, 1, True, ())
