"""The answers that sum a session up and tell its conversation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

import pytest
from opencode_recordings import unpack

from dspy_session.errors import UnknownPathError
from dspy_session.opencode import History, SessionRecord, open_source
from dspy_session.opencode.analytics._answered_summary import risky, status
from dspy_session.opencode.analytics.answers import Answers
from dspy_session.opencode.analytics.warehouse import Warehouse

EVERY = [
    name for name, _ in inspect.getmembers(Answers, inspect.isfunction) if name.startswith("get_session")
]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with open_source(unpack("v1.18.33", tmp_path_factory.mktemp("recording"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(history: History) -> Iterator[Answers]:
    warehouse = Warehouse()
    warehouse.sync(history)
    yield Answers(warehouse)
    warehouse.close()


def titled(history: History, title: str) -> SessionRecord:
    return next(record for record in history.sessions() if record.title == title)


@pytest.mark.parametrize("name", EVERY)
def test_every_answer_is_json_and_names_its_session(name: str, answers: Answers, history: History) -> None:
    for record in history.sessions():
        answer = getattr(answers, name)(record.id)
        assert answer["meta"]["session_id"] == record.id
        assert "error" not in answer["meta"]
        assert json.loads(json.dumps(answer)) == answer


@pytest.mark.parametrize("name", EVERY)
def test_every_answer_on_an_unknown_session(name: str, answers: Answers) -> None:
    with pytest.raises(UnknownPathError, match="ses_none"):
        getattr(answers, name)("ses_none")
    assert getattr(answers, name)("ses_none", strict=False)["meta"]["error"] == "Session not found"


def test_the_summary(answers: Answers, history: History) -> None:
    record = titled(history, "Fix total_value quantity bug")
    answer = answers.get_session_summary(record.id)
    assert set(answer) == {"meta", "summary", "details", "charts"}
    assert set(answer["meta"]) == {"session_id", "generated_at", "title", "directory"}
    told = answer["summary"]
    assert set(told) == {
        "duration_ms",
        "total_tokens",
        "total_tool_calls",
        "total_files",
        "unique_agents",
        "estimated_cost_usd",
        "status",
    }
    assert told["total_tool_calls"] == len(record.tool_calls)
    assert told["estimated_cost_usd"] == pytest.approx(record.cost, abs=1e-6)
    assert told["status"] == "completed"
    details = answer["details"]
    assert set(details) == {"tokens", "tools", "files", "agents"}
    tokens = details["tokens"]
    assert tokens["cache_read"] == record.tokens.cache_read > 0
    assert tokens["total"] == record.tokens.input + record.tokens.output
    sent = record.tokens.input + record.tokens.cache_read
    assert tokens["cache_hit_ratio"] == round(record.tokens.cache_read / sent * 100, 1)
    tools = details["tools"]
    assert tools["success_count"] == sum(call.succeeded for call in record.tool_calls)
    assert tools["success_count"] + tools["error_count"] == tools["total_calls"]
    files = details["files"]
    assert files["total_edits"] == sum(call.tool == "edit" for call in record.tool_calls)
    assert set(files["files_list"]) == {"read", "write", "edit"}
    assert set(files["files_with_stats"][0]) == {"path", "operation", "additions", "deletions"}
    assert set(answer["charts"]) == {"tokens_by_type", "tools_by_name", "files_by_type"}


def test_exchanges_are_the_turns(answers: Answers, history: History) -> None:
    for record in history.sessions():
        told = answers.get_session_exchanges(record.id)["exchanges"]
        assert [each["number"] for each in told] == list(range(1, len(record.turns) + 1))
        for each, turn in zip(told, record.turns, strict=True):
            assert each["user_message_id"] == turn.user.id
            assert (each["user_prompt"], each["assistant_response"]) == (turn.prompt, turn.response)
            assert each["tool_count"] == len(turn.tool_calls)
            assert each["cost"] == pytest.approx(turn.cost)


def test_the_timeline_is_in_the_order_of_the_parts(answers: Answers, history: History) -> None:
    kinds = {
        "reasoning": "reasoning",
        "tool": "tool_call",
        "step-finish": "step_finish",
        "patch": "patch",
        "file": "file_attachment",
    }
    for record in history.sessions():
        told = answers.get_session_full_timeline(record.id)
        parts = [kinds[part.type] for m in record.messages for part in m.parts if part.type in kinds]
        assert [each["type"] for each in told["timeline"] if each["type"] in kinds.values()] == parts
        assert told["summary"]["total_tool_calls"] == parts.count("tool_call")
        events = answers.get_session_timeline(record.id)["timeline"]
        assert [each["id"] for each in events if each["type"] == "message"] == [m.id for m in record.messages]


def test_messages_hold_every_part(answers: Answers, history: History) -> None:
    for record in history.sessions():
        told = answers.get_session_messages(record.id)["messages"]
        assert len(told) == sum(max(1, len(message.parts)) for message in record.messages)


def test_prompts(answers: Answers, history: History) -> None:
    record = titled(history, "Survey of the package")
    told = answers.get_session_prompts(record.id)
    assert told["prompt_input"] == record.turns[0].prompt
    assert told["prompt_output"] == record.turns[-1].response


def test_delegations(answers: Answers, history: History) -> None:
    for record in history.sessions():
        told = answers.get_session_delegations(record.id)
        below = {child.id for child in history.descendants(record)}
        found = []
        waiting = [told["tree"]]
        while waiting:
            node = waiting.pop()
            found.append(node["session_id"])
            waiting += node["children"]
        assert sorted(found) == sorted([record.id, *below])
        assert told["summary"]["total_delegations"] == len(below)
    survey = titled(history, "Survey of the package")
    timeline = answers.get_session_delegation_timeline(survey.id)["timeline"]
    # One of the two sub-agents was asked again.
    assert [each["agent"] for each in timeline] == ["explore", "checker", "explore"]
    assert timeline == sorted(timeline, key=lambda each: each["started_at"])


def test_skills(answers: Answers, history: History) -> None:
    for record in history.sessions():
        told = answers.get_session_skills(record.id)["skills"]
        assert sum(each["invocation_count"] for each in told) == len(record.skills)
        assert {each["name"] for each in told} == {use.name for use in record.skills}
    usage = answers.get_skill_usage_stats()["skills"]
    assert (usage["release-notes"]["total_invocations"], usage["release-notes"]["session_count"]) == (3, 3)
    assert (usage["no-such-skill"]["failure_count"], usage["no-such-skill"]["success_rate"]) == (1, 0)
    assert usage["release-notes"]["first_used"] < usage["release-notes"]["last_used"]
    assert answers.get_skill_usage_stats("second")["skills"]["release-notes"]["total_invocations"] == 1


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Abort in text", "aborted"), ("User shell", "completed")],
)
def test_status(title: str, expected: str, answers: Answers, history: History) -> None:
    told = answers.get_session_summary(titled(history, title).id)
    assert told["summary"]["status"] == expected


@pytest.mark.parametrize(
    ("signal", "detail", "expected"),
    [
        ("unfinished", "", "running"),
        ("no_reply", "", "running"),
        ("error", "", "error"),
        ("idle_outcome", "failed", "error"),
        ("idle_outcome", "interrupted", "aborted"),
        ("idle_outcome", "succeeded", "completed"),
        ("exit_code", "", "completed"),
        (None, None, "completed"),
    ],
)
def test_status_by_sign(signal: str | None, detail: str | None, expected: str) -> None:
    assert status({"signal": signal, "detail": detail}) == expected


@pytest.mark.parametrize(
    ("operation", "path", "expected"),
    [
        ("read", "/work/.env", True),
        ("read", "/work/.env.local", True),
        ("read", "/work/.env.example", False),
        ("read", "/home/me/.ssh/config", True),
        ("read", "/work/server.pem", True),
        ("read", "/etc/hosts", False),
        ("write", "/etc/hosts", True),
        ("write", "/workshop/a.py", True),
        ("edit", "/work/../etc/hosts", True),
        ("edit", "/work/src/a.py", False),
        ("edit", "src/a.py", False),
        ("edit", "C:\\work\\id_rsa", True),
    ],
)
def test_files_that_ask_for_a_second_look(operation: str, path: str, expected: bool) -> None:
    assert risky(operation, path, "/work") is expected
