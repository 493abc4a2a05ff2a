"""kill -9, full disks and lost servers: what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dspy_session.errors import StaleStateError, StoreUnavailableError
from dspy_session.stores import Store, open_store

from . import servers
from .backends import PERSISTENT, address
from .conftest import obtain
from .processes import Child

ROUNDS = int(os.environ.get("DSPY_SESSION_CRASH_ROUNDS", "30"))


def turn(name: str) -> dict[str, object]:
    return {"id": name, "question": name * 50, "answer": name * 50}


def note(name: str) -> dict[str, object]:
    return {"kind": "memory", "of": name}


def write(say: Callable[[str], None], url: str, round_number: int) -> None:
    """Commit turns, each with its memory; at times go back by one; at times fork and erase the fork."""
    with open_store(url) as store:
        found = store.load("k", last=0)
        revision, total = found.revision, found.total
        for number in range(10_000):
            keep = total - 1 if number % 7 == 3 and total else None
            name = f"{round_number}.{number}"
            say(f"try {name} {-1 if keep is None else keep}")
            revision = store.append(
                "k", [turn(name)], expected=revision, annotations=[note(name)], keep=keep, cost=1.0
            )
            total = (total if keep is None else keep) + 1
            say(f"done {name}")
            if number % 10 == 5:
                store.fork("k", f"f{round_number}.{number}")
                store.erase(f"f{round_number}.{number}")


def replay(line: list[str], said: list[str]) -> tuple[list[str], list[str]]:
    """The line after all that was acknowledged, and after what was under way in addition."""
    pending: tuple[str, int] | None = None
    for word in said:
        action, name, *keep = word.split()
        if action == "try":
            pending = (name, int(keep[0]))
        elif pending:
            line = [*(line if pending[1] < 0 else line[: pending[1]]), name]
            pending = None
    if pending is None:
        return line, line
    return line, [*(line if pending[1] < 0 else line[: pending[1]]), pending[0]]


@pytest.mark.parametrize("backend", PERSISTENT)
def test_kill_9_at_any_instant(backend: str) -> None:
    chance = random.Random(backend)
    line: list[str] = []
    with address(backend) as url:
        with open_store(url) as store:
            store.create("k", {})
        for round_number in range(ROUNDS):
            child = Child(write, url, round_number)
            child.hear()
            time.sleep(chance.uniform(0.0, 0.05))
            child.kill()
            acknowledged, at_most = replay(line, child.lines())
            with open_store(url) as store:
                settle(store, f"round {round_number}")
                line = check(store, acknowledged, at_most)
        assert len(line) > ROUNDS


def settle(store: Store, title: str) -> None:
    """Commit something, so that what a dead client had sent to a server is written now or never."""
    while True:
        try:
            store.append("k", expected=store.load("k", last=0).revision, title=title)
            return
        except StaleStateError:
            continue


def check(store: Store, acknowledged: list[str], at_most: list[str]) -> list[str]:
    found = store.load("k")
    names = [stored.id for stored in found.turns]
    assert names in (acknowledged, at_most)
    assert [stored.data for stored in found.turns] == [turn(name) for name in names]
    assert found.annotations == ((note(names[-1]),) if names else ())
    report = store.verify()
    assert report.ok, report.problems
    return names


# -- servers ------------------------------------------------------------------------------------------------


def insist(work: Callable[[], str]) -> str:
    """Repeat the same commit until the server answers."""
    while True:
        try:
            return work()
        except StoreUnavailableError:
            time.sleep(0.02)


@pytest.mark.parametrize("start", [servers.Postgres, servers.Redis], ids=["postgresql", "redis"])
def test_a_server_is_killed_and_restarted(start: Callable[[], servers.Server]) -> None:
    server = obtain(start)
    try:
        with open_store(server.url()) as store:
            store.create("k", {}, turns=[turn("0")])
            stop, failures = threading.Event(), []

            def write_on() -> None:
                try:
                    revision, number = store.load("k", last=0).revision, 0
                    while not stop.is_set():
                        number += 1
                        document, memory, before = turn(str(number)), note(str(number)), revision
                        revision = insist(
                            lambda d=document, m=memory, r=before: store.append(
                                "k", [d], expected=r, annotations=[m]
                            )
                        )
                except BaseException as error:
                    failures.append(error)

            thread = threading.Thread(target=write_on)
            thread.start()
            for _ in range(3):
                time.sleep(0.3)
                server.restart()
            time.sleep(0.3)
            stop.set()
            thread.join()
            assert not failures, failures
            found = store.load("k")
            assert [stored.id for stored in found.turns] == [str(n) for n in range(len(found.turns))]
            assert len(found.turns) > 4
            assert found.annotations == (note(found.turns[-1].id),)
            report = store.verify()
            assert report.ok
            assert report.warnings == ()
    finally:
        server.discard()


# -- disks --------------------------------------------------------------------------------------------------


def fill(say: Callable[[str], None], path: str, room: int) -> None:
    # The limit on file sizes stands for a full disk: a write beyond it fails in the same place.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    with open_store(f"sqlite:///{path}") as store:
        revision = store.load("k", last=0).revision
        try:
            for number in range(10_000):
                revision = store.append(
                    "k", [turn(f"{room}.{number}")], expected=revision, annotations=[note(f"{room}.{number}")]
                )
                say(f"{room}.{number}")
        except StoreUnavailableError as error:
            say(f"full: {error}")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    acknowledged: list[str] = []
    with open_store(f"sqlite:///{path}") as store:
        store.create("k", {})
    for room in (200_000, 300_001, 450_007):
        *said, last = Child(fill, str(path), room).lines()
        assert last.startswith("full: ")
        assert "nothing was written" in last
        acknowledged += said
        with open_store(f"sqlite:///{path}") as store:
            check(store, acknowledged, acknowledged)
    assert len(acknowledged) > 10
