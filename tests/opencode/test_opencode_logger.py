"""The plugin's files without the plugin, and the command line."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
import pytest
from opencode_layouts import Conversation
from opencode_recordings import unpack

from dspy_session import opencode
from dspy_session.cli import main
from dspy_session.opencode import History, Logger

FIXED = "ses_e04b9acfbffeLmotmnHFTzqKK2"
NOW = 1_795_300_000_000


def fixing(session: str, directory: Path, *, at: int = NOW, done: bool = True) -> Conversation:
    """A session in which one file is fixed."""
    info = {"id": session, "slug": "s", "projectID": "p1", "directory": str(directory), "title": "Fix"}
    info |= {"version": "1.18.33", "time": {"created": at, "updated": at}}
    ids = {"sessionID": session}
    state: dict[str, Any] = {"status": "completed", "input": {"filePath": str(directory / "a.py")}}
    found = {"range": {"start": {"line": 3}}, "severity": 1, "message": "name x is not defined"}
    state |= {"output": "ok, no failed edits", "metadata": {"diagnostics": {"a.py": [found]}}}
    state |= {"time": {"start": at + 20, "end": at + 30}}
    reply = {"id": f"{session}_b", "role": "assistant", "parentID": f"{session}_a", "agent": "build", **ids}
    reply |= {"providerID": "lab", "modelID": "large", "mode": "build", "cost": 0.01}
    reply |= {"time": {"created": at + 10, **({"completed": at + 4000} if done else {})}}
    reply |= {"finish": "stop"} if done else {}
    user = {"id": f"{session}_a", "role": "user", "time": {"created": at + 1}, "agent": "build", **ids}
    parts = [
        {"type": "step-start"},
        {"type": "tool", "tool": "edit", "callID": "call_1", "state": state},
        {"type": "text", "text": "I've fixed the import in a.py."},
    ]
    tokens = {"total": 15, "input": 10, "output": 5, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    if done:
        parts.append({"type": "step-finish", "reason": "stop", "cost": 0.01, "tokens": tokens})
    said = [{**p, "id": f"prt_{n}_{session}", "messageID": reply["id"], **ids} for n, p in enumerate(parts)]
    asked = [
        {"type": "text", "text": "Fix the import", "id": f"prt_u_{session}", "messageID": user["id"], **ids}
    ]
    return Conversation(info, [(user, asked), (reply, said)])


def test_the_files_have_the_keys_that_the_guide_reads(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", fixing("ses_1", tmp_path))
    report = Logger(opencode.open_source(path), tmp_path / "logs").run()
    assert report.examples == 1
    log = json.loads((tmp_path / "logs" / "dspy-ses_1.json").read_text())
    assert log["outcome"]["success"] is True
    assert log["overallSuccess"] is True
    assert log["totalToolCalls"] == 1
    (example,) = log["examples"]
    assert example["input"]["task"] == "Fix the import"
    assert example["input"]["context"]["projectType"] == "python"
    assert "gitStatus" not in example["input"]["context"]
    assert example["outcome"]["evaluation"] == {"correctness": 1.0, "efficiency": 1.0, "minimalEdits": 1.0}
    assert example["outcome"]["metrics"]["timeToCompletion"] == 3.999
    assert example["outcome"]["metrics"]["cost"] == 0.01
    assert example["output"]["response"] == "I've fixed the import in a.py."
    assert "SUCCESS=true" in (tmp_path / "logs" / "plugin.log").read_text()


def test_what_does_not_claim_success_is_logged_raw_alone(new: History, tmp_path: Path) -> None:
    Logger(new, tmp_path / "logs").run()
    assert not (tmp_path / "logs" / f"dspy-{FIXED}.json").exists()
    raw = json.loads((tmp_path / "logs" / f"session-{FIXED}.json").read_text())
    failed = [action["args"]["command"] for action in raw["toolCalls"] if not action["success"]]
    assert failed == ["python3 -m unittest -q"]
    lines = (tmp_path / "logs" / "plugin.log").read_text().splitlines()
    (line,) = [each for each in lines if FIXED in each]
    assert "SUCCESS=false" in line


def test_the_files_load_again_with_the_same_examples(tmp_path: Path) -> None:
    sessions = [fixing(f"ses_{n}", tmp_path, at=NOW + n) for n in range(3)]
    history = opencode.open_source(layouts.database(tmp_path / "opencode.db", *sessions))
    Logger(history, tmp_path / "logs").run()
    loaded = opencode.load_training_data(tmp_path / "logs")
    direct = opencode.load_training_data(history)
    assert len(direct) == 3
    assert sorted(loaded, key=lambda e: e["output"]["finalMessage"]) == sorted(
        direct, key=lambda e: e["output"]["finalMessage"]
    )


def test_raw_files_hold_money_and_calls(new: History, tmp_path: Path) -> None:
    Logger(new, tmp_path / "logs").run()
    record = next(opencode.open_source(tmp_path / "logs" / f"session-{FIXED}.json").sessions())
    original = new.session(FIXED)
    assert record.usage.cost == pytest.approx(original.usage.cost)
    assert [call.call_id for call in record.tool_calls] == [call.call_id for call in original.tool_calls]
    assert [turn.prompt for turn in record.turns] == [turn.prompt for turn in original.turns]


def test_diagnostics_come_from_the_tools(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", fixing("ses_1", tmp_path))
    (example,) = opencode.load_training_data(opencode.open_source(path))
    (action,) = example["actions"]
    assert action["success"] is True
    assert action["lspDiagnosticsAfter"]["errors"] == [
        {"file": "a.py", "line": 4, "message": "name x is not defined", "severity": "error"}
    ]
    assert example["input"]["context"]["relevantFiles"] == [str(tmp_path / "a.py")]


def repository(folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    (folder / "a.py").write_text("x\n")
    return folder


def test_watching_writes_sessions_as_they_go_idle(tmp_path: Path) -> None:
    """The state of git is logged for the turn that was seen running, and outlasts a later run."""
    work = repository(tmp_path / "work")
    path = layouts.database(tmp_path / "opencode.db", fixing("ses_1", work, done=False))
    logger = Logger(opencode.open_source(path), tmp_path / "logs", now=lambda: NOW + 5000)
    assert list(logger.look()) == []
    assert not (tmp_path / "logs").exists()

    finish(path, fixing("ses_1", work))
    assert [record.id for record in logger.look()] == ["ses_1"]
    assert list(logger.look()) == []
    git = {"branch": "main", "uncommittedChanges": 1, "status": "?? a.py"}
    assert logged_git(tmp_path / "logs") == git

    Logger(opencode.open_source(path), tmp_path / "logs").run()
    assert logged_git(tmp_path / "logs") == git


def finish(path: Path, conversation: Conversation) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("delete from session")
        db.execute("delete from message")
        db.execute("delete from part")
        layouts.add_to_database(db, conversation)
    db.close()


def logged_git(logs: Path) -> Any:
    (example,) = json.loads((logs / "dspy-ses_1.json").read_text())["examples"]
    return example["input"]["context"]["gitStatus"]


def test_watching_stops_when_told(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", fixing("ses_1", tmp_path))
    looks = iter([False, True])
    logger = Logger(opencode.open_source(path), tmp_path / "logs")
    assert [record.id for record in logger.watch(0, stop=lambda: next(looks))] == ["ses_1"]


def test_files_of_the_plugin_are_kept(tmp_path: Path) -> None:
    path = layouts.database(tmp_path / "opencode.db", fixing("ses_1", tmp_path))
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "dspy-ses_1.json").write_text('{"session": "ses_1", "examples": []}')
    report = Logger(opencode.open_source(path), logs).run()
    assert report.kept == [logs / "dspy-ses_1.json"]
    assert json.loads((logs / "dspy-ses_1.json").read_text())["examples"] == []
    assert Logger(opencode.open_source(path), logs, overwrite=True).run().kept == []
    assert json.loads((logs / "dspy-ses_1.json").read_text())["examples"]


def test_the_command_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unpack("v1.18.33", tmp_path)
    out = tmp_path / "logs"
    assert (
        main(["opencode", "log", "--source", str(path), "--all-projects", "--output", str(out), "--redact"])
        == 0
    )
    assert "files written" in capsys.readouterr().out
    assert "/home/dev" not in "".join(file.read_text() for file in out.iterdir())


def test_the_command_log_takes_the_project_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    sessions = [fixing("ses_1", work), fixing("ses_2", other)]
    path = layouts.database(tmp_path / "opencode.db", *sessions, worktree=str(work.parent / "elsewhere"))
    monkeypatch.chdir(work)
    monkeypatch.setenv("OPENCODE_DB", str(path))
    assert main(["opencode", "log"]) == 0
    assert sorted(os.listdir(work / ".opencode-logs")) == [
        "dspy-ses_1.json",
        "plugin.log",
        "session-ses_1.json",
    ]
    assert capsys.readouterr().out == "2 files written, 1 examples\n"


def test_the_command_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unpack("v1.3.2", tmp_path)
    out = tmp_path / "chat.jsonl"
    assert main(["opencode", "export", str(out), "--format", "chat", "--source", str(path)]) == 0
    assert "values redacted" in capsys.readouterr().out
    assert all(json.loads(line)["messages"] for line in out.read_text().splitlines())


def test_errors_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opencode", "log", "--source", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"dspy-session: {tmp_path / 'nowhere'}: no such file or folder\n"


def test_the_command_does_not_import_dspy() -> None:
    program = (
        "import sys; sys.modules['dspy'] = None\n"
        "from dspy_session.cli import main\n"
        "sys.exit(main(['opencode', 'log', '--source', '/nowhere/at/all']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "dspy-session: /nowhere/at/all: no such file or folder\n")
