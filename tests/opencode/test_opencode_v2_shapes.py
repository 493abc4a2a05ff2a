"""Every kind of message of OpenCode 2, as an export has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import opencode_layouts as layouts

from dspy_session.opencode import (
    AgentPart,
    FilePart,
    PatchPart,
    RetryPart,
    SessionRecord,
    StepFinish,
    StepStart,
    TextPart,
    ToolCall,
    open_source,
)

INFO = {
    "id": "ses_1",
    "title": "T",
    "version": "2.0.0",
    "directory": "/work",
    "time": {"created": 1, "updated": 2},
}
TIME = {"created": 1_000, "ran": 2_000, "completed": 5_000}
USER = {"id": "m1", "type": "user", "text": "Fix it.", "time": {"created": 1}}


def read(folder: Path, *entries: dict[str, Any]) -> SessionRecord:
    path = layouts.v2_export(folder / "session.json", INFO, list(entries))
    [record] = open_source(path)
    return record


def reply(**more: Any) -> dict[str, Any]:
    return {"id": "m2", "type": "assistant", "time": {"created": 2}, "content": [], **more}


def tool(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = [{"type": "tool", "id": "call_1", "name": "read", "state": state, "time": TIME, **more}]
    return reply(content=content, finish="stop")


def call_of(folder: Path, state: dict[str, Any], **more: Any) -> ToolCall:
    [call] = read(folder, USER, tool(state, **more)).tool_calls
    return call


def test_what_a_user_attached_and_mentioned(tmp_path: Path) -> None:
    entry = {
        **USER,
        "files": [
            {"mime": "text/plain", "name": "a.txt", "data": "aGk=", "source": {"uri": "file:///a.txt"}},
            {"mime": "image/png", "name": "b.png", "uri": "file:///b.png"},
            {"mime": "text/plain", "name": "c.txt", "source": {"uri": "file:///c.txt"}},
            "not a file",
        ],
        "agents": [{"name": "build"}, 3],
        "skills": [{"skill": "s1", "name": "sql", "text": "Use indexes."}, None],
        "metadata": {"from": "web"},
    }
    [message] = read(tmp_path, entry).messages
    assert [part.url for part in message.of(FilePart)] == [
        "data:text/plain;base64,aGk=",
        "file:///b.png",
        "file:///c.txt",
    ]
    assert [part.size for part in message.of(FilePart)] == [2, None, None]
    assert [part.name for part in message.of(AgentPart)] == ["build"]
    assert [(part.text, part.synthetic) for part in message.of(TextPart)] == [
        ("Fix it.", False),
        ("Use indexes.", True),
    ]
    assert message.raw["metadata"] == {"from": "web"}
    assert read(tmp_path, entry).directory == "/work"


def test_a_reply_with_all_that_it_can_have(tmp_path: Path) -> None:
    entry = reply(
        model={"id": "large", "providerID": "acme", "variant": "high"},
        agent="build",
        finish="stop",
        cost=0.5,
        tokens={"input": 10, "output": 5},
        snapshot={"start": "t1", "end": "t2", "files": ["/work/a.py"]},
        retry={"attempt": 2, "at": 1_500, "error": {"type": "rate_limit", "message": "slow", "status": 429}},
        content=[
            {"type": "text", "text": "Done.", "time": {"created": 1_000, "completed": 2_000}},
            "no part",
        ],
    )
    message = read(tmp_path, USER, entry, {"type": "idle", "id": "x", "time": {}}).messages[1]
    assert (message.provider, message.model, message.variant, message.agent) == (
        "acme",
        "acme/large",
        "high",
        "build",
    )
    assert message.parent_id == "m1"
    assert message.raw["idle"]["id"] == "x"
    [start], [end], [patch] = message.of(StepStart), message.of(StepFinish), message.of(PatchPart)
    assert (start.snapshot, end.snapshot, end.cost, end.reason) == ("t1", "t2", 0.5, "stop")
    assert (patch.hash, patch.files) == ("t1", ("/work/a.py",))
    [retried] = message.of(RetryPart)
    assert (retried.attempt, retried.created) == (2, 1_500)
    assert retried.error is not None
    assert (retried.error.name, retried.error.status_code) == ("rate_limit", 429)
    [text] = message.of(TextPart)
    assert (text.text, text.started, text.ended) == ("Done.", 1_000, 2_000)


def test_an_aborted_reply(tmp_path: Path) -> None:
    error = read(tmp_path, USER, reply(error={"type": "aborted", "message": "no"})).messages[1].error
    assert error is not None
    assert (error.name, error.message, error.aborted) == ("MessageAbortedError", "no", True)


def test_a_tool_that_gave_text_and_a_file(tmp_path: Path) -> None:
    content = [{"type": "text", "text": "a"}, {"type": "file", "mime": "image/png", "data": "AA=="}, 4]
    content.append({"type": "text", "text": "b"})
    state = {"status": "completed", "input": {"filePath": "/a"}, "content": content, "metadata": {"exit": 0}}
    call = call_of(tmp_path, state, executed=True)
    assert (call.status, call.output, call.input, call.succeeded) == (
        "completed",
        "a\nb",
        {"filePath": "/a"},
        True,
    )
    assert [file.url for file in call.attachments] == ["data:image/png;base64,AA=="]
    assert (call.started, call.ended, call.duration) == (2_000, 5_000, 3.0)
    assert call.raw["metadata"] == {"providerExecuted": True}


def test_a_tool_that_failed(tmp_path: Path) -> None:
    call = call_of(tmp_path, {"status": "error", "input": {}, "error": {"message": "gone"}})
    assert (call.status, call.error, call.succeeded) == ("error", "gone", False)


def test_a_tool_whose_arguments_are_still_coming(tmp_path: Path) -> None:
    call = call_of(tmp_path, {"status": "streaming", "input": '{"file'})
    assert (call.status, call.input, call.raw["state"]["raw"]) == ("pending", {}, '{"file')


def test_a_compaction(tmp_path: Path) -> None:
    begun = {"id": "c1", "type": "compaction", "reason": "auto", "time": {"created": 3}}
    [asked] = read(tmp_path, begun).messages
    assert (asked.role, [part.type for part in asked.parts]) == ("user", ["compaction"])
    done = {**begun, "status": "completed", "summary": "So far.", "recent": ["x"], "cost": 0.1}
    asked, summed = read(tmp_path, {**done, "model": {"id": "m", "providerID": "p"}}).messages
    assert (summed.is_summary, summed.said, summed.parent_id) == (True, "So far.", "c1")
    assert (summed.model, summed.provider, summed.raw["recent"]) == ("p/m", "p", ["x"])


def test_a_shell_command(tmp_path: Path) -> None:
    entry = {"id": "s1", "type": "shell", "shellID": "sh", "command": "ls", "time": {"created": 3}}
    told, ran = read(tmp_path, {**entry, "status": "done", "exit": 1, "output": {"output": "a.py"}}).messages
    assert told.role == "user"
    [call] = ran.of(ToolCall)
    assert (call.tool, call.input, call.output, call.exit_code) == ("bash", {"command": "ls"}, "a.py", 1)
    _, running = read(tmp_path, {**entry, "status": "running"}).messages
    [call] = running.of(ToolCall)
    assert (call.status, call.output) == ("running", None)


def test_skills_texts_of_the_program_and_kinds_yet_unknown(tmp_path: Path) -> None:
    record = read(
        tmp_path,
        {"id": "k1", "type": "skill", "skill": "sql", "name": "sql", "text": "Use indexes.", "time": {}},
        {"id": "k2", "type": "synthetic", "text": "Go on.", "time": {}},
        {"id": "k3", "type": "model-switched", "model": {"id": "m"}, "time": {}},
    )
    assert [message.role for message in record.messages] == ["user", "user", "event"]
    assert [part.synthetic for message in record.messages[:2] for part in message.of(TextPart)] == [
        True,
        True,
    ]
    [part] = record.messages[2].parts
    assert (part.type, part.raw["model"]) == ("model-switched", {"id": "m"})


def test_an_idle_mark_without_a_reply_is_nobodys(tmp_path: Path) -> None:
    assert [m.id for m in read(tmp_path, {"type": "idle", "id": "x"}, USER).messages] == ["m1"]
