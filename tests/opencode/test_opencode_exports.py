"""Other formats: what they hold, that they are valid, and that nothing leaves that must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opencode_layouts import Conversation
from opencode_strategies import conversations

from dspy_session import opencode
from dspy_session.errors import ConfigurationError, FormatError, UnsupportedVersionError
from dspy_session.opencode import History, Redactor, parsing
from dspy_session.opencode.records import loaded_session

PARENT = "ses_e04b80112ffeFYffwlWmMMkkl4"


def expected(conversation: Conversation) -> opencode.SessionRecord:
    messages = [parsing.message(head, parts) for head, parts in conversation.messages]
    return loaded_session(conversation.info, messages)


def test_atif_holds_the_calls_of_the_model(new: History) -> None:
    record = new.session("ses_e04b9acfbffeLmotmnHFTzqKK2")
    made = opencode.to_atif(record, new)
    assert [step["step_id"] for step in made["steps"]] == list(range(1, 7))
    first = made["steps"][1]
    assert first["source"] == "agent"
    assert first["reasoning_content"].startswith("The user says the total is wrong.")
    assert first["metrics"]["prompt_tokens"] == 9120
    assert first["metrics"]["completion_tokens"] == 310
    assert first["metrics"]["cached_tokens"] == 8192
    assert [call["function_name"] for call in first["tool_calls"]] == ["todowrite", "read", "read"]
    assert made["final_metrics"]["total_cost_usd"] == pytest.approx(record.stored_cost)


def test_atif_embeds_sub_agents(new: History) -> None:
    made = opencode.to_atif(new.session(PARENT), new)
    embedded = {each["trajectory_id"] for each in made["subagent_trajectories"]}
    results = [r for s in made["steps"] for r in s.get("observation", {}).get("results", ())]
    named = {ref["trajectory_id"] for r in results for ref in r.get("subagent_trajectory_ref", ())}
    assert embedded == named
    assert len(embedded) == 2


@pytest.mark.parametrize("history", ["new", "middle", "tree"])
def test_atif_is_valid_by_harbors_own_model(history: str, request: pytest.FixtureRequest) -> None:
    trajectories = pytest.importorskip("harbor.models.trajectories", reason="harbor is not installed")
    source: History = request.getfixturevalue(history)
    checked = 0
    for record in source.sessions():
        if record.messages:
            trajectories.Trajectory.model_validate(opencode.to_atif(record, source))
            checked += 1
    assert checked >= 9


@pytest.mark.parametrize("history", ["new", "middle", "tree"])
def test_atif_reads_back(history: str, request: pytest.FixtureRequest) -> None:
    source: History = request.getfixturevalue(history)
    for record in source.sessions():
        if record.messages and not record.is_fork:
            made = opencode.to_atif(record)
            again = opencode.to_atif(opencode.from_atif(json.loads(json.dumps(made))))
            assert again["steps"] == made["steps"]


@settings(deadline=None, max_examples=50)
@given(conversations(plain=True))
def test_any_conversation_survives_atif(conversation: Conversation) -> None:
    record = expected(conversation)
    if not record.messages:
        with pytest.raises(FormatError, match="no messages"):
            opencode.to_atif(record)
        return
    back = opencode.from_atif(opencode.to_atif(record))
    assert [turn.prompt for turn in back.turns] == [turn.prompt for turn in record.turns]
    assert [step.text for step in back.steps] == [step.text for step in record.steps]
    assert [step.reasoning for step in back.steps] == [step.reasoning for step in record.steps]
    assert [(c.tool, c.input, c.status, c.output) for c in back.tool_calls] == [
        (c.tool, c.input, c.status, c.output) for c in record.tool_calls
    ]


def test_foreign_trajectories_are_refused() -> None:
    with pytest.raises(FormatError, match="no ATIF trajectory"):
        opencode.from_atif({"messages": []})
    with pytest.raises(UnsupportedVersionError, match=r"ATIF-v9\.0"):
        opencode.from_atif({"schema_version": "ATIF-v9.0", "steps": []})


def check_chat(line: dict[str, Any]) -> None:
    """The rules of OpenAI's fine-tuning format."""
    messages = line["messages"]
    assert messages[0]["role"] in ("system", "user")
    waiting: list[str] = []
    for message in messages:
        assert set(message) <= {"role", "content", "tool_calls", "tool_call_id", "weight"}
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        waiting = [call["id"] for call in message.get("tool_calls", ())]
        for call in message.get("tool_calls", ()):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
    known = {tool["function"]["name"] for tool in line.get("tools", ())}
    assert known == {c["function"]["name"] for m in messages for c in m.get("tool_calls", ())}


def test_chat_lines_follow_the_format(new: History) -> None:
    for record in new.sessions():
        line = opencode.to_chat(record)
        if line["messages"]:
            check_chat(line)


def test_a_compacted_conversation_is_whole_and_without_its_summary(new: History) -> None:
    record = new.session("ses_e04b36c90ffeXxHbUijtMKhrGS")
    assert record.is_compacted
    said = [message["content"] for message in opencode.to_chat(record)["messages"]]
    assert "What did we do so far?" not in said
    assert not any(str(text).startswith("Continue if you have next steps") for text in said)
    assert said[0] == '"Do a very long refactoring"'
    (summary,) = [message.said for message in record.messages if message.is_summary]
    assert summary not in said


def test_what_opencode_ran_for_the_user_is_no_training_target(new: History) -> None:
    messages = opencode.to_chat(new.session("ses_e04b0445fffe8Tjaw0RU1uHNNL"))["messages"]
    assert [m.get("weight") for m in messages if m["role"] == "assistant"] == [0, None]


@settings(deadline=None, max_examples=60)
@given(conversations(plain=True))
def test_sharegpt_alternates(conversation: Conversation) -> None:
    made = opencode.to_sharegpt(expected(conversation))
    for place, entry in enumerate(made["conversations"]):
        wanted = ("gpt", "function_call") if place % 2 else ("human", "observation")
        assert entry["from"] in wanted
        assert set(entry) == {"from", "value"}
    assert len(made["conversations"]) % 2 == 0
    assert isinstance(json.loads(made["tools"]), list)


SECRETS = {
    "api_key": "sk-ant-REDACTME0123456789abcdef",
    "github_token": "ghp_" + "a1B2" * 9,
    "aws_key": "AKIAABCDEFGHIJKLMNOP",
    "bearer": "Authorization: Bearer abcdef0123456789.xyz",
    "url_credentials": "postgres://admin:hunter2pass@db.internal/x",
    "assigned": "DB_PASSWORD=correct-horse-battery",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    "url_parameter": "https://lab.test/x?access_token=abc123def",
}
HIDDEN = [
    "REDACTME",
    "a1B2a1B2",
    "AKIAABCD",
    "abcdef0123456789",
    "hunter2",
    "correct-horse",
    "MIIE",
    "abc123def",
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_secrets_are_replaced_and_counted(kind: str, secret: str) -> None:
    redactor = Redactor()
    told = f"before {secret} after"
    clean = redactor({"state": {"error": told}, "arguments": json.dumps({"command": told})}, "ses_1")
    assert not any(hidden in json.dumps(clean) for hidden in HIDDEN)
    assert "before " in clean["state"]["error"]
    assert json.loads(clean["arguments"])["command"].startswith("before ")
    assert redactor.report.counts[kind] == 2
    assert redactor.report.places["ses_1", kind] == 2


def test_home_folders_and_chosen_fields_are_replaced() -> None:
    redactor = Redactor(fields=["title"], patterns={"ticket": r"\bLAB-\d+\b"})
    value = {
        "title": "Secret project",
        "path": "/home/ann/work/a.py",
        "windows": "C:\\Users\\Ann\\work",
        "mac": "see /Users/ann: it",
        "error": {"data": {"responseHeaders": {"set-cookie": "x"}, "message": "LAB-12 failed"}},
        "count": 3,
    }
    clean = redactor(value)
    assert clean == {
        "title": "[redacted:field]",
        "path": "/home/user/work/a.py",
        "windows": "C:\\Users\\user\\work",
        "mac": "see /Users/user: it",
        "error": {"data": {"responseHeaders": "[redacted:field]", "message": "[redacted:ticket] failed"}},
        "count": 3,
    }
    assert redactor.report.counts == {"field": 2, "home": 3, "ticket": 1}
    assert str(redactor.report) == "6 values redacted (field: 2, home: 3, ticket: 1)"


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_redaction_is_stable_and_keeps_structure(value: Any) -> None:
    redactor = Redactor()
    once = redactor(value)
    assert redactor(once) == once


def test_plain_words_are_left_alone() -> None:
    redactor = Redactor()
    for told in (
        "the token count was 12",
        "def secret_sauce():",
        "password: no",
        "a path /usr/home/x",
        "tokens=5",
    ):
        assert redactor(told) == told


def test_exports_are_redacted_unless_told_otherwise(new: History, tmp_path: Path) -> None:
    report = opencode.export(new, tmp_path / "clean.jsonl", "chat")
    assert "/home/dev" not in (tmp_path / "clean.jsonl").read_text()
    assert report.redaction.counts["home"] > 50
    opencode.export(new, tmp_path / "plain.jsonl", "chat", redact=False)
    assert "/home/dev" in (tmp_path / "plain.jsonl").read_text()
    assert report.sessions == len((tmp_path / "plain.jsonl").read_text().splitlines())


def test_files_of_each_format(new: History, tmp_path: Path) -> None:
    report = opencode.export(new, tmp_path / "atif", "atif")
    assert report.sessions == len(list((tmp_path / "atif").glob("*.json"))) > 20
    assert json.loads((tmp_path / "atif" / f"{PARENT}.json").read_text())["subagent_trajectories"]
    opencode.export(new, tmp_path / "share.json", "sharegpt", where=opencode.succeeded)
    assert all(each["conversations"] for each in json.loads((tmp_path / "share.json").read_text()))
    opencode.export(new, tmp_path / "share.jsonl", "sharegpt")
    assert json.loads((tmp_path / "share.jsonl").read_text().splitlines()[0])["conversations"]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ConfigurationError, match="format must be one of"):
        opencode.export(new, tmp_path / "x", "xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="the path is empty"):
        opencode.export(new, "")


def test_parquet_has_a_row_for_each_turn(new: History, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    opencode.export(new, tmp_path / "turns.parquet", "parquet")
    rows = parquet.read_table(tmp_path / "turns.parquet").to_pylist()
    assert sum(row["cost"] for row in rows) > 1
    turn = next(row for row in rows if row["session_id"] == "ses_e04b9acfbffeLmotmnHFTzqKK2")
    assert turn["tools"][:2] == ["todowrite", "read"]
    assert turn["signal"] == "finished"
    assert turn["started"].year == 2026


def test_an_export_of_an_empty_history(tmp_path: Path) -> None:
    layouts.database(tmp_path / "opencode.db")
    report = opencode.export(opencode.open_source(tmp_path / "opencode.db"), tmp_path / "out.jsonl", "chat")
    assert str(report) == "0 sessions in 1 files; nothing was redacted"


@pytest.mark.parametrize(
    "piece", ["a-", "token=", "eyJaaaaaaaa-", "http://a", "/home/", "bearer ", "sk-", "x"]
)
def test_long_texts_do_not_stop_the_redaction(piece: str) -> None:
    """A pattern that goes back over the text for each of its characters would take hours here."""
    assert Redactor()(piece * (400_000 // len(piece)))
