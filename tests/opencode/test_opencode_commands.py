"""`dspy-session opencode …` at its edges, and files and times that are not what they should be."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
import pytest

from dspy_session import cli, opencode
from dspy_session.errors import ConfigurationError, SourceFormatError
from dspy_session.opencode.logger import Logger
from dspy_session.opencode.times import milliseconds, moment, parse_stamp, stamp

INFO = {
    "id": "ses_1",
    "title": "T",
    "version": "1.1.0",
    "directory": "/w",
    "time": {"created": 1, "updated": 2},
}
SAID = {
    "info": {"id": "m1", "role": "user", "time": {"created": 1}},
    "parts": [{"id": "p1", "type": "text", "text": "Hi"}],
}


def exported(folder: Path, stored: Any) -> Path:
    path = folder / "session.json"
    path.write_text(stored if isinstance(stored, str) else json.dumps(stored), encoding="utf-8")
    return path


def test_an_error_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["opencode", "log", "--source", str(tmp_path / "nowhere")]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("dspy-session: ")
    assert "nowhere" in told.err


@pytest.mark.parametrize(
    "command", [["export"], ["export", "--format", "chat"], ["log", "--all-projects", "--output"]]
)
def test_a_place_that_cannot_be_written_is_told_in_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(tmp_path, {"info": INFO, "messages": [SAID]})
    taken = tmp_path / "taken"
    taken.write_text("a file")
    place = taken / "below" if "chat" in command else taken
    assert cli.main(["opencode", *command, str(place), "--source", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("dspy-session: ")
    assert str(taken) in told.splitlines()[0]
    assert taken.read_text() == "a file"


def test_a_reader_who_stops_reading_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("dspy_session.opencode.commands.print", gone, raising=False)
    path = exported(tmp_path, {"info": INFO, "messages": [SAID]})
    assert cli.main(["opencode", "export", str(tmp_path / "out"), "--source", str(path)]) == 0


def test_damaged_pieces_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(tmp_path, {"info": INFO, "messages": [SAID, {"neither": 1}]})
    assert cli.main(["opencode", "export", str(tmp_path / "out"), "--source", str(path)]) == 0
    assert "1 damaged pieces skipped" in capsys.readouterr().err


def test_watching_goes_on_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watched(logger: Logger, interval: float) -> Any:
        assert interval == 0.5
        yield from logger.look()
        raise KeyboardInterrupt

    monkeypatch.setattr(Logger, "watch", watched)
    path = layouts.database(
        tmp_path / "opencode.db", layouts.Conversation({**INFO, "slug": "s", "projectID": "p"})
    )
    arguments = ["--all-projects", "--interval", "0.5", "--output", str(tmp_path / "logs")]
    assert cli.main(["opencode", "log", "--watch", "--source", str(path), *arguments]) == 0
    assert str(capsys.readouterr().out).strip()


@pytest.mark.parametrize("interval", ["-1", "nan", "inf", "1e300"])
def test_an_interval_that_is_none_is_told(
    interval: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(tmp_path, {"info": INFO, "messages": [SAID]})
    arguments = [
        "--watch",
        f"--interval={interval}",
        "--source",
        str(path),
        "--output",
        str(tmp_path / "logs"),
    ]
    assert cli.main(["opencode", "log", *arguments]) == 1
    assert "the interval must be" in capsys.readouterr().err


skipping = pytest.mark.filterwarnings("ignore::dspy_session.opencode.SkippedRecordWarning")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"info": {"title": "no id"}, "messages": []}', "no id"),
        ('{"info": 3, "messages": []}', "`info` or `messages` is missing"),
        ('{"info": {"id": "ses_1"}, "messages": 3}', "`info` or `messages` is missing"),
        ('{"info": {"id": "ses_1", ', "cut off inside the session's head"),
        ('{"info": [], "messages": [', "`info` is no object"),
    ],
)
def test_exports_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SourceFormatError, match=said):
        list(opencode.open_source(exported(tmp_path, text)))


@skipping
def test_a_message_that_is_none_is_skipped(tmp_path: Path) -> None:
    with opencode.open_source(
        exported(tmp_path, {"info": INFO, "messages": [7, SAID, {"neither": 1}]})
    ) as history:
        [record] = history
        assert [message.id for message in record.messages] == ["m1"]
        assert [(skip.row, skip.reason) for skip in history.skipped] == [
            ("message 0", "a message is not a JSON object"),
            ("message 2", "a message has neither `info` nor `type`"),
        ]


def test_an_export_that_goes_away_while_it_is_read(tmp_path: Path) -> None:
    path = exported(tmp_path, {"info": INFO, "messages": [SAID]})
    [record] = opencode.open_source(path)
    path.unlink()
    with pytest.raises(SourceFormatError, match="cannot be read"):
        record.messages  # noqa: B018


@skipping
def test_rows_that_cannot_be_read_are_skipped_and_named(tmp_path: Path) -> None:
    conversation = layouts.Conversation(
        {**INFO, "slug": "s", "projectID": "p"}, [(SAID["info"], SAID["parts"])]
    )
    path = layouts.database(tmp_path / "opencode.db", conversation)
    db = sqlite3.connect(path)
    with db:
        db.execute("insert into message values ('m2', 'ses_1', 3, 3, '{cut')")
        db.execute("insert into part values ('p2', 'm1', 'ses_1', 3, 3, '[]')")
    db.close()
    with opencode.open_source(path) as history:
        [record] = history
        assert [message.id for message in record.messages] == ["m1"]
        assert sorted(skip.row or "" for skip in history.skipped) == ["message m2", "part p2"]


def test_texts_that_are_no_utf_8_are_read_all_the_same(tmp_path: Path) -> None:
    conversation = layouts.Conversation(
        {**INFO, "slug": "s", "projectID": "p"}, [(SAID["info"], SAID["parts"])]
    )
    path = layouts.database(tmp_path / "opencode.db", conversation)
    db = sqlite3.connect(path)
    with db:
        text = json.dumps({"type": "text", "text": "caf?"}).encode().replace(b"?", b"\xe9")
        db.execute("insert into part values ('p2', 'm1', 'ses_1', 3, 3, cast(? as text))", (text,))
    db.close()
    with opencode.open_source(path) as history:
        [record] = history
        assert record.messages[0].typed.splitlines()[-1].startswith("caf")


def test_times_outside_the_calendar_are_held_in_it() -> None:
    assert moment(10**18) == datetime.max.replace(tzinfo=timezone.utc)
    assert moment(-(10**18)) == datetime.min.replace(tzinfo=timezone.utc)
    assert stamp(1_764_336_360_715) == "2025-11-28T13:26:00.715Z"
    assert parse_stamp("2025-11-28T13:26:00.715Z") == 1_764_336_360_715
    assert parse_stamp("2025-11-28T13:26:00.715") == 1_764_336_360_715
    assert parse_stamp("yesterday") == parse_stamp(None) == 0


def test_times_that_users_give() -> None:
    zone = timezone(timedelta(hours=2))
    assert milliseconds(1.5) == 1_500
    assert milliseconds("2026-10-01T12:00:00Z") == milliseconds(datetime(2026, 10, 1, 14, tzinfo=zone))
    midnight = datetime(2026, 10, 1).astimezone()
    assert milliseconds("2026-10-01") == milliseconds(midnight.date()) == milliseconds(midnight)
    with pytest.raises(ConfigurationError, match="is no date"):
        milliseconds("soon")
    for number in (float("nan"), float("inf"), 1e300, 1_760_000_000_000):
        with pytest.raises(ConfigurationError, match="is no time"):
            milliseconds(number)


@pytest.mark.parametrize("given", ["0001-01-01", "9999-12-31T23:59", "0001-01-01T00:00+14:00"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_ends_of_the_calendar_are_times(given: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        off = milliseconds(given) - milliseconds(datetime.fromisoformat(given).replace(tzinfo=timezone.utc))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert abs(off) <= 14 * 3_600_000
