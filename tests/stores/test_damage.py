"""`verify` names every damaged place, and reading one says what is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dspy_session.errors import FormatError
from dspy_session.stores import Store, open_store

from . import servers
from .backends import address
from .conftest import obtain


def fill(store: Store) -> None:
    revision = store.create("k", {"head": 1})
    for number in range(6):
        revision = store.append("k", [{"id": f"t{number}"}], expected=revision)
    store.append("k", [{"id": "x"}], expected=revision, keep=4, annotations=[{"kind": "m"}])
    store.create("healthy", {}, turns=[{"id": "a"}])


SQL_DAMAGES = {
    "a changed text": ('UPDATE {s}turn SET data = \'{{"id":"t2","v":1}}\' WHERE idx = 2', 2, "digest"),
    "a text that is no JSON": ("UPDATE {s}turn SET data = 'oops' WHERE idx = 2", 2, "damaged"),
    "a missing turn": ("DELETE FROM {s}turn WHERE idx = 1", 1, "missing"),
    "a missing last turn": ("DELETE FROM {s}turn WHERE id = {x}", 4, "missing"),
    "a missing segment": ("DELETE FROM {s}segment WHERE parent IS NULL AND id = 1", None, "segment 1"),
    "a changed head": ("UPDATE {s}head SET data = '{{}}' WHERE id = 1", None, "digest"),
    "a missing head": ("DELETE FROM {s}head WHERE id = 1", None, "head is missing"),
    "a changed id": ("UPDATE {s}turn SET id = {x2} WHERE idx = 0 AND segment = 1", 0, "filed under"),
    "a turn of the future": ("UPDATE {s}turn SET version = 99 WHERE idx = 3", 3, "commit 99"),
    "a changed annotation": ("UPDATE {s}note SET data = 'x' WHERE about = -1", None, "damaged"),
    "a position out of range": ("UPDATE {s}conversation SET first = 99 WHERE id = 1", None, "claims"),
}


@contextmanager
def sql(backend: str, url: str) -> Iterator[Any]:
    """Executes statements behind the store's back."""
    if backend == "sqlite":
        path = url.removeprefix("sqlite:///")
        with sqlite3.connect(path) as connection:
            yield lambda text: connection.execute(text.format(s="", x="'x'", x2="'y'"))
        connection.close()
    else:
        import psycopg

        schema = url.split("schema=")[1].split("&")[0] + "."
        with psycopg.connect(obtain(servers.postgres).url(), autocommit=True) as connection:
            yield lambda text: connection.execute(text.format(s=schema, x="'\\x78'", x2="'\\x79'").encode())


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("damage", SQL_DAMAGES)
def test_a_damaged_sql_store(backend: str, damage: str) -> None:
    statement, index, words = SQL_DAMAGES[damage]
    with address(backend) as url:
        with open_store(url) as store:
            fill(store)
            assert store.verify().ok
        with sql(backend, url) as run:
            run(statement)
        with open_store(url) as store:
            problems = store.verify().problems
            assert problems
            assert {problem.key for problem in problems} <= {"k", None}
            assert any(problem.index == index and words in problem.what for problem in problems), problems
            assert all(str(problem).startswith(("'k'", "the store")) for problem in problems)
            assert store.load("healthy").total == 1


REDIS_DAMAGES: dict[str, tuple[Any, int | None, str]] = {
    "a changed text": (lambda c, p: c.lset(f"{p}t:1", 2, '2 t2{"id":"t2","v":1}'), 2, "digest"),
    "a text that is no JSON": (lambda c, p: c.lset(f"{p}t:1", 2, "2 t2oops"), 2, "damaged"),
    "an element that is nothing": (lambda c, p: c.lset(f"{p}t:1", 2, ""), 2, "damaged"),
    "missing turns": (lambda c, p: c.ltrim(f"{p}t:1", 0, 1), 2, "missing"),
    "a missing segment": (lambda c, p: c.delete(f"{p}s:1"), None, "segment 1"),
    "a changed head": (lambda c, p: c.hset(f"{p}h:2", "data", "{}"), None, "digest"),
    "a missing head": (lambda c, p: c.delete(f"{p}h:2"), None, "head is missing"),
    "a lost id": (lambda c, p: c.hdel(f"{p}ids", "t1"), 1, "not filed"),
}


@pytest.mark.parametrize("damage", REDIS_DAMAGES)
def test_a_damaged_redis_store(damage: str) -> None:
    import redis

    work, index, words = REDIS_DAMAGES[damage]
    with address("redis") as url, open_store(url) as store:
        fill(store)
        assert store.verify().ok
        client = redis.Redis.from_url(obtain(servers.redis_server).url(), decode_responses=True)
        prefix = url.split("prefix=")[1]
        [family] = {
            key[: key.index("}:") + 2]
            for key in client.scan_iter(f"{prefix}:*:c:*")
            if client.hget(key, "key") == "k"
        }
        work(client, family)
        problems = store.verify().problems
        assert any(problem.index == index and words in problem.what for problem in problems), problems
        assert {problem.key for problem in problems} == {"k"}
        assert store.load("healthy").total == 1


def test_reading_a_damaged_turn_says_which(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as store:
        fill(store)
        with sql("sqlite", url) as run:
            run("UPDATE turn SET data = 'oops' WHERE idx = 2")
        with pytest.raises(FormatError, match="turn 2 of 'k'"):
            store.load("k")
        assert len(store.load("k", last=2).turns) == 2


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE head SET data = 'oops'", "the head of 'k' (scope 's')"),
        ("UPDATE conversation SET metadata = 'oops'", "the metadata of 'k' (scope 's')"),
        ("UPDATE conversation SET title = 'oops'", "the summary of 'k' (scope 's')"),
        ("UPDATE conversation SET tags = 'oops'", "the summary of 'k' (scope 's')"),
        ("UPDATE turn SET data = 'oops'", "turn 0 of 'k' (scope 's')"),
        ("UPDATE note SET data = 'oops' WHERE about = -1", "an annotation of 'k' (scope 's')"),
        ("UPDATE note SET data = 'oops' WHERE about = 0", "an annotation of 'k' (scope 's')"),
        ("DELETE FROM turn", "turns of 'k' (scope 's') are missing"),
    ],
)
def test_reading_damage_says_what_and_whose_it_is(tmp_path: Path, statement: str, words: str) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as store:
        notes = [{"kind": "m"}, {"kind": "s", "turn": "a"}]
        store.create("k", {}, scope="s", turns=[{"id": "a"}, {"id": "b"}], annotations=notes)
        with sql("sqlite", url) as run:
            run(statement)
        with pytest.raises(FormatError) as caught:
            store.load("k", scope="s")
        assert str(caught.value).startswith(words)
        if "UPDATE turn" in statement or "about = 0" in statement:
            with pytest.raises(FormatError) as caught:
                store.turns("k", scope="s")
            assert str(caught.value).startswith(words)
        if "UPDATE conversation" in statement:
            with pytest.raises(FormatError) as caught:
                store.list(scope="s")
            assert str(caught.value).startswith("the summary of 'k' (scope 's')")


def test_a_line_with_a_hole_is_not_handed_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as store:
        store.create("k", {}, scope="s", turns=[{"id": f"t{number}"} for number in range(5)])
        with sql("sqlite", url) as run:
            run("DELETE FROM turn WHERE idx = 2")
        for read in (
            lambda: store.load("k", scope="s"),
            lambda: store.load("k", scope="s", last=3),
            lambda: store.turns("k", scope="s"),
            lambda: store.turns("k", scope="s", before=4, limit=3),
        ):
            with pytest.raises(FormatError, match=r"turns of 'k' \(scope 's'\) are missing"):
                read()
        assert [turn.id for turn in store.load("k", scope="s", last=2).turns] == ["t3", "t4"]
        assert [turn.id for turn in store.turns("k", scope="s", before=2)] == ["t0", "t1"]


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with open_store(f"sqlite:///{path}") as store:
        revision = store.create("k", {})
        for number in range(200):
            revision = store.append("k", [{"id": f"t{number}", "text": "x" * 500}], expected=revision)
    raw = bytearray(path.read_bytes())
    for place in range(40_000, len(raw) - 4096, 4096):
        raw[place : place + 2000] = b"\xff" * 2000
    path.write_bytes(bytes(raw))
    with open_store(f"sqlite:///{path}") as store:
        found: list[str] = []
        try:
            found += map(str, store.verify().problems)
        except FormatError as error:
            found.append(str(error))
        assert found


def test_what_sqlite_itself_finds_wrong_is_reported(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as store:
        store.create("k", {}, turns=[{"id": "a"}])
    with sql("sqlite", url) as run:
        run("PRAGMA writable_schema = ON")
        run("UPDATE sqlite_master SET sql = replace(sql, 'source INTEGER', 'source INTEGER NOT NULL')")
    with open_store(url) as store:
        [problem] = store.verify().problems
        assert (problem.scope, problem.key, problem.index) == ("", None, None)
        assert str(problem) == "the store: SQLite: NULL value in conversation.source"


def test_settings_that_risk_acknowledged_turns_are_warned_of(tmp_path: Path) -> None:
    settings = {"backend": "sqlite", "path": f"{tmp_path}/a.db", "journal_mode": "wal"}
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        report = store.verify()
        assert (report.warnings, report.settings) == ((), {**settings, "synchronous": "full"})
    with open_store(f"sqlite:///{tmp_path}/a.db?synchronous=normal") as store:
        report = store.verify()
        assert report.settings == {**settings, "synchronous": "normal"}
        [warning] = report.warnings
        assert warning.startswith("synchronous is normal: a power cut")


def test_redis_settings_are_reported() -> None:
    import redis

    server = obtain(servers.redis_server)
    client = redis.Redis.from_url(server.url())
    with address("redis") as url, open_store(url) as store:
        report = store.verify()
        assert report.settings["appendfsync"] == "always"
        assert report.warnings == ()
        try:
            client.config_set("appendfsync", "everysec")
            client.config_set("maxmemory-policy", "allkeys-lru")
            warnings = store.verify().warnings
            assert any("everysec" in warning for warning in warnings)
            assert any("allkeys-lru" in warning for warning in warnings)
        finally:
            client.config_set("appendfsync", "always")
            client.config_set("maxmemory-policy", "noeviction")
