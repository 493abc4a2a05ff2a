"""Records: steps, turns, tools, tokens, skills, sub-agents, forks, undone turns, outcomes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dspy_session import opencode
from dspy_session.opencode import History, Message, Prices, Tokens, parsing
from dspy_session.opencode.records import SessionRecord, loaded_session
from dspy_session.opencode.steps import unquoted
from dspy_session.opencode.tokens import read_usage

FIXED = "ses_e04b9acfbffeLmotmnHFTzqKK2"
ERRORS = "ses_e04b8d9b3ffeYoiGikBZ78Pj60"
PARENT = "ses_e04b80112ffeFYffwlWmMMkkl4"
FORK, FORKED = "ses_e04b3a4f7ffe9zSZb0vPMAWB0C", "ses_e04b3f377ffervaXxAbGkSKM11"


def session(*messages: tuple[dict[str, Any], list[dict[str, Any]]], **info: Any) -> SessionRecord:
    head = {"id": "ses_1", "version": "1.18.33", "time": {"created": 1000, "updated": 9000}, **info}
    made: list[Message] = []
    for place, (message, parts) in enumerate(messages):
        message = {
            "id": f"msg_{place}",
            "time": {"created": 1000 + place, "completed": 2000 + place},
            **message,
        }
        numbered = [{**part, "id": f"prt_{place}_{n:03d}"} for n, part in enumerate(parts)]
        made.append(parsing.message(message, numbered))
    return loaded_session(head, made)


def user(text: str = "Do it", **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"role": "user"}, [{"type": "text", "text": text, **more}]


def reply(*parts: dict[str, Any], **head: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"role": "assistant", "finish": "stop", **head}, [{"type": "step-start"}, *parts]


def call(tool: str = "bash", **state: Any) -> dict[str, Any]:
    return {
        "type": "tool",
        "tool": tool,
        "callID": "c",
        "state": {"status": "completed", "input": {}, **state},
    }


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_records_are_frozen_and_keep_what_they_do_not_know(new: History) -> None:
    record = new.session(FIXED)
    part = record.messages[0].parts[0]
    with pytest.raises(AttributeError, match="frozen"):
        part.type = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        record.messages[0].parts = ()
    with pytest.raises(AttributeError):
        record.info = {}  # type: ignore[misc]
    odd = session(user(), reply({"type": "hologram", "beam": 3}, novel=[1]))
    assert isinstance(odd.messages[1].parts[1], opencode.UnknownPart)
    assert odd.messages[1].parts[1].raw["beam"] == 3
    assert odd.messages[1].raw["novel"] == [1]


def test_records_are_values(new: History) -> None:
    record = new.session(FIXED)
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    assert again.messages[1].parts == record.messages[1].parts
    assert len({record, again}) == 1
    assert repr(record) == f"SessionRecord(id='{FIXED}', title={record.title!r})"
    assert repr(record.tool_calls[1]).startswith(
        "ToolCall(tool='read', status='completed', input={'filePath'"
    )


def test_wrong_types_read_as_empty() -> None:
    head: dict[str, Any] = {"role": "assistant", "cost": "much", "tokens": [], "error": "bad", "path": 3}
    record = session(
        ({"role": "user"}, [{"type": "text", "text": {"redacted": "text"}}]),
        (
            head,
            [
                call(input=[], output=7, metadata=None, time="now"),
                {"type": "step-finish", "tokens": {"cache": 1}},
            ],
        ),
    )
    (turn,) = record.turns
    assert turn.prompt == ""
    assert turn.tool_calls[0].input == {}
    assert turn.tool_calls[0].output is None
    assert turn.usage.tokens.total == 0
    assert record.messages[1].error is None
    assert loaded_session({"id": "x", "time": {"created": 10**30}}, []).created_at.year == 9999


def test_a_turn_is_a_prompt_and_all_that_was_done_for_it(new: History) -> None:
    record = new.session(FIXED)
    (turn,) = record.turns
    assert turn.prompt.startswith("Stock.total_value returns 350")
    assert '"' not in turn.prompt[:1]
    assert len(turn.steps) == 5
    assert [c.tool for c in turn.tool_calls] == [
        "todowrite",
        "read",
        "read",
        "bash",
        "edit",
        "bash",
        "todowrite",
    ]
    assert turn.duration == pytest.approx(turn.ended / 1000 - turn.started / 1000, abs=0.002)
    assert [todo.status for todo in record.todos] == ["completed"] * 3


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ('"two words"', "two words"),
        ('"two words"\n', "two words"),
        ('"say \\"hi\\" now"', 'say "hi" now'),
        ('"a" and "b"', '"a" and "b"'),
        ("plain", "plain"),
        ('"', '"'),
    ],
)
def test_quotation_marks_of_run_are_removed(stored: str, meant: str) -> None:
    assert unquoted(stored) == meant


def test_costs_equal_those_of_the_sessions_head(new: History) -> None:
    for record in new.sessions():
        everything = sum(step.usage.cost for step in record.steps)
        assert everything == pytest.approx(record.stored_cost)
        tokens = sum((step.usage.tokens.total for step in record.steps), 0)
        stored = record.info["tokens"]
        assert tokens == stored["input"] + stored["output"] + stored["reasoning"] + sum(
            stored["cache"].values()
        )
        assert record.usage.accounting == "exact"


SEEN = Tokens(928, 266, 44, 8192, 0)


def stored_tokens(input: int, output: int, **more: int) -> dict[str, Any]:
    return {"input": input, "output": output, "reasoning": 44, "cache": {"read": 8192, "write": 0}, **more}


@pytest.mark.parametrize(
    ("version", "tokens", "cost", "accounting", "issues"),
    [
        ("0.5.29", stored_tokens(9120, 310), 0.0344676, "corrected", {"cache_charged_twice"}),
        ("1.0.0", stored_tokens(9120, 310), 0.0344676, "corrected", {"cache_charged_twice"}),
        ("1.1.65", stored_tokens(928, 310, total=9430), 0.0105516, "corrected", {"reasoning_charged_twice"}),
        ("1.18.33", stored_tokens(928, 310, total=9430), 0.0105516, "corrected", {"reasoning_charged_twice"}),
        ("1.1.65", stored_tokens(928, 310), 0.0105516, "corrected", {"reasoning_charged_twice"}),
        ("1.18.33", stored_tokens(928, 266, total=9430), 0.0098916, "exact", set()),
        ("1.14.34", stored_tokens(928, 266), 0.0098916, "exact", set()),
    ],
)
def test_the_same_usage_reads_equal_whichever_release_wrote_it(
    version: str, tokens: dict[str, Any], cost: float, accounting: str, issues: set[str]
) -> None:
    used = read_usage(tokens, cost, "step", version, "lab")
    assert (used.tokens, used.accounting, used.issues) == (SEEN, accounting, issues)
    assert used.cost == cost
    assert Prices(input=3, output=15, cache_read=0.3).cost(used.tokens) == pytest.approx(0.0098916)


def test_tokens_of_an_unknown_release_are_flagged() -> None:
    used = read_usage(stored_tokens(9120, 310), 0.1, "step", "", "lab")
    assert (used.accounting, used.issues) == ("ambiguous", {"release_unknown"})
    excluded = read_usage(stored_tokens(23, 310), 0.1, "step", "1.0.120", "anthropic")
    assert excluded.tokens.input == 23


def test_costs_fall_back_to_the_message() -> None:
    tokens = {"input": 5, "output": 5}
    record = session(user(), reply(said("x"), cost=0.5, tokens=tokens))
    assert (record.usage.cost, record.usage.source) == (0.5, "message")
    assert session(user(), reply(said("x"))).usage.source == "none"


def test_a_message_of_several_steps_is_told_apart() -> None:
    finish = {"type": "step-finish", "cost": 1, "tokens": {"input": 1}}
    parts = [{"type": "step-start"}, call(), finish, {"type": "step-start"}, said("Done"), finish]
    record = session(user(), ({"role": "assistant", "cost": 9}, parts))
    assert [step.text for step in record.steps] == ["", "Done"]
    assert record.usage.cost == 2
    assert [m["role"] for m in record.prompt(record.steps[1])] == ["user", "assistant", "tool"]


def test_a_call_that_was_tried_again_is_asked_the_same() -> None:
    record = session(user(), reply(said("Hal"), {"type": "step-start"}, said("Whole")))
    first, second = record.steps
    assert (first.retried, second.retried) == (False, True)
    assert record.prompt(first) == record.prompt(second) == [{"role": "user", "content": "Do it"}]


def test_tools_fail_by_exit_status_too(new: History) -> None:
    calls = new.session(ERRORS).tool_calls
    assert [(c.requested_tool, c.status, c.succeeded) for c in calls] == [
        ("read", "error", False),
        ("edit", "error", False),
        ("bash", "completed", False),
        ("bash", "completed", False),
        ("read", "error", False),
        ("read", "completed", False),
        ("list", "completed", False),
        ("skill", "error", False),
        ("grep", "error", False),
    ]
    assert [c.exit_code for c in calls if c.tool == "bash"] == [3, None]


def test_skills_by_tool_and_by_command(new: History) -> None:
    (by_command,) = new.session("ses_e04b82781ffeCrYWOQ1hhoVmrg").skills
    assert (by_command.name, by_command.how) == ("test-first", "command")
    used = [use for record in new.sessions() for use in record.skills if use.how == "tool"]
    loaded = [use.name for use in used if use.succeeded]
    assert loaded == ["release-notes", "test-first", "release-notes", "release-notes"]
    assert [use.name for use in used if not use.succeeded] == ["no-such-skill"]
    assert all(use.duration is not None and use.folder for use in used if use.succeeded)


def test_sub_agents_are_linked(new: History) -> None:
    parent = new.session(PARENT)
    children = new.children(parent)
    assert [child.id for child in children] == sorted(parent.child_ids, key=lambda i: new.session(i).created)
    assert all(new.parent(child) == parent for child in children)
    alone, whole = new.usage(parent, children=False), new.usage(parent)
    assert whole.cost == pytest.approx(alone.cost + sum(child.usage.cost for child in children))
    assert new.parent(parent) is None


def test_forks_are_recognised_and_not_counted_twice(new: History) -> None:
    fork, source = new.session(FORK), new.session(FORKED)
    assert fork.is_fork
    assert not source.is_fork
    assert new.fork_source(fork) == source
    assert new.fork_source(source) is None
    assert [turn.copied for turn in fork.turns] == [True, False]
    assert fork.usage.cost == pytest.approx(fork.stored_cost - source.stored_cost)
    assert [record.id for record in new.sessions() if record.is_fork] == [FORK]


def test_undone_turns_are_marked(new: History) -> None:
    undone = new.session("ses_e04b0e2d7ffeVBMomTHVyWj7zO")
    assert [turn.reverted for turn in undone.turns] == [False, True]
    assert [step.reverted for step in undone.steps] == [False, False, True, True]
    restored = new.session("ses_e04b0bfa6ffe7liYAt0Ds5bnW4")
    assert not any(turn.reverted for turn in restored.turns)
    partial = new.session("ses_e04b0b0a4ffedOuR1bO2z3ErDa")
    assert any(step.reverted for step in partial.steps)


def test_what_opencode_adds_belongs_to_the_turn_that_it_serves(new: History) -> None:
    compacted = new.session("ses_e04b36c90ffeXxHbUijtMKhrGS")
    assert [turn.kind for turn in compacted.turns] == ["prompt", "prompt"]
    assert compacted.turns[0].response != ""
    assert not any(message.is_summary for turn in compacted.turns for message in turn.replies)
    (subtask,) = new.session("ses_e04b29478ffeXoUQ9PdDyrmhI2").turns
    assert (subtask.kind, subtask.prompt) == ("subtask", "List the public functions of the package. briefly")
    assert [turn.kind for turn in new.session("ses_e04b0445fffe8Tjaw0RU1uHNNL").turns] == ["shell", "prompt"]


def test_the_replay_of_a_prompt_that_was_too_long_is_one_turn() -> None:
    record = session(
        user("Long"),
        ({"role": "assistant", "parentID": "msg_0"}, []),
        ({"role": "user"}, [{"type": "compaction", "auto": True, "overflow": True}]),
        reply(said("Summary"), summary=True, parentID="msg_2"),
        user("Long"),
        reply(said("Answer"), parentID="msg_4"),
        user("Next"),
        reply(said("More"), parentID="msg_6"),
    )
    assert [(turn.prompt, turn.response) for turn in record.turns] == [("Long", "Answer"), ("Next", "More")]
    chat = opencode.to_chat(record)["messages"]
    assert [message["content"] for message in chat] == ["Long", "Answer", "Next", "More"]


def test_pruned_outputs_are_seen_until_they_are_pruned() -> None:
    pruned = call(output="big", time={"start": 1001, "end": 1001, "compacted": 1004})
    record = session(user(), reply(pruned), reply(said("a")), user("more"), reply(said("b")))
    seen = [[m["content"] for m in record.prompt(step) if m["role"] == "tool"] for step in record.steps]
    assert seen == [[], ["big"], ["[Old tool result content cleared]"]]


def test_files_that_a_tool_gave_back_are_sent_after_it() -> None:
    picture = {"type": "file", "mime": "image/png", "url": "data:image/png;base64,AAAA"}
    record = session(user(), reply(call(output="ok", attachments=[picture])), reply(said("a")))
    extra = record.prompt(record.steps[1])[-1]
    assert extra["content"][0] == {"type": "text", "text": "Attached media from tool result:"}
    assert extra["content"][1]["image_url"]["url"] == picture["url"]
    assert record.tool_calls[0].attachments[0].size == 3


def outcome_of(*messages: tuple[dict[str, Any], list[dict[str, Any]]], **info: Any) -> tuple[bool, str]:
    came = opencode.outcome(session(*messages, **info).turns[0])
    return came.success, came.signal


def test_outcomes_name_their_sign() -> None:
    good, bad = call(metadata={"exit": 0}), call(metadata={"exit": 1})
    aborted = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
    refused = call(status="error", error="The user rejected permission to use this specific tool call.")
    assert outcome_of(user(), reply(good, said("Done"))) == (True, "finished")
    assert outcome_of(user(), reply(bad, good, said("Done"))) == (True, "finished")
    assert outcome_of(user(), reply(good, bad, said("Done"))) == (False, "exit_code")
    assert outcome_of(user(), reply(call(metadata={"exit": None}))) == (False, "exit_code")
    assert outcome_of(user(), reply(call("edit", status="error", error="no"))) == (False, "tool_status")
    assert outcome_of(user(), reply(refused, good)) == (False, "permission_rejected")
    assert outcome_of(user(), reply(said("x"), error=aborted)) == (False, "aborted")
    assert outcome_of(user(), reply(said("x"), error={"name": "APIError", "data": {}})) == (False, "error")
    assert outcome_of(user(), reply(said("x"), finish="length")) == (False, "finish")
    assert outcome_of(user(), reply(said("x"), time={"created": 1})) == (False, "unfinished")
    assert outcome_of(user()) == (False, "no_reply")
    assert outcome_of(user(), reply(bad), revert={"messageID": "msg_0"}) == (False, "reverted")
    assert outcome_of(user(), reply(bad, idle={"outcome": "succeeded"})) == (True, "idle_outcome")


@pytest.mark.parametrize(
    ("prompt", "text", "calls", "kind", "correctness", "efficiency"),
    [
        ("Fix the total", "I've fixed it", 4, "fix", 1.0, 0.75),
        ("Remove it", "All done", 1, "delete", 1.0, 1.0),
        ("Add a thing", "Here you are", 8, "add", 0.3, 0.5),
        ("Improve it", "Finished", 60, "refactor", 1.0, 0.1),
        ("test it", "Successfully", 3, "test", 1.0, 1.0),
        ("Hello", "The fix has been", 0, "general", 0.7, 0.1),
    ],
)
def test_the_plugins_formulas(
    prompt: str, text: str, calls: int, kind: str, correctness: float, efficiency: float
) -> None:
    edit = call("edit", input={"filePath": "/a.py"})
    (turn,) = session(user(prompt), reply(*[edit] * calls, said(text))).turns
    judged = opencode.evaluate(turn)
    assert (judged.task_type, judged.correctness, judged.efficiency) == (kind, correctness, efficiency)
    assert judged.files_modified == min(calls, 1)
    assert opencode.quality(correctness=1.0, efficiency=0.7)(turn) is (
        correctness == 1.0 and efficiency > 0.7
    )


def test_sessions_are_chosen_by_project_and_time(new: History) -> None:
    everything = list(new.sessions())
    assert [r.created for r in everything] == sorted(r.created for r in everything)
    here = list(new.sessions(project="/home/dev/shelf"))
    assert {r.project_id for r in here} == {new.session(FIXED).project_id}
    assert 0 < len(here) < len(everything)
    assert list(new.sessions(project=here[0].project_id)) == here
    assert list(new.sessions(project="/nowhere")) == []
    middle = everything[10]
    assert len(list(new.sessions(since=middle.updated / 1000))) < len(everything)
    assert [r.id for r in new.sessions(until=middle.created / 1000)] == [r.id for r in everything[:10]]
    assert list(new.sessions(since="2030-01-01")) == []
    assert len(list(new.sessions(since="2026-10-01"))) == len(everything)


@pytest.mark.parametrize(
    ("version", "thinking", "stopped"),
    [
        ("1.18.33", {"content": "Hm.First."}, []),
        ("1.14.34", {"content": "Hm.First."}, []),
        ("1.3.2", {"content": "First.", "reasoning_content": "Hm."}, [{"role": "assistant", "content": ""}]),
        ("1.0.0", {"content": "First."}, [{"role": "assistant", "content": ""}]),
    ],
)
def test_each_release_asks_in_its_own_manner(
    version: str, thinking: dict[str, str], stopped: list[dict[str, str]]
) -> None:
    """What another model thought, and a reply that was stopped before its first word."""
    aborted = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
    record = session(
        user("a"),
        reply({"type": "reasoning", "text": "Hm."}, said("First."), modelID="one"),
        user("b"),
        reply(said(""), error=aborted, finish=None),
        user("c"),
        reply(said("Last."), modelID="two"),
        version=version,
    )
    sent = record.prompt(record.steps[-1])
    asked = [{"role": "user", "content": text} for text in "abc"]
    assert sent == [asked[0], {"role": "assistant", **thinking}, asked[1], *stopped, asked[2]]
