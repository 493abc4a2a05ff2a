"""What `erase`, `expire` and `prune` leave in the tables of an SQLite file: what is shown, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from dspy_session.stores import Store, open_store

FUTURE = datetime(2999, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store with the conversation k: turns t0 to t4, after each of which it was scored and a memory made."""
    with open_store(f"sqlite:///{path}") as store:
        revision = store.create("k", {"head": "k"})
        for number in range(5):
            notes = [{"kind": "m", "v": number}, {"kind": "s", "turn": f"t{number}"}]
            revision = store.append("k", [{"id": f"t{number}"}], expected=revision, annotations=notes)
        yield store


def rows(path: Path, sql: str) -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute(sql)]
    connection.close()
    return found


def turns(path: Path) -> list[str]:
    return rows(path, "SELECT id FROM turn ORDER BY id")


def scored(path: Path) -> list[str]:
    return rows(path, "SELECT json_extract(data, '$.turn') FROM note WHERE about >= 0 ORDER BY 1")


def memories(path: Path) -> list[int]:
    return rows(path, "SELECT json_extract(data, '$.v') FROM note WHERE about < 0 ORDER BY 1")


def nothing_is_left(path: Path) -> bool:
    tables = ("conversation", "segment", "turn", "note", "head", "lease")
    return not any(rows(path, f"SELECT 1 FROM {table}") for table in tables)


def test_pruning_deletes_what_is_shown_no_more_and_what_was_abandoned(store: Store, path: Path) -> None:
    store.append("k", [{"id": "x"}], expected=store.load("k").revision, keep=4)
    assert turns(path) == ["t0", "t1", "t2", "t3", "t4", "x"]
    store.prune(keep=2, key="k")
    assert turns(path) == ["t3", "x"]
    assert scored(path) == ["t3"]
    # Of the memories, those of positions that can be gone back to, and the copy that the new segment begins with.
    assert memories(path) == [0, 1, 2, 3, 3]
    assert store.load("k").annotations == ({"kind": "m", "v": 3},)
    assert store.verify().ok


def test_pruning_a_scope_deletes_in_each_conversation(store: Store, path: Path) -> None:
    store.create("l", {}, turns=[{"id": "u0"}, {"id": "u1"}])
    store.create("l", {}, scope="other", turns=[{"id": "v0"}, {"id": "v1"}])
    assert store.prune(keep=1) == 5
    assert turns(path) == ["t4", "u1", "v0", "v1"]


def test_what_forks_show_stays_for_them(store: Store, path: Path) -> None:
    store.fork("k", "f", at=2)
    store.fork("k", "g", at=4)
    store.prune(keep=1, key="g")
    store.prune(keep=1, key="k")
    assert turns(path) == scored(path) == ["t0", "t1", "t3", "t4"]
    store.erase("k", forks="keep")
    assert turns(path) == scored(path) == ["t0", "t1", "t3"]
    store.prune(keep=1, key="f")
    assert turns(path) == scored(path) == ["t1", "t3"]
    assert [[turn.id for turn in store.load(key).turns] for key in "fg"] == [["t1"], ["t3"]]
    store.erase("g")
    assert turns(path) == scored(path) == ["t1"]
    assert memories(path) == [0, 1]
    store.erase("f")
    assert nothing_is_left(path)


def test_segments_that_nothing_stands_on_are_deleted_whole(store: Store, path: Path) -> None:
    store.append("f", [{"id": "f0"}], expected=store.fork("k", "f"))
    store.append("g", [{"id": "g0"}], expected=store.fork("f", "g"))
    assert len(rows(path, "SELECT id FROM segment")) == 3
    store.erase("f", forks="keep")
    assert turns(path) == ["f0", "g0", "t0", "t1", "t2", "t3", "t4"]
    store.erase("g")
    assert turns(path) == ["t0", "t1", "t2", "t3", "t4"]
    assert len(rows(path, "SELECT id FROM segment")) == 1
    assert store.verify().ok


def test_moving_back_and_forking_write_no_segment(store: Store, path: Path) -> None:
    revision = store.append("k", expected=store.load("k").revision, keep=2)
    store.append("k", expected=revision, keep=1)
    store.fork("k", "f")
    assert len(rows(path, "SELECT id FROM segment")) == 1


def test_a_fork_that_was_kept_points_nowhere(store: Store, path: Path) -> None:
    store.fork("k", "f")
    store.fork("f", "g")
    store.erase("k", forks="keep")
    assert rows(path, "SELECT source IS NULL FROM conversation ORDER BY key") == [1, 0]


def test_heads_are_deleted_with_the_last_that_has_them(store: Store, path: Path) -> None:
    store.fork("k", "f")
    store.fork("k", "g", head={"head": "g"})
    heads = "SELECT json_extract(data, '$.head') FROM head ORDER BY 1"
    assert rows(path, heads) == ["g", "k"]
    store.erase("g")
    assert rows(path, heads) == ["k"]
    store.erase("k", forks="keep")
    assert rows(path, heads) == ["k"]
    assert store.load("f").head == {"head": "k"}
    store.erase("f")
    assert nothing_is_left(path)


def test_erasing_with_all_forks_leaves_others_alone(store: Store, path: Path) -> None:
    store.create("other", {"head": "other"}, turns=[{"id": "o"}])
    store.fork("k", "f")
    store.fork("f", "g", head={"head": "g"})
    for key in ("k", "f", "g", "other"):
        with store.lease(key, wait=0):
            pass
    assert store.erase("k", forks="erase") == ("f", "g", "k")
    assert turns(path) == ["o"]
    assert rows(path, "SELECT key FROM lease") == ["other"]
    assert rows(path, "SELECT data FROM head") == ['{"head":"other"}']
    assert len(rows(path, "SELECT id FROM segment")) == 1


def test_what_was_erased_is_not_in_the_file(path: Path) -> None:
    with open_store(f"sqlite:///{path}") as store:
        store.create("k", {"v": "xyzzy-head"}, turns=[{"id": "a", "v": "xyzzy-turn"}])
        store.erase("k")
        for file in path.parent.iterdir():
            assert b"xyzzy" not in file.read_bytes()


def test_expiring_deletes_and_forgets_old_leases(store: Store, path: Path) -> None:
    store.fork("k", "f")
    store.create("k", {"head": "other"}, scope="other")
    for scope, key in (("", "nobody"), ("", "k"), ("other", "nobody")):
        with store.lease(key, scope=scope, wait=0):
            pass
    held, of_fork = store.lease("held", wait=0), store.lease("f", wait=0)
    held.__enter__()
    of_fork.__enter__()
    assert store.expire(before=datetime(2000, 1, 1, tzinfo=timezone.utc)) == ()
    leases = "SELECT scope || ':' || key FROM lease ORDER BY 1"
    # A lease that was given back has expired for good; that of a conversation goes with it.
    assert rows(path, leases) == [":f", ":held", ":k", "other:nobody"]
    assert store.expire(before=FUTURE) == ("f", "k")
    assert rows(path, leases) == [":held", "other:nobody"]
    assert turns(path) == []
    assert store.load("k", scope="other").head == {"head": "other"}
    held.__exit__(None, None, None)


def test_leases_last_as_long_as_was_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = 1_700_000_000_000_000

    def at(microseconds: int) -> int:
        monkeypatch.setattr("time.time_ns", lambda: (began + microseconds) * 1000)
        return began + microseconds

    at(0)
    expires = "SELECT expires FROM lease"
    with open_store(f"sqlite:///{path}") as store:
        with store.lease("k", wait=0, ttl=1.2):
            assert rows(path, expires) == [began + 1_200_000]
            later = at(500_000)
            deadline = time.monotonic() + 30
            while (found := rows(path, expires)) == [began + 1_200_000] and time.monotonic() < deadline:
                time.sleep(0.02)
            assert found == [later + 1_200_000]
        assert rows(path, expires) == [0]
        held = store.lease("k", wait=0, ttl=30.0)
        held.__enter__()
        assert rows(path, expires) == [later + 30_000_000]
        for age, left in ((0, 1), (1, 0)):
            at(500_000 + 30_000_000 + 86_400_000_000 + age)
            store.expire(before=FUTURE)
            assert len(rows(path, expires)) == left
        held.__exit__(None, None, None)
