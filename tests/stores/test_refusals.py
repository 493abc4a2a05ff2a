"""What a refused operation is told: which conversation, position or turn it was about, by every store alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

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


WRONG: Any = 5
PARAMETERS: dict[str, list[Refused]] = {
    "the scope must be a str": [
        lambda store, _: store.create("k", {}, scope=WRONG),
        lambda store, _: store.load("k", scope=WRONG),
        lambda store, _: store.turns("k", scope=WRONG),
        lambda store, _: store.append("k", scope=WRONG, expected="r"),
        lambda store, _: store.fork("k", "f", scope=WRONG),
        lambda store, _: store.list(scope=WRONG),
        lambda store, _: store.erase("k", scope=WRONG),
        lambda store, _: store.expire(scope=WRONG, before=datetime.now(timezone.utc)),
        lambda store, _: store.prune(scope=WRONG, keep=1),
        lambda store, _: store.verify(scope=WRONG),
        lambda store, _: store.lease("k", scope=WRONG),
    ],
    "the key must be a str": [
        lambda store, _: store.create(WRONG, {}),
        lambda store, _: store.load(WRONG),
        lambda store, _: store.turns(WRONG),
        lambda store, _: store.append(WRONG, expected="r"),
        lambda store, _: store.fork(WRONG, "f"),
        lambda store, _: store.erase(WRONG),
        lambda store, _: store.prune(key=WRONG, keep=1),
        lambda store, _: store.verify(WRONG),
        lambda store, _: store.lease(WRONG),
    ],
    "the new key must be a str": [lambda store, _: store.fork("k", WRONG)],
    "after must be a str": [lambda store, _: store.list(after=WRONG)],
    "expected must be a revision that the store gave": [lambda store, _: store.append("k", expected=WRONG)],
    "expected has 1001 bytes": [lambda store, _: store.append("k", expected="r" * 1001)],
    "last must be a whole number": [lambda store, _: store.load("k", last=-1)],
    "before must be a whole number": [lambda store, _: store.turns("k", before=-1)],
    "limit must be a whole number": [
        lambda store, _: store.turns("k", limit=-1),
        lambda store, _: store.list(limit=-1),
    ],
    "keep must be a whole number": [
        lambda store, revision: store.append("k", expected=revision, keep=-1),
        lambda store, _: store.prune(keep=-1),
        lambda store, _: store.prune(keep=None),  # type: ignore[arg-type]
    ],
    "fence must be a whole number": [lambda store, revision: store.append("k", expected=revision, fence=-1)],
    "at must be a whole number": [lambda store, _: store.fork("k", "f", at=-1)],
    "since must be a datetime with a time zone": [lambda store, _: store.list(since=datetime(2026, 1, 1))],
    "before must be a datetime with a time zone": [
        lambda store, _: store.expire(before=datetime(2026, 1, 1))
    ],
    "the head must be a JSON object": [
        lambda store, _: store.create("k", WRONG),
        lambda store, _: store.fork("k", "f", head=WRONG),
    ],
    "the metadata must be a JSON object": [
        lambda store, _: store.create("k", {}, metadata=WRONG),
        lambda store, _: store.fork("k", "f", metadata=WRONG),
    ],
    "the title must be a str": [
        lambda store, _: store.create("k", {}, title=WRONG),
        lambda store, revision: store.append("k", expected=revision, title=WRONG),
        lambda store, _: store.fork("k", "f", title=WRONG),
    ],
    "tags must be a sequence of str": [
        lambda store, _: store.create("k", {}, tags="a"),
        lambda store, revision: store.append("k", expected=revision, tags="a"),
        lambda store, _: store.fork("k", "f", tags="a"),
    ],
    "cost must be a finite number": [
        lambda store, _: store.create("k", {}, cost=float("nan")),
        lambda store, revision: store.append("k", expected=revision, cost=float("nan")),
    ],
}


@pytest.mark.parametrize("words", PARAMETERS)
def test_a_parameter_that_is_not_allowed_is_named(words: str) -> None:
    with open_store("memory://") as store:
        revision = store.create("k", {}, turns=[{"id": "a"}])
        for operation in PARAMETERS[words]:
            with pytest.raises(DspySessionError) as caught:
                operation(store, revision)
            assert str(caught.value).startswith(words)
        assert store.load("k").revision == revision


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_what_is_not_said_is_nothing_in_the_empty_scope(backend: str) -> None:
    with address(backend) if backend != "memory" else _nowhere() as url, open_store(url) as store:
        revision = store.create("k", {})
        found = store.load("k", scope="")
        assert (found.scope, found.turns, found.annotations, found.metadata) == ("", (), (), {})
        assert (found.title, found.tags, found.cost) == ("", (), 0.0)
        revision = store.append("k", [{"id": "a"}, {"id": "b"}], expected=revision)
        assert store.append("k", expected=revision) == revision
        store.fork("k", "f")
        assert store.turns("k") == store.turns("k", scope="", before=2, limit=2)
        assert store.load("k") == store.load("k", scope="", last=2)
        assert store.list() == store.list(scope="", order="key", limit=2)
        assert [row.key for row in store.list()] == ["f", "k"]
        assert store.scopes() == ("",)
        with store.lease("k") as lease:
            assert (lease.scope, lease.ttl) == ("", 30.0)
        assert (store.verify().conversations, store.verify("k").conversations) == (2, 1)
        assert store.prune(keep=1) == 2
        assert store.prune(keep=0, key="f") == 1
        assert store.erase("f") == ("f",)
        assert store.expire(before=datetime(2999, 1, 1, tzinfo=timezone.utc)) == ("k",)


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


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_the_latest_are_found_over_hours(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def at(minutes: int) -> datetime:
        now = began + timedelta(minutes=minutes)
        monkeypatch.setattr("time.time_ns", lambda: int(now.timestamp()) * 1_000_000_000)
        return now

    with address(backend) if backend != "memory" else _nowhere() as url, open_store(url) as store:
        at(0)
        revisions = {key: store.create(key, {}) for key in "abc"}
        times = [at(59), at(70), at(75), at(125)]
        for minutes, key in ((59, "b"), (70, "a")):
            at(minutes)
            store.append(key, [{"id": "x"}], expected=revisions[key])
        at(125)
        store.fork("c", "f")
        assert [row.key for row in store.list(order="updated")] == ["f", "a", "b", "c"]
        found = [[row.key for row in store.list(since=time)] for time in (began, *times)]
        assert found == [["a", "b", "c", "f"], ["a", "b", "f"], ["a", "f"], ["f"], ["f"]]
        assert [row.key for row in store.list(since=times[0], order="updated", limit=2)] == ["f", "a"]
        gone = [store.expire(before=time) for time in (began, *times)]
        assert gone == [(), ("c",), ("b",), ("a",), ()]
