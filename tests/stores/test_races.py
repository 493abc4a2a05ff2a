"""Several processes write to one conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from dspy_session.errors import StaleStateError
from dspy_session.stores import Store, open_store

from .backends import PERSISTENT, address
from .processes import Child, Fork

WRITERS, TURNS = 4, 25


def turn(name: str) -> dict[str, object]:
    return {"id": name, "question": "q" * 500, "answer": "a" * 500}


def optimistic(say: Callable[[str], None], url: str, name: str) -> None:
    """Commit on what was loaded, and again on what is there then, as often as it takes."""
    with open_store(url) as store:
        for number in range(TURNS):
            document = turn(f"{name}-{number}")
            note = {"kind": "count", "path": name, "n": number}
            while True:
                try:
                    revision = store.load("k", last=1).revision
                    store.append("k", [document], expected=revision, annotations=[note])
                    break
                except StaleStateError:
                    continue
            say(f"{name}-{number}")


def leased(say: Callable[[str], None], url: str, name: str) -> None:
    """Hold the lease for load and commit: then no commit is ever refused."""
    with open_store(url) as store:
        for number in range(TURNS):
            with store.lease("k") as lease:
                revision = store.load("k", last=1).revision
                note = {"kind": "count", "path": name, "n": number}
                store.append(
                    "k", [turn(f"{name}-{number}")], expected=revision, fence=lease.token, annotations=[note]
                )
            say(f"{name}-{number}")


def check(store: Store, said: list[list[str]]) -> None:
    found = store.load("k")
    assert [stored.index for stored in found.turns] == list(range(WRITERS * TURNS))
    assert all(stored.data == turn(stored.id) for stored in found.turns)
    for place, lines in enumerate(said):
        mine = [stored.id for stored in found.turns if stored.id.startswith(f"w{place}-")]
        assert mine == lines == [f"w{place}-{number}" for number in range(TURNS)]
    assert {note["path"]: note["n"] for note in found.annotations} == {
        f"w{place}": TURNS - 1 for place in range(WRITERS)
    }
    assert store.verify().ok


@pytest.mark.parametrize("backend", PERSISTENT)
@pytest.mark.parametrize("writer", [optimistic, leased])
def test_four_processes_lose_nothing(backend: str, writer: Callable[..., None]) -> None:
    with address(backend) as url:
        with open_store(url) as store:
            store.create("k", {})
        children = [Child(writer, url, f"w{place}") for place in range(WRITERS)]
        said = [child.lines() for child in children]
        with open_store(url) as store:
            check(store, said)


def opener(say: Callable[[str], None], url: str, name: str) -> None:
    with open_store(url) as store:
        store.create(name, {"of": name}, turns=[turn("first")])
        say(name)


@pytest.mark.parametrize("backend", PERSISTENT)
def test_processes_that_open_a_new_store_at_once(backend: str) -> None:
    with address(backend) as url:
        children = [Child(opener, url, f"c{place}") for place in range(6)]
        said = sorted(line for child in children for line in child.lines())
        assert said == [f"c{place}" for place in range(6)]
        with open_store(url) as store:
            assert [row.key for row in store.list()] == said
            assert store.verify().ok


def after_fork(say: Callable[[str], None], store: Store, name: str) -> None:
    for number in range(10):
        with store.lease("k", ttl=5) as lease:
            revision = store.load("k", last=0).revision
            store.append("k", [turn(f"{name}-{number}")], expected=revision, fence=lease.token)
    say("done")


@pytest.mark.parametrize("backend", PERSISTENT)
def test_a_store_that_was_open_when_the_process_forked(backend: str) -> None:
    with address(backend) as url, open_store(url) as store:
        store.create("k", {})
        children = [Fork(after_fork, store, f"w{place}") for place in range(3)]
        after_fork(lambda line: None, store, "parent")
        assert [child.lines() for child in children] == [["done"]] * 3
        names = Counter(stored.id.split("-")[0] for stored in store.load("k").turns)
        assert names == {"w0": 10, "w1": 10, "w2": 10, "parent": 10}
        assert store.verify().ok
