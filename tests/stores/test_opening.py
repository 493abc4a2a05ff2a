"""Opening: by address, of every version so far, and what is said when it cannot be done."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dspy_session.errors import (
    ConfigurationError,
    FormatError,
    StoreUnavailableError,
    UnsupportedVersionError,
)
from dspy_session.stores import Store, open_store, sqlite

from . import servers
from .backends import PERSISTENT, address
from .conftest import obtain
from .fixtures.write import content, fill, restore_redis

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(int(path.name[1:-7]) for path in FIXTURES.glob("v*.sqlite"))


def expected(version: int) -> object:
    return json.loads((FIXTURES / f"v{version}.json").read_text("utf-8"))


def check_fixture(store: Store, version: int) -> None:
    assert content(store) == expected(version)
    report = store.verify()
    assert report.ok, report.problems
    found = store.load("what-if")
    store.append("what-if", [{"id": "new"}], expected=found.revision, keep=1)
    store.erase("user-42", forks="keep")
    assert [turn.id for turn in store.load("what-if").turns] == ["t0", "new"]
    assert store.verify().ok


# -- versions -----------------------------------------------------------------------------------------------


def test_the_fixtures_are_complete() -> None:
    assert list(range(1, len(sqlite.MIGRATIONS) + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_an_sqlite_file_of_every_version_opens(version: int, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / f"v{version}.sqlite", tmp_path / "chat.db")
    with open_store(f"sqlite:///{tmp_path}/chat.db") as store:
        check_fixture(store, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_postgresql_schema_of_every_version_opens(version: int) -> None:
    import psycopg

    server = obtain(servers.postgres)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS fixture CASCADE")
        connection.execute((FIXTURES / f"v{version}.postgres.sql").read_bytes())
    with open_store(server.url() + "?schema=fixture") as store:
        check_fixture(store, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_redis_keys_of_every_version_open(version: int) -> None:
    url = obtain(servers.redis_server).url()
    restore_redis(url, json.loads((FIXTURES / f"v{version}.redis.json").read_text("utf-8")))
    with open_store(url + "?prefix=fixture") as store:
        check_fixture(store, version)
        for scope in store.scopes():
            for row in store.list(scope=scope):
                store.erase(row.key, scope=scope, forks="erase")


@pytest.mark.parametrize("backend", PERSISTENT)
def test_what_is_written_today_is_what_the_newest_fixture_says(backend: str) -> None:
    with address(backend) as url, open_store(url) as store:
        fill(store)
        assert content(store) == expected(VERSIONS[-1])


def test_a_newer_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    shutil.copy(FIXTURES / "v1.sqlite", path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UnsupportedVersionError, match="version 99"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_newer_postgresql_schema_is_refused() -> None:
    import psycopg

    with address("postgresql") as url:
        open_store(url).close()
        schema = url.split("schema=")[1].split("&")[0]
        with psycopg.connect(obtain(servers.postgres).url(), autocommit=True) as connection:
            connection.execute(f"UPDATE {schema}.schema_version SET version = 99".encode())
        with pytest.raises(UnsupportedVersionError, match="version 99"):
            open_store(url)


def test_newer_redis_keys_are_refused() -> None:
    import redis

    with address("redis") as url:
        open_store(url).close()
        prefix = url.split("prefix=")[1]
        redis.Redis.from_url(obtain(servers.redis_server).url()).set(f"{prefix}:schema", 99)
        with pytest.raises(UnsupportedVersionError, match="version 99"):
            open_store(url)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chat.db"
    shutil.copy(FIXTURES / "v1.sqlite", path)
    # The second "migration" is the first one: its tables exist already, and it fails at once.
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, "_sqlite_1.sql"))
    with pytest.raises(StoreUnavailableError, match="already exists"):
        open_store(f"sqlite:///{path}")
    monkeypatch.undo()
    with open_store(f"sqlite:///{path}") as store:
        check_fixture(store, 1)


def test_a_file_is_brought_from_its_version_to_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "two.sql"
    script.write_text("CREATE TABLE more (x);\nINSERT INTO more VALUES (2);\n", encoding="utf-8")
    shutil.copy(FIXTURES / "v1.sqlite", tmp_path / "old.db")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "MIGRATIONS", ("_sqlite_1.sql", str(script)))
        for name in ("old.db", "new.db", "old.db"):
            with open_store(f"sqlite:///{tmp_path}/{name}") as store:
                assert store.verify().ok
            with sqlite3.connect(tmp_path / name) as connection:
                assert connection.execute("PRAGMA user_version").fetchall() == [(2,)]
                assert connection.execute("SELECT x FROM more").fetchall() == [(2,)]
            connection.close()
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        open_store(f"sqlite:///{tmp_path}/new.db")


# -- wrong addresses, files and servers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "chat.db",
        "mysql://host/db",
        "sqlite://chat.db",
        "sqlite:///",
        "sqlite:///a.db?synchronous=off",
        "sqlite:///a.db?timeout=soon",
        "sqlite:///a.db?mode=ro",
        "postgresql://host/db?schema=a-b",
        "postgresql://host/db?pool_size=many",
        "postgresql://host/db?nonsense=1",
        "redis://host?prefix={}",
    ],
)
def test_addresses_that_are_none(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_address_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store("postgresql:/user:hidden-7391@host/db")
    assert "7391" not in str(caught.value)


def test_a_relative_and_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///chat.db").close()
    open_store(f"sqlite:///{tmp_path}/other.db?synchronous=normal&timeout=1").close()
    assert {path.name for path in tmp_path.iterdir()} == {"chat.db", "other.db"}


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, which nobody may overwrite." * 100)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=r"notes\.txt"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(FormatError, match="something else"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("pragma", ["user_version = 5", "application_id = 5"])
def test_an_empty_database_of_something_else(pragma: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(FormatError, match="something else"):
        open_store(f"sqlite:///{path}")


def test_an_sqlite_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreUnavailableError, match=r"SQLite 3\.35 or newer"):
        open_store(f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 35, 0))
    open_store(f"sqlite:///{tmp_path}/a.db").close()


def test_a_store_waits_and_writes_as_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, asked = sqlite3.connect, []

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        asked.append(kwargs["timeout"])
        return connect(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", watched)
    with sqlite.SQLiteStore(tmp_path / "a.db") as store:
        assert store.verify().settings["synchronous"] == "full"
    sqlite.SQLiteStore(tmp_path / "a.db", timeout=0.5).close()
    assert asked == [30.0, 0.5]


def test_opening_does_not_wait_for_writers(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with open_store(f"sqlite:///{path}") as store:
        store.create("k", {})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_store(f"sqlite:///{path}?timeout=0.05") as store:
        assert store.load("k").total == 0
    other.execute("ROLLBACK")
    other.close()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="folder"):
        open_store(f"sqlite:///{tmp_path}/missing/chat.db")


def test_a_file_that_another_writer_holds(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with open_store(f"sqlite:///{path}?timeout=0.05") as store:
        revision = store.create("k", {})
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"chat\.db was locked by other writers for 0\.05 s"):
            store.append("k", [{"id": "a"}], expected=revision)
        assert store.load("k").total == 0
        other.execute("ROLLBACK")
        other.close()
        store.append("k", [{"id": "a"}], expected=revision)


def test_a_new_file_that_another_writer_holds(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA application_id = 0")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="was locked by other writers"):
        open_store(f"sqlite:///{path}?timeout=0.05")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    with open_store(f"sqlite:///{path}?timeout=30") as store:
        assert store.verify().settings["journal_mode"] == "wal"
    release.join()
    other.close()


@pytest.mark.parametrize(
    ("start", "scheme"),
    [(servers.postgres, "postgresql"), (servers.redis_server, "redis")],
    ids=["postgresql", "redis"],
)
def test_a_wrong_password_is_said_without_showing_any(
    start: Callable[[], servers.Server], scheme: str
) -> None:
    server = obtain(start)
    with pytest.raises(StoreUnavailableError, match="password") as caught:
        open_store(server.url(password="wrong-7391"))
    assert "7391" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
def test_an_unreachable_server(scheme: str) -> None:
    port = servers.free_port()
    with pytest.raises(StoreUnavailableError, match=str(port)) as caught:
        open_store(f"{scheme}://user:hidden-7391@127.0.0.1:{port}/0")
    assert isinstance(caught.value, ConnectionError)
    assert "7391" not in str(caught.value)


def test_an_unknown_database() -> None:
    with pytest.raises(StoreUnavailableError, match="nowhere"):
        open_store(obtain(servers.postgres).url("nowhere"))


def test_opening_imports_no_driver_that_is_not_used() -> None:
    program = (
        # A tool that looks on, such as one that measures coverage, may have imported some before.
        "import sys\nbefore = set(sys.modules)\n"
        "from dspy_session.stores import open_store\nopen_store('memory://')\n"
        "drivers = {'dspy', 'psycopg', 'redis', 'cryptography', 'sqlite3', 'anyio'}\n"
        "print(sorted(drivers & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_outlives_its_store_leaves_no_file_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("there is no /proc: open files cannot be counted")
    store = open_store(f"sqlite:///{tmp_path}/chat.db")
    store.create("k", {})
    lease = store.lease("k")
    lease.__enter__()
    store.close()
    lease.__exit__(None, None, None)
    opened = []
    for each in descriptors.iterdir():
        with suppress(OSError):
            opened.append(os.readlink(each))
    assert [path for path in opened if path.startswith(str(tmp_path))] == []
