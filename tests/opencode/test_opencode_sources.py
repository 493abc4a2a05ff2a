"""Where history comes from: recognising places, live databases, old layouts, bad input."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opencode_layouts import Conversation
from opencode_recordings import RECORDINGS
from opencode_strategies import conversations, values

from dspy_session import opencode
from dspy_session.errors import FormatError, SourceFormatError, SourceNotFoundError, UnknownPathError
from dspy_session.opencode import History, open_source, parsing
from dspy_session.opencode.records import loaded_session
from dspy_session.opencode.sources.base import HOLDINGS, SkippedRecordWarning
from dspy_session.opencode.sources.opening import FILES, FOLDERS, discovered

counted = pytest.mark.filterwarnings("ignore::dspy_session.opencode.sources.base.SkippedRecordWarning")


def simple(session: str = "ses_1", text: str = "Hello", *, at: int = 1_795_000_000_000) -> Conversation:
    info = {
        "id": session,
        "slug": "s",
        "projectID": "p1",
        "directory": "/work",
        "title": "T",
        "version": "1.18.33",
    }
    info |= {"time": {"created": at, "updated": at + 10}}
    ids = {"sessionID": session}
    head = {"id": f"{session}_m1", "role": "user", "time": {"created": at + 1}, **ids}
    part = {"type": "text", "text": text, "id": f"{session}_p1", "messageID": head["id"], **ids}
    answer = {"id": f"{session}_m2", "role": "assistant", "parentID": head["id"], "finish": "stop", **ids}
    answer |= {"time": {"created": at + 2, "completed": at + 3}}
    told = {"type": "text", "text": "Hi.", "id": f"{session}_p2", "messageID": answer["id"], **ids}
    return Conversation(info, [(head, [part]), (answer, [told])])


# -- recognising --


def test_sources_declare_what_they_hold() -> None:
    for kind in (*FILES, *FOLDERS):
        assert kind.holds <= set(HOLDINGS)
        assert kind.kind
    ranks = [kind.rank for kind in (*FILES, *FOLDERS)]
    assert len(set(ranks)) == len(ranks)


def test_the_users_own_history_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "opencode"
    folder.mkdir()
    layouts.database(folder / "opencode.db", simple("ses_1"))
    layouts.database(folder / "opencode-dev.db", simple("ses_2"))
    layouts.storage(folder, simple("ses_3"), simple("ses_1"))
    layouts.project_storage(folder, simple("ses_4"))

    def found(**environ: str) -> set[str]:
        with History(discovered(environ)) as history:
            return {record.id for record in history.sessions()}

    assert found(XDG_DATA_HOME=str(tmp_path)) == {"ses_1", "ses_2", "ses_3", "ses_4"}
    assert found(OPENCODE_DATA_DIR=str(folder)) == {"ses_1", "ses_2", "ses_3", "ses_4"}
    other = layouts.database(tmp_path / "mine.db", simple("ses_9"))
    assert found(OPENCODE_DATA_DIR=str(folder), OPENCODE_DB=str(other)) == {
        "ses_9",
        "ses_1",
        "ses_3",
        "ses_4",
    }
    assert found(OPENCODE_DATA_DIR=str(folder), OPENCODE_DB="opencode-dev.db") == {
        "ses_2",
        "ses_1",
        "ses_3",
        "ses_4",
    }


def test_without_a_history_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENCODE_DB", raising=False)
    monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path))
    with pytest.raises(SourceNotFoundError, match=str(tmp_path)):
        open_source()
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        open_source(tmp_path / "missing")
    with pytest.raises(SourceNotFoundError, match="no history of OpenCode in this folder"):
        open_source(tmp_path)


def test_a_session_is_found_by_its_id(new: History) -> None:
    assert new.session("ses_e04b9acfbffeLmotmnHFTzqKK2").title
    with pytest.raises(UnknownPathError, match="ses_none"):
        new.session("ses_none")


def test_an_upgraded_database_is_read_from_the_newer_tables(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", simple("ses_1", "old copy"), simple("ses_2"))
    entries = [{"id": "m1", "type": "user", "text": "new", "time": {"created": 1}}]
    layouts.v2_database(path, simple("ses_1").info, entries)
    with open_source(path) as history:
        assert [record.turns[0].prompt for record in history.sessions()] == ["new", "Hello"]


V2_ENTRIES: list[dict[str, Any]] = [
    {
        "id": "m1",
        "type": "user",
        "text": "Run it",
        "time": {"created": 10},
        "skills": [{"id": "s", "name": "lint"}],
    },
    {"id": "m2", "type": "model-switched", "model": {"id": "x"}, "time": {"created": 11}},
    {
        "id": "m3",
        "type": "assistant",
        "agent": "build",
        "model": {"id": "large", "providerID": "lab"},
        "content": [
            {"type": "reasoning", "text": "Think."},
            {
                "type": "tool",
                "id": "call_1",
                "name": "shell",
                "state": {
                    "status": "completed",
                    "input": {"command": "make"},
                    "metadata": {"exit": 2},
                    "content": [
                        {"type": "text", "text": "failed"},
                        {"type": "file", "uri": "file:///x", "mime": "a/b"},
                    ],
                },
                "time": {"created": 12, "ran": 13, "completed": 14},
            },
        ],
        "snapshot": {"start": "t1", "end": "t2", "files": ["/a.py"]},
        "finish": "tool-calls",
        "cost": 0.25,
        "tokens": {"input": 5, "output": 6, "reasoning": 1, "cache": {"read": 2, "write": 0}},
        "time": {"created": 12, "completed": 15},
    },
    {"id": "m4", "type": "idle", "outcome": "failed", "time": {"created": 16}},
    {
        "id": "m5",
        "type": "shell",
        "shellID": "sh",
        "command": "ls",
        "status": "exited",
        "exit": 0,
        "time": {"created": 17},
    },
    {
        "id": "m6",
        "type": "compaction",
        "status": "completed",
        "reason": "manual",
        "summary": "So far",
        "time": {"created": 18},
    },
    {"id": "m7", "type": "user", "text": "Next", "time": {"created": 19}},
    {"id": "m8", "type": "hologram", "beam": 1, "time": {"created": 20}},
]


def test_the_flat_messages_of_v2(tmp_path: Path) -> None:
    """Synthetic, after the published schema."""
    path = layouts.v2_database(tmp_path / "opencode.db", simple().info, V2_ENTRIES, idle_outcome="failed")
    (record,) = open_source(path).sessions()
    assert [turn.kind for turn in record.turns] == ["prompt", "shell", "compaction", "prompt"]
    first = record.turns[0]
    assert (opencode.outcome(first).success, opencode.outcome(first).signal) == (False, "idle_outcome")
    (call,) = first.tool_calls
    assert (call.tool, call.exit_code, call.succeeded, call.output) == ("shell", 2, False, "failed")
    assert call.attachments[0].url == "file:///x"
    assert first.usage.cost == 0.25
    assert [use.name for use in record.skills] == ["lint"]
    step = record.steps[0]
    assert step.completion is not None
    assert step.completion["reasoning_content"] == "Think."
    unknown = [m for m in record.messages if m.role == "event"]
    assert [m.parts[0].type for m in unknown] == ["model-switched", "hologram"]
    assert record.info["idleOutcome"] == "failed"


def test_a_fork_of_v2_names_its_source(tmp_path: Path) -> None:
    path = layouts.v2_database(tmp_path / "opencode.db", simple("ses_1").info, V2_ENTRIES)
    copied = [{**entry, "id": f"f{entry['id']}"} for entry in V2_ENTRIES[:3]]
    more = [{"id": "f9", "type": "user", "text": "On", "time": {"created": 99}}]
    fork = {**simple("ses_2").info, "time": {"created": 50, "updated": 60}}
    path = layouts.v2_database(path, fork, copied + more, fork_session_id="ses_1", fork_boundary="f9")
    with open_source(path) as history:
        record = history.session("ses_2")
        assert record.is_fork
        assert [turn.copied for turn in record.turns] == [True, False]
        source = history.fork_source(record)
        assert source is not None
        assert source.id == "ses_1"


# -- a live database --


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}


def test_rows_in_the_write_ahead_log_are_read_and_nothing_is_changed(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", simple("ses_1"))
    writer = sqlite3.connect(path)
    writer.execute("pragma journal_mode=wal")
    with writer:
        layouts.add_to_database(writer, simple("ses_2"))
    assert (tmp_path / "opencode.db-wal").stat().st_size > 0
    before = {name: content for name, (_, content) in files_of(tmp_path).items() if not name.endswith("-shm")}
    with open_source(path) as history:
        assert [record.turns[0].prompt for record in history.sessions()] == ["Hello", "Hello"]
    after = {name: content for name, (_, content) in files_of(tmp_path).items() if not name.endswith("-shm")}
    assert after == before
    writer.close()


def test_reading_never_blocks_the_writer(tmp_path: Path) -> None:
    """After a session is read no transaction stays open: the log can be folded back at once."""
    path = layouts.database(tmp_path / "opencode.db", simple("ses_1"))
    writer = sqlite3.connect(path)
    writer.execute("pragma journal_mode=wal")
    with open_source(path) as history:
        for record in history.sessions():
            assert record.messages
            with writer:
                layouts.add_to_database(writer, simple("ses_2"))
            busy, _, _ = writer.execute("pragma wal_checkpoint(truncate)").fetchone()
            assert busy == 0
        assert len(list(history.sessions())) == 2
    writer.close()


def test_a_session_is_read_whole_while_it_is_written(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", simple("ses_1"))
    setup = sqlite3.connect(path)
    setup.execute("pragma journal_mode=wal")
    setup.close()
    done = threading.Event()

    def write() -> None:
        db = sqlite3.connect(path)
        for number in range(60):
            with db:
                layouts.add_to_database(db, simple(f"ses_w{number}"))
        db.close()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    with open_source(path) as history:
        while True:
            last = done.is_set()
            for record in history.sessions():
                assert [len(message.parts) for message in record.messages] == [1, 1]
            if last:
                break
        assert len(list(history.sessions())) == 61
    thread.join()


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "sealed"
    folder.mkdir()
    yield folder
    folder.chmod(stat.S_IRWXU)


def test_a_folder_that_cannot_be_written_to(sealed: Path) -> None:
    path = layouts.database(sealed / "opencode.db", simple("ses_1"))
    writer = sqlite3.connect(path)
    writer.execute("pragma journal_mode=wal")
    with writer:
        layouts.add_to_database(writer, simple("ses_2"))
    copy = sealed.parent / "copy"
    copy.mkdir()
    for name in ("opencode.db", "opencode.db-wal"):
        shutil.copyfile(sealed / name, copy / name)
    writer.close()
    copy.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with open_source(copy / "opencode.db") as history:
            assert {record.id for record in history.sessions()} == {"ses_1", "ses_2"}
    finally:
        copy.chmod(stat.S_IRWXU)


def test_a_copy_is_read_where_the_file_itself_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root every folder can be written to, so the refusal is made here."""
    from dspy_session.opencode.sources import database

    path = layouts.database(tmp_path / "opencode.db", simple("ses_1"))
    (tmp_path / "opencode.db-wal").write_bytes(b"x")
    connect = database._connect

    def refuse(place: Path, options: str) -> sqlite3.Connection:
        if place.parent == tmp_path:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(place, options)

    monkeypatch.setattr(database, "_connect", refuse)
    with open_source(path) as history:
        assert [record.id for record in history.sessions()] == ["ses_1"]


def test_names_that_urls_do_not_like(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d%20"
    folder.mkdir()
    path = layouts.database(folder / "opencode.db", simple())
    assert [record.id for record in open_source(path).sessions()] == ["ses_1"]


# -- old layouts --


def test_exports_of_the_recording_equal_its_database(new: History, tmp_path: Path) -> None:
    for record in new.sessions():
        messages = [{"info": dict(m.raw), "parts": [dict(p.raw) for p in m.parts]} for m in record.messages]
        file = tmp_path / f"{record.id}.json"
        file.write_text(json.dumps({"info": record.info, "messages": messages}))
    for exported in open_source(tmp_path).sessions():
        if exported.origin.endswith(".json"):
            assert exported.messages == new.session(exported.id).messages


def test_exports_cut_off_are_read_up_to_the_cut(tmp_path: Path) -> None:
    whole = layouts.export(tmp_path / "a.json", simple()).read_text()
    cut = whole[: whole.index('"Hi."')]
    (tmp_path / "a.json").write_text("Performing one time database migration...\n" + cut)
    with pytest.warns(SkippedRecordWarning, match="cut off"):
        history = open_source(tmp_path / "a.json")
    (record,) = history.sessions()
    assert [turn.prompt for turn in record.turns] == ["Hello"]
    assert [(skip.row, Path(skip.path).name) for skip in history.skipped] == [("message 1", "a.json")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_exports_as_windows_writes_them(encoding: str, tmp_path: Path) -> None:
    file = layouts.export(tmp_path / "a.json", simple(text="Grüße ✓"))
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False).encode(encoding))
    (record,) = open_source(file).sessions()
    assert record.turns[0].prompt == "Grüße ✓"


def test_a_sanitised_export_gives_way_to_one_that_is_not(tmp_path: Path) -> None:
    redacted = simple(text="[redacted:text:1]")
    redacted.info["title"] = "[redacted:session-title:1]"
    layouts.export(tmp_path / "a.json", redacted)
    layouts.export(tmp_path / "b.json", simple())
    (record,) = open_source(tmp_path).sessions()
    assert record.turns[0].prompt == "Hello"


def test_parts_that_an_undo_left_behind_are_no_messages(tree: History) -> None:
    folder = Path(tree.sources[0].path)
    stored = {file.name for file in (folder / "part").iterdir()}
    read = {message.id for record in tree.sessions() for message in record.messages if message.parts}
    assert read < stored
    assert tree.skipped == ()


def test_the_plugins_raw_log_keeps_turns_apart(tmp_path: Path) -> None:
    """Events raced: the reply is stored before its prompt."""
    reply = {"id": "m2", "role": "assistant", "parentID": "m1", "cost": 0.5, "finish": "stop"}
    reply |= {"time": {"created": 2000, "completed": 4000}, "tokens": {"input": 3, "output": 4}}
    log = {
        "sessionId": "ses_1",
        "startTime": 1000,
        "lastUpdateTime": 4000,
        "messages": [
            {"messageId": "m2", "role": "assistant", "content": "Done", "info": reply},
            {"messageId": "m1", "role": "user", "content": "Go", "timestamp": "1970-01-01T00:00:01.500Z"},
            7,
        ],
        "toolCalls": [
            {"step": 1, "tool": "read", "callID": "c1", "args": {}, "timestamp": "1970-01-01T00:00:03.000Z"},
        ],
    }
    (tmp_path / "session-ses_1.json").write_text(json.dumps(log))
    (tmp_path / "dspy-ses_1.json").write_text(json.dumps({"session": "ses_1", "examples": []}))
    (record,) = open_source(tmp_path).sessions()
    with pytest.warns(SkippedRecordWarning, match="message 2"):
        (turn,) = record.turns
    assert (turn.prompt, turn.response, turn.usage.cost) == ("Go", "Done", 0.5)
    (call,) = turn.tool_calls
    assert (call.tool, call.status) == ("read", "error")


# -- bad input --

BAD: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 8,
    "truncated": (RECORDINGS / "v1.3.2.db").read_bytes()[:9000],
    "text": b"hello",
    "header only": b"SQLite format 3\x00",
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_databases_are_told_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.write_bytes(BAD[kind])
    with pytest.raises(SourceFormatError, match=r"opencode\.db"):
        list(open_source(path).sessions())
    assert path.read_bytes() == BAD[kind]
    assert os.listdir(tmp_path) == ["opencode.db"]


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[1]", b"{", b'{"info": 3, "messages": []}', b'{"info": {']
)
def test_bad_exports_are_told_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(content)
    with pytest.raises(SourceFormatError, match=r"export\.json"):
        list(open_source(path).sessions())


def test_foreign_databases_and_missing_tables(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "a.db")
    foreign.execute("create table bookmarks (id integer)")
    foreign.close()
    with pytest.raises(SourceFormatError, match="no table `session`"):
        open_source(tmp_path / "a.db")
    path = layouts.database(tmp_path / "b.db", simple())
    db = sqlite3.connect(path)
    db.execute("drop table part")
    db.close()
    with pytest.raises(SourceFormatError, match="table `part` missing"):
        open_source(path)


def test_the_tables_todo_and_project_may_be_missing(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "b.db", simple())
    db = sqlite3.connect(path)
    db.executescript("drop table todo; drop table project")
    db.close()
    (record,) = open_source(path).sessions()
    assert (record.todos, record.worktree, len(record.turns)) == ((), None, 1)


def test_damaged_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", simple("ses_1"), simple("ses_2"))
    db = sqlite3.connect(path)
    with db:
        db.execute("update part set data = '{\"type\": \"te' where id = 'ses_1_p1'")
        db.execute(
            "update part set data = ? where id = 'ses_2_p1'", (b'{"type": "text", "text": "\xff\xfe"}',)
        )
        db.execute("update message set data = '[]' where id = 'ses_2_m2'")
    db.close()
    history = open_source(path)
    first, second = history.sessions()
    with pytest.warns(SkippedRecordWarning, match="part ses_1_p1"):
        assert first.turns[0].response == "Hi."
    with pytest.warns(SkippedRecordWarning, match="message ses_2_m2"):
        assert [message.typed for message in second.messages] == ["\ufffd\ufffd"]
    assert {skip.row for skip in history.skipped} == {"part ses_1_p1", "message ses_2_m2"}
    assert all(skip.path == str(path) for skip in history.skipped)


@counted
def test_one_damaged_file_does_not_end_the_read(tmp_path: Path) -> None:
    layouts.export(tmp_path / "good.json", simple("ses_1"))
    (tmp_path / "notes.json").write_text('{"a": 1}')
    (tmp_path / "cut.json").write_text('{"info": {"id": "ses_2", "ti')
    (tmp_path / "old.db").write_bytes(BAD["truncated"])
    (tmp_path / "auth.json").write_text('{"key": "secret"}')
    layouts.storage(tmp_path, simple("ses_3"))
    (tmp_path / "storage" / "message" / "ses_3" / "ses_3_m1.json").write_text('{"id": ')
    history = open_source(tmp_path)
    assert {record.id: len(record.messages) for record in history.sessions()} == {"ses_1": 2, "ses_3": 1}
    assert {Path(skip.path).name for skip in history.skipped} == {
        "notes.json",
        "cut.json",
        "old.db",
        "ses_3_m1.json",
    }


def test_what_remains_of_storage_after_the_move_is_passed_over(tmp_path: Path) -> None:
    layouts.write(tmp_path / "storage" / "migration", 2)
    layouts.write(tmp_path / "storage" / "session_diff" / "ses_1.json", [])
    layouts.database(tmp_path / "opencode.db", simple())
    assert open_source(tmp_path).skipped == ()


def test_a_very_long_session_is_read(tmp_path: Path) -> None:
    conversation = simple()
    head, (part,) = conversation.messages[0]
    conversation.messages[0] = (head, [{**part, "id": f"p{n:06d}"} for n in range(50_000)])
    (record,) = open_source(layouts.database(tmp_path / "opencode.db", conversation)).sessions()
    assert len(record.messages[0].parts) == 50_000
    assert len(record.turns) == 1


def test_deep_nesting_is_skipped(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", simple())
    db = sqlite3.connect(path)
    with db:
        db.execute(
            "update part set data = ? where id = 'ses_1_p1'", ('{"a":' * 100_000 + "1" + "}" * 100_000,)
        )
    db.close()
    (record,) = open_source(path).sessions()
    with pytest.warns(SkippedRecordWarning, match="nested too deeply"):
        assert len(record.messages) == 2


def touch(record: opencode.SessionRecord) -> None:
    """Look at everything."""
    for value in (
        record.created_at,
        record.usage,
        record.skills,
        record.errors,
        record.todos,
        record.is_fork,
    ):
        repr(value)
    for step in record.steps:
        record.prompt(step)
        repr((step.completion, step.usage, step.text, step.reasoning))
    for turn in record.turns:
        repr((opencode.outcome(turn), opencode.evaluate(turn), turn.prompt, turn.response, turn.duration))
    for message in record.messages:
        for record_ in (message, *message.parts):
            for name in dir(type(record_)):
                if not name.startswith("_") and name != "of":
                    getattr(record_, name)
    opencode.to_chat(record)
    opencode.to_sharegpt(record)
    with contextlib.suppress(FormatError):
        opencode.to_atif(record)
    opencode.load_training_data([record])


keys = st.sampled_from(["id", "type", "role", "time", "state", "parts", "info", "text"]) | st.text()
jsons = st.dictionaries(keys, values)


@counted
@settings(deadline=None, max_examples=60)
@given(conversations(), st.data())
def test_no_field_of_the_wrong_type_crashes_a_read(conversation: Conversation, data: st.DataObject) -> None:
    """Any value of any message or part is replaced by anything, and everything is looked at."""
    for head, parts in conversation.messages:
        for target in (head, *parts):
            for key in list(target):
                if key not in ("id", "sessionID", "messageID") and data.draw(st.integers(0, 5)) == 0:
                    target[key] = data.draw(values)
    entries = [{"info": head, "parts": parts} for head, parts in conversation.messages]
    touch(loaded_session(conversation.info, parsing.exported_messages(entries, conversation.id)))


@counted
@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400) | jsons.map(lambda value: json.dumps(value).encode()))
@example(b'{"info": {"id": "x"}, "messages": [{"info": {}, "parts": [1, {"type": 3}]}]}')
@example(
    b'{"info": {"id": "x"}, "messages": [{"type": "assistant", "content": 3, "error": [], "tokens": "x"}]}'
)
@example(
    b'{"session": "x", "examples": [{"input": {"task": 3, "context": []}, "actions": {"a": 1}, "output": 2}]}'
)
@example(b'{"sessionId": "x", "messages": [{"info": {"time": 5}, "role": 3}], "toolCalls": [{"args": 4}]}')
def test_no_file_crashes_a_read(content: bytes) -> None:
    for name in ("export.json", "dspy-x.json", "session-x.json", "opencode.db"):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(content)
            assert name in read_all(Path(folder) / name)


def read_all(path: Path) -> str:
    """Read and look at everything; the error's message, or the path if there is none."""
    try:
        with open_source(path) as history:
            for record in history.sessions():
                touch(record)
    except SourceFormatError as error:
        return str(error)
    return str(path)
