"""The command line: tables, JSON, exit statuses, terminals and pipes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opencode_recordings import unpack

from dspy_session.cli import main
from dspy_session.opencode import open_source
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.commands import terminal

COMMANDS = {
    "sessions": ("session", "tree", "turn", "todo"),
    "skills": ("skill", "load", "day", "project", "unused"),
    "tools": ("tool", "edit-format", "repeated", "verification", "error", "rejection"),
    "models": ("model", "day", "retry", "limit", "compaction"),
    "cost": ("day", "overview", "opencode"),
}
EACH = [(command, by) for command, choices in COMMANDS.items() for by in choices]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("v1.18.33", tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module")
def warehouse(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warehouse") / "history.duckdb"
    assert main(["opencode", "sync", "--source", str(source), "--warehouse", str(path)]) == 0
    return path


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["opencode", *argv])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(("command", "by"), EACH)
def test_every_report_as_a_table_and_as_json(
    command: str, by: str, warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (command, "--by", by, "--warehouse", str(warehouse), "--no-sync")
    capsys.readouterr()
    status, out, err = asked(capsys, *given)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    status, told, err = asked(capsys, *given, "--json")
    answer = json.loads(told)
    assert (status, err, answer["skipped"]) == (0, "", 0)
    assert answer["count"] == len(answer["rows"])
    assert not answer["rows"] or sum(name in out for name in answer["rows"][0]) >= 2


def test_show(warehouse: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--warehouse", str(warehouse), "--no-sync")
    with open_source(source) as history:
        record = next(each for each in history.sessions() if each.title == "Fix total_value quantity bug")
        last = max(history.sessions(), key=lambda each: each.created)
    capsys.readouterr()
    status, out, _ = asked(capsys, "show", record.id, *given)
    assert status == 0
    assert record.title in out
    status, told, _ = asked(capsys, "show", record.id[:20], *given, "--json")
    answer = json.loads(told)
    assert answer["sessions"][0]["id"] == record.id
    assert len(answer["turns"]) == len(record.turns)
    assert {each["tool"] for each in answer["tools"]} == {call.tool for call in record.tool_calls}
    _, told, _ = asked(capsys, "show", "last", *given, "--json")
    assert json.loads(told)["sessions"][0]["id"] == last.id


@pytest.mark.parametrize("given", ["ses_nowhere", "ses_"])
def test_a_session_that_is_not_meant_clearly(
    given: str, warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    status, out, err = asked(capsys, "show", given, "--warehouse", str(warehouse), "--no-sync")
    assert (status, out) == (1, "")
    assert given in err


def test_limits(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("sessions", "--warehouse", str(warehouse), "--no-sync")
    capsys.readouterr()
    _, out, _ = asked(capsys, *given)
    assert "… and 8 more" in out
    _, out, _ = asked(capsys, *given, "--limit", "0")
    assert out.count("ses_") >= 28
    _, told, _ = asked(capsys, *given, "--json", "--limit", "3")
    assert (json.loads(told)["count"], len(json.loads(told)["rows"])) == (28, 3)


def test_filters(warehouse: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("cost", "--by", "overview", "--warehouse", str(warehouse), "--no-sync", "--json")
    capsys.readouterr()

    def sessions(*more: str) -> int:
        return int(json.loads(asked(capsys, *given, *more)[1])["rows"][0]["sessions"])

    assert sessions("--project", "second") == 1
    assert sessions("--model", "lab-small") == 1
    with open_source(source) as history:
        exploring = [r for r in history.sessions() if any(m.agent == "explore" for m in r.messages)]
    assert sessions("--agent", "explore") == len(exploring) > 0
    assert sessions("--until", "2020-01-01") == 0


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["skills", "--since", "yesterday"], 1),
        (["cost", "--limit", "-1"], 1),
        (["cost", "--source", "/nowhere/at/all"], 1),
        (["cost", "--no-sync", "--warehouse", "/nowhere/at/all.duckdb"], 1),
        (["cost", "--no-sync", "--source", "/nowhere/at/all"], 1),
        (["export", ""], 1),
        (["cost", "--by", "moon"], 2),
        (["nothing"], 2),
    ],
)
def test_exit_statuses(argv: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(["opencode", *argv])
    except SystemExit as exited:
        found = int(str(exited.code))
    assert found == status
    assert capsys.readouterr().err


def test_the_default_warehouse(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OPENCODE_DB", str(source))
    monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path))
    assert asked(capsys, "sessions", "--json")[0] == 0
    assert (tmp_path / "data" / "dspy-session" / "opencode.duckdb").is_file()
    monkeypatch.setenv("OPENCODE_DB", "/nowhere.db")
    status, told, _ = asked(capsys, "sessions", "--json", "--no-sync")
    assert (status, json.loads(told)["count"]) == (0, 28)


def test_sync_and_parquet(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("sync", "--source", str(source), "--warehouse", str(tmp_path / "w.duckdb"), "--json")
    _, told, _ = asked(capsys, *given, "--parquet", str(tmp_path / "tables"))
    first = json.loads(told)
    assert (first["seen"], first["read"], first["skipped"]) == (28, 28, 0)
    assert all(Path(file).is_file() for file in first["files"])
    assert first["files"]
    second = json.loads(asked(capsys, *given)[1])
    assert (second["read"], second["unchanged"]) == (0, 28)


def test_log_and_export_as_json(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--source", str(source), "--json")
    _, told, _ = asked(capsys, "log", *given, "--all-projects", "--output", str(tmp_path / "logs"))
    assert all(Path(file).is_file() for file in json.loads(told)["written"])
    _, told, _ = asked(capsys, "export", str(tmp_path / "chat.jsonl"), *given, "--format", "chat")
    assert json.loads(told)["sessions"] == len((tmp_path / "chat.jsonl").read_text().splitlines())


def test_damage_is_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "opencode.db").write_bytes(source.read_bytes())
    (folder / "broken.json").write_text('{"info": {"id": "ses_x"}, "messages": [{"info": ')
    status, told, _ = asked(capsys, "cost", "--by", "overview", "--source", str(folder), "--json")
    answer = json.loads(told)
    assert (status, answer["rows"][0]["sessions"] >= 28) == (0, True)
    assert answer["skipped"] >= 1
    _, _, err = asked(capsys, "cost", "--by", "overview", "--source", str(folder))
    assert "could not be read" in err


def test_without_rich(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "RICH", False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    capsys.readouterr()
    status, out, _ = asked(capsys, "tools", "--warehouse", str(warehouse), "--no-sync")
    assert status == 0
    assert out.startswith("Tools\n\ntool  ")


# -- as a real process --


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "160", **more}


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "dspy_session.cli", "opencode", *argv]


def on_a_terminal(argv: Sequence[str], **more: str) -> tuple[int, str]:
    """What a command prints on a terminal, with its exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**more), close_fds=True
    )
    os.close(theirs)
    told = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 120)
        try:
            piece = os.read(ours, 65536) if ready else b""
        except OSError:
            piece = b""
        if not piece:
            break
        told += piece
    os.close(ours)
    return process.wait(60), told.decode("utf-8", "replace")


@pytest.mark.skipif(not terminal.RICH, reason="rich is not installed")
def test_a_terminal_gets_a_drawn_table_and_progress(source: Path) -> None:
    status, out = on_a_terminal(command("tools", "--source", str(source)))
    assert status == 0
    assert "\x1b[1m" in out
    assert "─" in out
    assert "reading sessions" in out


@pytest.mark.skipif(not terminal.RICH, reason="rich is not installed")
def test_no_color_is_respected(warehouse: Path) -> None:
    given = command("tools", "--warehouse", str(warehouse), "--no-sync")
    status, out = on_a_terminal(given, NO_COLOR="1")
    assert status == 0
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", out) is None


def test_a_pipe_gets_plain_text_and_no_progress(source: Path) -> None:
    done = subprocess.run(
        command("tools", "--source", str(source)),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away_is_no_error(warehouse: Path) -> None:
    argv = command(
        "sessions", "--by", "turn", "--limit", "0", "--warehouse", str(warehouse), "--no-sync", "--json"
    )
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stderr.close()


def test_ctrl_c(source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Warehouse, "sync", interrupted)
    assert asked(capsys, "cost", "--source", str(source))[0] == 130


def test_serve_is_given_what_was_asked_for(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[Any, ...]] = []

    def serve(*values: Any, **more: Any) -> None:
        more["announce"]("http://127.0.0.1:1/")
        given.append((*values[1:], more["source"], more["redact"]))

    monkeypatch.setattr("dspy_session.server.serve", serve, raising=False)
    argv = ("serve", "--source", str(source), "--port", "0", "--token", "t", "--compatible", "--no-redact")
    status, out, _ = asked(capsys, *argv)
    assert (status, out) == (0, "http://127.0.0.1:1/\n")
    assert given == [("127.0.0.1", 0, "t", 2.0, True, str(source), False)]
