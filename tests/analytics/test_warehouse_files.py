"""A warehouse's file: made, brought forward, refused when it is foreign or newer, shared with other processes."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest
from warehouses import conversation, counted, held, written

from dspy_session.errors import (
    ConfigurationError,
    FormatError,
    MissingExtraError,
    SourceNotFoundError,
    UnsupportedVersionError,
    WarehouseBusyError,
)
from dspy_session.opencode.analytics import warehouse as module
from dspy_session.opencode.analytics.tables import FORM, TABLES
from dspy_session.opencode.analytics.warehouse import Warehouse

THREE = [conversation("ses_1", 2), conversation("ses_2", 1), conversation("ses_3", 3)]
OLD = """
CREATE TABLE step_events (
    id VARCHAR PRIMARY KEY, session_id VARCHAR NOT NULL, event_type VARCHAR NOT NULL, cost DECIMAL(10,6) DEFAULT 0
);
CREATE INDEX idx_step_events_session ON step_events(session_id);
INSERT INTO step_events VALUES ('ses_1_000b_p000', 'ses_1', 'start', 0), ('elsewhere', 'ses_9', 'start', 0);
CREATE TABLE synced (session_id VARCHAR, source VARCHAR, rank BIGINT, updated_at TIMESTAMP, changed_at TIMESTAMP,
    fingerprint VARCHAR, form BIGINT, synced_at TIMESTAMP);
INSERT INTO synced VALUES ('ses_1', 'x', 0, NULL, NULL, '', 0, NULL), ('ses_9', 'x', 0, NULL, NULL, '', 0, NULL);
"""


def columns(file: Path) -> dict[str, list[str]]:
    with duckdb.connect(str(file)) as db:
        rows = db.execute("SELECT table_name, column_name FROM duckdb_columns() ORDER BY ALL").fetchall()
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def test_an_older_file_is_brought_forward_as_often_as_you_like(tmp_path: Path) -> None:
    file, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    with duckdb.connect(str(file)) as db:
        db.execute(OLD)
    Warehouse(new).close()
    for _ in range(3):
        warehouse = Warehouse(file)
    assert columns(file) == columns(new)
    rows = warehouse.query("SELECT id, event_type, reason FROM step_events ORDER BY id")
    assert [row["id"] for row in rows] == ["elsewhere", "ses_1_000b_p000"]
    path = written(tmp_path / "opencode.db", *THREE)
    assert warehouse.sync(path).read == 3
    assert warehouse.query("SELECT count(*) AS n FROM step_events") == [{"n": 13}]
    indexed = warehouse.query("SELECT table_name AS t FROM duckdb_indexes() ORDER BY t")
    assert [row["t"] for row in indexed] == ["patches", "step_events"]


def test_a_column_that_is_missing_is_added(tmp_path: Path) -> None:
    file = tmp_path / "history.duckdb"
    Warehouse(file).sync(written(tmp_path / "opencode.db", *THREE))
    with duckdb.connect(str(file)) as db:
        db.execute("ALTER TABLE parts DROP COLUMN reasoning_text")
        db.execute("DROP TABLE todos")
        db.execute("DROP INDEX patches_session_id")
    warehouse = Warehouse(file)
    assert warehouse.query("SELECT reasoning_text FROM parts LIMIT 1") == [{"reasoning_text": None}]
    assert warehouse.query("SELECT * FROM todos") == []


def test_another_form_of_rows_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file = written(tmp_path / "opencode.db", *THREE), tmp_path / "history.duckdb"
    Warehouse(file).sync(path)
    with duckdb.connect(str(file)) as db:
        db.execute("UPDATE about SET value = ?", [FORM - 1])
        db.execute("UPDATE synced SET form = ? WHERE session_id = 'ses_1'", [FORM - 1])
        db.execute("UPDATE looks SET form = ?", [FORM - 1])
    with counted(monkeypatch) as read:
        Warehouse(file).sync(path)
    assert read == ["ses_1"]


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "history.duckdb"
    Warehouse(file).sync(written(tmp_path / "opencode.db", *THREE))
    with duckdb.connect(str(file)) as db:
        db.execute("UPDATE about SET value = ?", [FORM + 1])
        db.execute("ALTER TABLE parts DROP COLUMN reasoning_text")
    before = file.read_bytes()
    with pytest.raises(UnsupportedVersionError, match="update dspy-session"):
        Warehouse(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at" * 100, b"x"])
def test_a_file_of_another_kind_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"notes\.txt"):
        Warehouse(file)
    with pytest.raises(FormatError, match=r"notes\.txt"):
        Warehouse(file, read_only=True)
    assert file.read_bytes() == content


def test_a_database_of_opencode_is_no_warehouse(tmp_path: Path) -> None:
    # DuckDB would attach it by an extension, which it would first try to download, and write tables into it.
    file = tmp_path / "opencode.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE session (id TEXT)")
        db.commit()
    before = file.read_bytes()
    for read_only in (False, True):
        with pytest.raises(FormatError, match=r"opencode\.db: no database of DuckDB"):
            Warehouse(file, read_only=read_only)
    assert file.read_bytes() == before


def test_a_folder_that_is_missing_is_made_and_others_cannot_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "share" / "dspy-session" / "history.duckdb"
    Warehouse(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


HOLDER = """
import sys, time
from dspy_session.opencode.analytics.warehouse import Warehouse
with Warehouse(sys.argv[1], read_only=sys.argv[2] == "reads"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(file: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the file until a line is written to it."""
    command = [sys.executable, "-c", HOLDER, str(file), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_file_that_another_process_holds_is_told(tmp_path: Path) -> None:
    file = tmp_path / "history.duckdb"
    warehouse = Warehouse(file, wait=0.1)
    with another_process(file, "writes"):
        with pytest.raises(WarehouseBusyError, match="another process holds the file"):
            warehouse.query("SELECT 1")
        with pytest.raises(TimeoutError, match="wait"):
            Warehouse(file, read_only=True, wait=0.1)
    assert warehouse.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_query_waits_for_another_process_to_let_go(tmp_path: Path) -> None:
    file = tmp_path / "history.duckdb"
    warehouse = Warehouse(file, wait=60)
    with another_process(file, "writes") as process:
        assert process.stdin is not None
        timer = threading.Timer(0.3, lambda: print("", file=process.stdin, flush=True))
        timer.start()
        assert warehouse.query("SELECT 1 AS one") == [{"one": 1}]
        timer.join()


def test_an_idle_warehouse_holds_nothing(tmp_path: Path) -> None:
    path, file = written(tmp_path / "opencode.db", *THREE), tmp_path / "history.duckdb"
    warehouse = Warehouse(file)
    warehouse.sync(path)
    with another_process(file, "writes"):
        pass
    assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]
    with warehouse:
        assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]
        other = subprocess.run(
            [sys.executable, "-c", HOLDER.replace("[1],", "[1], wait=0,"), str(file), "writes"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "WarehouseBusyError" in other.stderr


def test_readers_share_a_file(tmp_path: Path) -> None:
    path, file = written(tmp_path / "opencode.db", *THREE), tmp_path / "history.duckdb"
    with pytest.raises(SourceNotFoundError, match="sync into it first"):
        Warehouse(file, read_only=True)
    Warehouse(file).sync(path)
    with another_process(file, "reads"):
        reader = Warehouse(file, read_only=True, wait=0.1)
        assert reader.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]
        with pytest.raises(WarehouseBusyError):
            Warehouse(file, wait=0.1)
        with pytest.raises(ConfigurationError, match="read_only"):
            reader.sync(path)


def test_a_reader_does_not_bring_an_older_file_forward(tmp_path: Path) -> None:
    file = tmp_path / "old.duckdb"
    with duckdb.connect(str(file)) as db:
        db.execute(OLD)
    with pytest.raises(FormatError, match="without read_only"):
        Warehouse(file, read_only=True)


def test_many_threads_share_one_warehouse(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse(tmp_path / "history.duckdb")
    warehouse.sync(path)
    found: list[int] = []

    def ask() -> None:
        for _ in range(10):
            found.append(warehouse.query("SELECT count(*) AS n FROM parts")[0]["n"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 80


def test_a_warehouse_in_memory_lives_as_long_as_it_is_not_closed(tmp_path: Path) -> None:
    warehouse = Warehouse()
    with warehouse:
        warehouse.sync(written(tmp_path / "opencode.db", *THREE))
    assert any(held(warehouse).values())
    warehouse.close()
    assert not any(held(warehouse).values())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"dspy-session\[analytics\]"):
        Warehouse()


def test_every_column_says_what_it_holds() -> None:
    assert module.definition(TABLES[0]).startswith("CREATE TABLE IF NOT EXISTS sessions (id VARCHAR")
    assert all(column.doc and column.type for table in TABLES for column in table.columns)
    assert all(set(table.key) <= set(table.names) and table.doc for table in TABLES)
