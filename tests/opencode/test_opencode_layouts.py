"""Any conversation, written in each layout, reads back equal, up to what that layout can hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import opencode_layouts as layouts
from hypothesis import given, settings
from hypothesis import strategies as st
from opencode_layouts import Conversation
from opencode_strategies import conversations

from dspy_session.opencode import open_source, parsing
from dspy_session.opencode.plugin_format import session_log
from dspy_session.opencode.records import SessionRecord, loaded_session

slow = settings(deadline=None, max_examples=25)


@contextmanager
def folder() -> Iterator[Path]:
    """Hypothesis runs one test many times: each needs a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def expected(conversation: Conversation) -> SessionRecord:
    messages = [parsing.message(head, parts) for head, parts in conversation.messages]
    todos = parsing.todos(conversation.todos)
    return loaded_session(conversation.info, messages, todos)


def the_one(path: Path) -> SessionRecord:
    with open_source(path) as history:
        (record,) = history.sessions()
        assert record.content is not None
        assert history.skipped == ()
    return record


@slow
@given(conversations())
def test_database(conversation: Conversation) -> None:
    with folder() as place:
        record = the_one(layouts.database(place / "opencode.db", conversation))
    assert record == expected(conversation)
    assert record.worktree == "/work"


@slow
@given(conversations())
def test_tree_of_1_1(conversation: Conversation) -> None:
    with folder() as place:
        record = the_one(layouts.storage(place, conversation))
    assert record == expected(conversation)


@slow
@given(conversations())
def test_tree_of_0_5(conversation: Conversation) -> None:
    conversation.todos = []
    with folder() as place:
        record = the_one(layouts.project_storage(place, conversation))
    assert record == expected(conversation)


@slow
@given(conversations())
def test_export(conversation: Conversation) -> None:
    conversation.todos = []
    with folder() as place:
        record = the_one(layouts.export(place / "session.json", conversation))
    assert record == expected(conversation)


def essence(record: SessionRecord) -> list[Any]:
    """What every layout with steps holds of a turn."""
    return [
        (
            turn.prompt,
            [message.said for message in turn.replies],
            [
                (c.requested_tool, dict(c.input), c.status, c.output, c.error, c.call_id)
                for c in turn.tool_calls
            ],
            [part.text for m in turn.replies for part in m.parts if part.type == "reasoning"],
            [message.model for message in turn.replies],
            turn.started,
        )
        for turn in record.turns
    ]


@slow
@given(conversations(plain=True))
def test_tree_of_0_1(conversation: Conversation) -> None:
    with folder() as place:
        record = the_one(layouts.first_storage(place, conversation))
    assert essence(record) == essence(expected(conversation))


@slow
@given(conversations(plain=True))
def test_tables_of_v2(conversation: Conversation) -> None:
    with folder() as place:
        entries = layouts.v2_entries(conversation)
        record = the_one(layouts.v2_database(place / "opencode.db", conversation.info, entries))
    assert essence(record) == essence(expected(conversation))
    assert record.usage.tokens == expected(conversation).usage.tokens


@slow
@given(conversations(plain=True))
def test_export_of_v2(conversation: Conversation) -> None:
    with folder() as place:
        entries = layouts.v2_entries(conversation)
        record = the_one(layouts.v2_export(place / "session.json", conversation.info, entries))
    assert essence(record) == essence(expected(conversation))
    assert record.directory == conversation.info["directory"]


@slow
@given(conversations(plain=True))
def test_plugin_log(conversation: Conversation) -> None:
    """The plugin's file holds prompts, calls and last replies."""
    known = expected(conversation)
    answered = [turn for turn in known.turns if turn.replies]
    with folder() as place:
        path = place / f"dspy-{known.id}.json"
        layouts.write(path, session_log(known, answered, known.updated))
        record = the_one(path)
    assert [len(turn.tool_calls) for turn in record.turns] == [len(turn.tool_calls) for turn in answered]
    assert [dict(c.input) for c in record.tool_calls] == [
        dict(c.input) for t in answered for c in t.tool_calls
    ]
    assert [turn.response for turn in record.turns] == [turn.response for turn in answered]


@slow
@given(st.lists(conversations(), max_size=3, unique_by=lambda each: each.id))
def test_a_folder_that_mixes_layouts_gives_each_session_once(found: list[Conversation]) -> None:
    with folder() as place:
        layouts.storage(place, *found)
        for each in found:
            layouts.export(place / f"{each.id}.json", each)
        layouts.database(place / "opencode.db", *found[:1])
        with open_source(place) as history:
            records = list(history.sessions())
            assert {record.id: record for record in records} == {each.id: expected(each) for each in found}
            assert [r.created for r in records] == sorted(r.created for r in records)
            assert {Path(r.origin).name for r in records if r.id in {each.id for each in found[:1]}} <= {
                "opencode.db"
            }
