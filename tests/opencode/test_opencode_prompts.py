"""What we say the model saw is what the scripted model of the recordings received."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from opencode_recordings import RECORDINGS, unpack

from dspy_session.opencode import History, open_source
from dspy_session.opencode.records import SessionRecord, Step

Answers = dict[str, list[tuple[SessionRecord, Step]]]


def requests(recording: str) -> list[dict[str, Any]]:
    lines = (RECORDINGS / f"{recording}.requests.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def stored_part_of(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The request without the reminders of plan mode, which OpenCode keeps in memory alone."""
    kept = []
    for message in sent:
        content = message["content"]
        if isinstance(content, list):
            content = [part for part in content if not part.get("text", "").startswith("<system-reminder>")]
            if len(content) == 1 and content[0]["type"] == "text":
                content = content[0]["text"]
        kept.append({**message, "content": content})
    return kept


def by_prompt(history: History) -> Answers:
    found: Answers = defaultdict(list)
    for record in history.sessions():
        for step in record.steps:
            found[json.dumps(record.prompt(step), sort_keys=True)].append((record, step))
    return found


def agreeing(recording: str, history: History) -> list[tuple[dict[str, Any], list[Step]]]:
    """The requests that some step's prompt equals, with those steps."""
    prompts, found = by_prompt(history), []
    for request in requests(recording):
        steps = prompts.get(json.dumps(stored_part_of(request["messages"]), sort_keys=True), [])
        steps = [(record, step) for record, step in steps if request["session"] in (None, record.id)]
        if steps:
            found.append((request, [step for _, step in steps]))
    return found


@pytest.mark.parametrize(
    ("recording", "equal", "total"), [("v1.18.33", 85, 87), ("v1.3.2", 27, 29), ("v1.1.65", 35, 37)]
)
def test_prompts_equal_the_recorded_requests(recording: str, equal: int, total: int, tmp_path: Path) -> None:
    """The two that differ in each held a turn that was undone and deleted afterwards."""
    found = agreeing(recording, open_source(unpack(recording, tmp_path)))
    print(f"{recording}: {len(found)} of {len(requests(recording))} requests agree")
    assert (len(found), len(requests(recording))) == (equal, total)
    missed = [r for r in requests(recording) if r not in [request for request, _ in found]]
    assert {request["script"] for request in missed} <= {"revert_continued", "srv_revert"}


def said(step: Step) -> tuple[str, str, list[tuple[str, Any]]] | None:
    answer = step.completion
    if answer is None:
        return None
    calls = answer.get("tool_calls", [])
    functions = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    return answer["content"].rstrip(), answer.get("reasoning_content", ""), functions


@pytest.mark.parametrize("recording", ["v1.18.33", "v1.3.2", "v1.1.65"])
def test_completions_equal_the_scripted_replies(recording: str, tmp_path: Path) -> None:
    """Calls that OpenCode could not read are compared by the tool that was asked for."""
    compared = 0
    for request, steps in agreeing(recording, open_source(unpack(recording, tmp_path))):
        reply = request["turn"]
        if {"http", "die_after", "hang"} & set(reply):
            continue
        wanted = [(tool["name"], tool["args"]) for tool in reply.get("tools", [])]
        expected = (reply.get("text", "").rstrip(), reply.get("reasoning", ""), wanted)
        unread = [call for step in steps for call in step.tool_calls if call.tool == "invalid"]
        if unread:
            asked = [call.requested_tool for call in steps[0].tool_calls]
            assert asked == [name for name, _ in wanted]
        else:
            assert expected in [said(step) for step in steps]
        compared += 1
    assert compared >= 25


def test_the_steps_of_a_session_follow_its_requests_in_order(new: History) -> None:
    record = new.session("ses_e04b9acfbffeLmotmnHFTzqKK2")
    sent = [r for r in requests("v1.18.33") if r["session"] == record.id]
    assert [record.prompt(step) for step in record.steps] == [request["messages"] for request in sent]
    assert [step.index for step in record.steps] == list(range(5))


def test_a_failed_call_has_a_prompt_and_no_completion(new: History) -> None:
    (step,) = new.session("ses_e04b773b9ffeyiunIXoq1umcA6").steps
    assert step.completion is None
    assert step.message.error is not None
    assert step.message.error.status_code == 401


def test_an_unreadable_call_still_tells_what_the_model_asked_for(new: History) -> None:
    record = new.session("ses_e04b8d9b3ffeYoiGikBZ78Pj60")
    unread = [call for call in record.tool_calls if call.tool == "invalid"]
    assert [call.requested_tool for call in unread] == ["read", "list"]
    assert [call.requested_arguments for call in unread] == ['{"filePath": "shelf/sto', None]


def test_images_and_documents_are_sent_as_such(new: History) -> None:
    record = new.session("ses_e04b545e8ffeKZt43nJ7vtcpJz")
    (sent,) = record.prompt(record.steps[0])
    kinds = [part["type"] for part in sent["content"]]
    assert kinds.count("image_url") == 1
    assert kinds.count("file") == 1


def test_after_a_compaction_the_model_sees_the_summary_alone(new: History) -> None:
    record = new.session("ses_e04b36c90ffeXxHbUijtMKhrGS")
    last = record.prompt(record.steps[-1])
    assert [message["role"] for message in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[0]["content"] == "What did we do so far?"
    assert record.is_compacted
