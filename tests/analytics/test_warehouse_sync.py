"""Syncing: complete, incremental, resumable, and never stopped by what is damaged."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opencode_layouts import Conversation
from opencode_recordings import unpack
from opencode_strategies import conversations
from warehouses import START, TOKENS, add, aged, connected, conversation, counted, exchange, held, written

from dspy_session.errors import SourceFormatError, SourceNotFoundError
from dspy_session.opencode import open_source
from dspy_session.opencode.analytics import _batches, _workers
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.tables import TABLES
from dspy_session.opencode.analytics.warehouse import Warehouse

RECORDINGS = ["v1.18.33", "v1.3.2", "v1.1.65"]
THREE = [conversation("ses_1", 2), conversation("ses_2", 1), conversation("ses_3", 3)]
Writer = Callable[[Path, Conversation], Path]
WRITERS: dict[str, Writer] = {
    "database": lambda folder, each: written(folder / "opencode.db", each),
    "v2 database": lambda folder, each: _v2_database(folder / "opencode.db", each),
    "storage": layouts.storage,
    "project storage": layouts.project_storage,
    "first storage": layouts.first_storage,
    "export": lambda folder, each: layouts.export(folder / "session.json", each),
    "raw log": lambda folder, each: _raw_log(folder / f"session-{each.id}.json", each),
    "plugin log": lambda folder, each: _plugin_log(folder / f"dspy-{each.id}.json", each),
}


def _v2_database(path: Path, each: Conversation) -> Path:
    path.unlink(missing_ok=True)
    return layouts.v2_database(path, each.info, layouts.v2_entries(each))


def _raw_log(path: Path, each: Conversation) -> Path:
    messages = [
        {"messageId": head["id"], "role": head["role"], "content": "Said.", "info": head, "timestamp": START}
        for head, _ in each.messages
    ]
    path.write_text(
        json.dumps({"sessionId": each.id, "messages": messages, "toolCalls": [], "startTime": START})
    )
    return path


def _plugin_log(path: Path, each: Conversation) -> Path:
    prompts = [parts[0]["text"] for head, parts in each.messages if head["role"] == "user"]
    examples = [
        {
            "input": {"task": prompt, "context": {"workingDirectory": "/work"}},
            "actions": [],
            "output": {"response": "Done.", "finalMessage": f"{each.id}_final_{number}"},
            "outcome": {
                "success": True,
                "metrics": {"timeToCompletion": 1, "tokenCost": {"input": 1, "output": 2}},
            },
            "agent": {"name": "build", "model": "lab/large"},
            "metadata": {"timestamp": "2026-11-20T10:00:00.000Z"},
        }
        for number, prompt in enumerate(prompts)
    ]
    stored = {"session": each.id, "generated": "2026-11-20T11:00:00.000Z", "examples": examples}
    path.write_text(json.dumps(stored))
    return path


@pytest.mark.parametrize("recording", RECORDINGS)
def test_sums_equal_those_of_the_records(recording: str, tmp_path: Path) -> None:
    warehouse = Warehouse()
    with open_source(unpack(recording, tmp_path)) as history:
        report = warehouse.sync(history)
        records = list(history.sessions())
        own = {record.id: history.usage(record, children=False) for record in records}
    assert report.seen == report.read == len(records) > 0
    rows = warehouse.query(
        "SELECT session_id AS id, sum(cost) AS cost, sum(tokens_input) AS i, sum(tokens_output) AS o, "
        "sum(tokens_reasoning) AS r, sum(tokens_cache_read) AS cr, sum(tokens_cache_write) AS cw "
        "FROM steps WHERE NOT copied GROUP BY session_id"
    )
    found = {row["id"]: row for row in rows}
    for name, usage in own.items():
        row, tokens = (
            found.get(name, dict.fromkeys("iocr", 0) | {"cr": 0, "cw": 0, "cost": 0.0}),
            usage.tokens,
        )
        kinds = (row["i"], row["o"], row["r"], row["cr"], row["cw"])
        assert kinds == (tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write)
        assert row["cost"] == pytest.approx(usage.cost, abs=1e-12)
    parts = sum(len(message.parts) for record in records for message in record.messages)
    assert warehouse.query("SELECT count(*) AS n FROM parts") == [{"n": parts}]
    assert report.rows["parts"] == parts


@pytest.mark.parametrize("recording", RECORDINGS)
def test_forks_name_what_they_were_copied_from(recording: str, tmp_path: Path) -> None:
    warehouse = Warehouse()
    with open_source(unpack(recording, tmp_path)) as history:
        warehouse.sync(history)
        wanted = {}
        for record in history.sessions():
            source = history.fork_source(record)
            wanted[record.id] = None if source is None else source.id
    rows = warehouse.query("SELECT id, forked_from FROM sessions")
    assert {row["id"]: row["forked_from"] for row in rows} == wanted


@pytest.mark.parametrize("layout", WRITERS)
def test_each_kind_of_source_is_read_once_and_again_after_it_grew(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    path = WRITERS[layout](tmp_path / "source", conversation(turns=1))
    aged(tmp_path / "source")
    warehouse = Warehouse()
    first = warehouse.sync(path)
    assert (first.read, first.unchanged, first.skipped) == (1, 0, ())
    with counted(monkeypatch) as read:
        again = warehouse.sync(path)
    assert (again.seen, again.read, again.unchanged, read) == (1, 0, 1, [])
    WRITERS[layout](tmp_path / "source", conversation(turns=2))
    with counted(monkeypatch) as read:
        grown = warehouse.sync(path)
    assert (grown.read, set(read)) == (1, {"ses_1"})
    fresh = Warehouse()
    fresh.sync(path)
    assert held(warehouse) == held(fresh)
    assert len(warehouse.query("SELECT * FROM turns")) == 2


def test_only_the_sessions_that_changed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    warehouse.sync(path)
    add(path, conversation("ses_2", 2), conversation("ses_4", 1))
    with counted(monkeypatch) as read:
        report = warehouse.sync(path)
    assert (report.seen, report.read, report.unchanged, set(read)) == (4, 2, 2, {"ses_2", "ses_4"})


@pytest.mark.parametrize(
    "change",
    [
        "update part set data = json_set(data, '$.text', 'Changed.'), time_updated = 1795000009999 "
        "where id = 'ses_1_000b_p003'",
        "update session set revert = '{\"messageID\": \"ses_1_000a\"}' where id = 'ses_1'",
        "update session set title = 'Another title' where id = 'ses_1'",
        "insert into todo values ('ses_1', 'Dust it', 'pending', 'high', 0)",
        "delete from message where id = 'ses_1_001b'",
        "update project set worktree = '/elsewhere'",
    ],
)
def test_what_changes_without_growing_is_seen(change: str, tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    warehouse.sync(path)
    with connected(path) as db:
        db.execute(change)
    report = warehouse.sync(path)
    fresh = Warehouse()
    fresh.sync(path)
    assert report.read in (1, 3)
    assert held(warehouse) == held(fresh)


def test_what_is_gone_from_the_source_is_kept(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    warehouse.sync(path)
    before = held(warehouse)
    written(path, *THREE[1:])
    report = warehouse.sync(path)
    assert (report.seen, report.missing) == (2, 1)
    assert "1 no longer there" in str(report)
    assert held(warehouse) == before


def test_of_two_places_the_better_is_believed_in_any_order(tmp_path: Path) -> None:
    database = written(tmp_path / "opencode.db", conversation(turns=2))
    export = layouts.export(tmp_path / "ses_1.json", conversation(turns=1))
    wanted = Warehouse()
    wanted.sync(database)
    for order in ([database, export, database], [export, database, export]):
        warehouse = Warehouse()
        for path in order:
            warehouse.sync(path)
        assert held(warehouse) == held(wanted)
    together = Warehouse()
    together.sync(tmp_path)
    assert held(together) == held(wanted)


def test_damaged_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    with connected(path) as db:
        db.execute("update part set data = '{\"type\": ' where id = 'ses_1_000b_p003'")
        db.execute("update message set data = 'no json' where id = 'ses_3_001b'")
        db.execute("update session set id = '' where id = 'ses_2'")
    report = warehouse.sync(path)
    assert (report.read, len(report.skipped), len(warehouse.skipped)) == (2, 3, 3)
    assert "3 skipped" in str(report)
    rows = warehouse.query("SELECT id, skipped FROM sessions ORDER BY id")
    assert rows == [{"id": "ses_1", "skipped": 1}, {"id": "ses_3", "skipped": 1}]
    assert warehouse.query("SELECT count(*) AS n FROM parts WHERE session_id = 'ses_1'") == [{"n": 13}]
    written(path, *THREE)
    with connected(path) as db:
        db.execute("update part set time_updated = 1795000009999")
        db.execute("update message set time_updated = 1795000009999")
    assert warehouse.sync(path).skipped == ()
    assert warehouse.skipped == ()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("$.time.start", 10**30),
        ("$.time.start", 10**17),
        ("$.time.end", -(10**17)),
        ("$.text", "\ud800 and more"),
        ("$.text", "nul \x00 inside"),
        ("$.type", [1, {"two": 3}]),
        ("$.id", 5),
    ],
)
def test_no_value_stops_the_others(column: str, value: Any, tmp_path: Path) -> None:
    odd, warehouse = conversation("ses_1", 1), Warehouse()
    outer, _, inner = column[2:].partition(".")
    part = odd.messages[1][1][3]
    if inner:
        part[outer][inner] = value
    else:
        part[outer] = value
    path = layouts.export(tmp_path / "odd.json", odd)
    layouts.export(tmp_path / "good.json", conversation("ses_2", 1))
    del path
    report = warehouse.sync(tmp_path)
    assert (report.read, report.failed) == (2, 0)
    assert warehouse.query("SELECT count(*) AS n FROM parts GROUP BY session_id") == [{"n": 7}, {"n": 7}]


def test_values_that_do_not_fit_are_counted_in_the_answers(tmp_path: Path) -> None:
    odd, warehouse = conversation("ses_1", 2), Warehouse()
    for message in (1, 3):
        odd.messages[message][1][3]["time"] = {"start": 10**30, "end": -(10**30)}
    report = warehouse.sync(written(tmp_path / "opencode.db", odd, conversation("ses_2", 1)))
    assert len(report.skipped) == len(warehouse.skipped) >= 4
    assert Reports(warehouse).models().skipped == len(report.skipped)
    counted = {row.id: row.skipped for row in Reports(warehouse).sessions()}
    assert counted == {"ses_1": len(report.skipped), "ses_2": 0}


def test_a_session_that_cannot_be_read_keeps_its_rows_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    warehouse.sync(path)
    before = held(warehouse)
    add(path, conversation("ses_1", 4))
    with monkeypatch.context() as patched:
        patched.setattr(_batches, "session_rows", _failing)
        report = warehouse.sync(path)
    assert (report.read, report.failed) == (0, 1)
    assert "unexpected shape" in str(report.skipped[0])
    assert held(warehouse) == before
    assert warehouse.sync(path).read == 1
    assert warehouse.skipped == ()


def _failing(*_: Any, **__: Any) -> Any:
    raise TypeError("unexpected shape")


def test_a_damaged_place_among_several_is_told(tmp_path: Path) -> None:
    written(tmp_path / "opencode.db", *THREE)
    (tmp_path / "session-x.json").write_text('{"sessionId": ')
    warehouse = Warehouse()
    report = warehouse.sync(tmp_path)
    assert (report.read, len(report.skipped)) == (3, 1)
    assert [skip.path for skip in warehouse.skipped] == [str(tmp_path / "session-x.json")]
    (tmp_path / "session-x.json").unlink()


def test_a_damaged_or_missing_only_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "opencode.db").write_bytes(b"SQLite format 3\x00 and nothing more")
    warehouse = Warehouse()
    with pytest.raises(SourceFormatError):
        warehouse.sync(tmp_path / "opencode.db")
    with pytest.raises(SourceNotFoundError):
        warehouse.sync(tmp_path / "nothing")
    assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 0}]


@settings(deadline=None, max_examples=25)
@given(st.lists(conversations(), min_size=1, max_size=3, unique_by=lambda each: each.id), st.data())
def test_any_way_of_growing_leads_to_the_same_rows(found: list[Conversation], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path, warehouse, fresh = Path(folder) / "opencode.db", Warehouse(), Warehouse()
        kept = [0] * len(found)
        for _ in range(data.draw(st.integers(0, 3))):
            patched.setattr(_batches, "MOST_SESSIONS", data.draw(st.integers(1, 3)))
            kept = [data.draw(st.integers(low, len(c.messages))) for low, c in zip(kept, found, strict=True)]
            shown = [replace(c, messages=c.messages[:n]) for n, c in zip(kept, found, strict=True) if n]
            warehouse.sync(written(path, *shown))
        written(path, *found)
        warehouse.sync(path)
        fresh.sync(path)
        assert held(warehouse) == held(fresh)


KILLED = """
import os, sys
from dspy_session.opencode.analytics import _batches
from dspy_session.opencode.analytics.warehouse import Warehouse
_batches.MOST_SESSIONS = 1
def progress(done, total):
    if done == 2:
        os.kill(os.getpid(), 9)
Warehouse(sys.argv[1]).sync(sys.argv[2], progress=progress)
"""


def test_a_killed_sync_goes_on_from_what_it_had_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = written(tmp_path / "opencode.db", *THREE), tmp_path / "history.duckdb"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file), str(path)], check=False, timeout=120)
    assert killed.returncode == -9
    warehouse = Warehouse(file)
    assert len(warehouse.query("SELECT * FROM sessions")) == 2
    with counted(monkeypatch) as read:
        report = warehouse.sync(path)
    assert (report.read, report.unchanged, len(read)) == (1, 2, 1)
    fresh = Warehouse()
    fresh.sync(path)
    assert held(warehouse) == held(fresh)


def test_a_query_sees_whole_sessions_while_a_sync_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batches, "MOST_SESSIONS", 2)
    path, warehouse = tmp_path / "opencode.db", Warehouse(tmp_path / "history.duckdb")
    seen, over, wrong = [], threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            rows = warehouse.query(
                "SELECT s.id, s.turn_count, count(t.turn_index) AS n FROM sessions s "
                "LEFT JOIN turns t ON t.session_id = s.id GROUP BY ALL"
            )
            seen.append(len(rows))
            wrong.extend(row for row in rows if row["turn_count"] != row["n"])

    readers = [threading.Thread(target=ask) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for turns in range(1, 6):
            warehouse.sync(written(path, *(conversation(f"ses_{i}", turns) for i in range(8))))
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert max(seen) == 8


def test_syncs_of_several_threads_follow_each_other(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    threads = [threading.Thread(target=warehouse.sync, args=(path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]


MANY = """
import sys
from dspy_session.opencode.analytics import _workers
from dspy_session.opencode.analytics.warehouse import Warehouse
_workers.FEWEST = 1
print(Warehouse(sys.argv[1]).sync(sys.argv[2]).read)
"""


def test_workers_read_the_same_without_a_main_module(tmp_path: Path) -> None:
    found = [conversation(f"ses_{i:04d}", 1 + i % 3) for i in range(130)]
    path, file = written(tmp_path / "opencode.db", *found), tmp_path / "history.duckdb"
    ran = subprocess.run(
        [sys.executable, "-c", MANY, str(file), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "130"), ran.stderr
    fresh = Warehouse()
    fresh.sync(path)
    assert held(Warehouse(file)) == held(fresh)


@pytest.mark.parametrize("trouble", ["no program", "dies at once", "delivers rubbish"])
def test_what_workers_do_not_deliver_is_read_here(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_workers, "FEWEST", 1)
    if trouble == "no program":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    elif trouble == "dies at once":
        monkeypatch.setattr(_workers, "_PROGRAM", "import os, sys; sys.stdin.buffer.read(); os._exit(1)")
    else:
        monkeypatch.setattr(_workers, "_PROGRAM", "import sys; sys.stdin.buffer.read(); print('Hello!')")
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    assert warehouse.sync(path).read == 3
    assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]


def test_progress_and_the_log_tell_what_was_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, warehouse, told = written(tmp_path / "opencode.db", *THREE), Warehouse(), []
    with caplog.at_level(logging.INFO, logger="dspy_session.opencode"):
        report = warehouse.sync(path, progress=lambda done, total: told.append((done, total)))
    assert "Loaded 12 step_events, 6 patches, 6 reasoning parts" in caplog.text
    assert "3 sessions: 3 read, 0 unchanged. Loaded 12 step_events, 6 patches, 6 reasoning parts" in str(
        report
    )
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)


def test_times_are_utc_and_tokens_todays(tmp_path: Path) -> None:
    warehouse = Warehouse()
    warehouse.sync(written(tmp_path / "opencode.db", conversation()))
    (step,) = warehouse.query("SELECT * FROM steps")
    at = datetime.fromtimestamp((START + 2) / 1000, tz=timezone.utc).replace(tzinfo=None)
    assert step["created_at"] == at
    kinds = ("input", "output", "reasoning")
    assert [step[f"tokens_{kind}"] for kind in kinds] == [TOKENS[kind] for kind in kinds]


def test_a_history_that_moved_is_not_counted_twice(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    warehouse.sync(path)
    moved = Path(shutil.copy(path, tmp_path / "moved.db"))
    os.unlink(path)
    assert warehouse.sync(moved).read == 0
    add(
        moved,
        Conversation(
            conversation("ses_1", 3).info, [*THREE[0].messages, *exchange("ses_1", 2, START + 2000)]
        ),
    )
    assert warehouse.sync(moved).read == 1
    assert warehouse.query("SELECT count(*) AS n FROM turns") == [{"n": 7}]


def test_records_can_be_loaded_without_a_source(tmp_path: Path) -> None:
    path, warehouse = written(tmp_path / "opencode.db", *THREE), Warehouse()
    with open_source(path) as history:
        warehouse.load(history.sessions())
        warehouse.load(history.sessions())
    assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 3}]
    assert warehouse.sync(path).read == 3
    assert all(len(warehouse.query(f"SELECT * FROM {table.name} LIMIT 1")) <= 1 for table in TABLES)
