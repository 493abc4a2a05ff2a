"""A session's turns, page by page: messages, calls of the model and their parts, as they followed each other.

It is what a reader of the conversation scrolls through. Long texts are cut at the end of a word, and say so with `cut`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from dspy_session.errors import UnknownPathError
from dspy_session.opencode.analytics._cutting import beginning
from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.analytics.filters import sql
from dspy_session.opencode.analytics.reporting import jsonable

Json = dict[str, Any]
LONGEST = 40_000
"""Characters of a text, a tool's arguments, or a diff that are given, at most."""
LONGEST_TITLE = 120
"""Characters of a turn's title in an outline, at most."""
PAGE = 20
"""Turns on a page, if nothing else is asked for."""


def turn_page(warehouse: Tables, session_id: str, offset: int = 0, limit: int = PAGE) -> Json:
    """The turns of a session from `offset` on.

    Returns:
        `meta`: `session_id`, `count` (all turns of the session), `offset`, `limit`, `generated_at`. `turns`:
        each with what the table `turns` has of it, `diffs` (what it changed in all, file by file) and
        `messages`; each message with `steps`: calls of the model with their `parts`, in order. A user's
        message has one step, which is no call. A part has those fields that its kind has, and `changes`: files
        with their diffs.

    Raises:
        UnknownPathError: there is no such session.
    """
    total = _count(warehouse, session_id)
    within = {"session": session_id, "first": offset, "end": offset + limit}
    turns = _ask(warehouse, "page_turns", within)
    messages = _messages(warehouse, session_id, _ask(warehouse, "page_messages", within))
    diffs = _diffs(warehouse, session_id, messages)
    for turn in turns:
        turn["tokens"] = _tokens(turn)
        turn["messages"] = [each for each in messages if each["turn"] == turn["index"]]
        turn["diffs"] = [diff for each in turn["messages"] for diff in diffs[each["id"]]]
    return {"meta": _meta(session_id, count=total, offset=offset, limit=limit), "turns": turns}


def outline(warehouse: Tables, session_id: str) -> Json:
    """All turns of a session in brief, what a reader needs to find one; and the session's to-do list.

    Raises:
        UnknownPathError: there is no such session.
    """
    count = _count(warehouse, session_id)
    asked = {"session": session_id}
    turns = _ask(warehouse, "page_outline", {**asked, "longest": LONGEST_TITLE})
    todos = _ask(warehouse, "page_todos", asked)
    return {"meta": _meta(session_id, count=count), "turns": turns, "todos": todos}


def _count(warehouse: Tables, session_id: str) -> int:
    """How many turns a session has, copied and undone ones among them."""
    found = _ask(warehouse, "page_count", {"session": session_id})
    if not found:
        raise UnknownPathError(f"no session {session_id!r} in the warehouse")
    return int(found[0]["turns"])


def _messages(warehouse: Tables, session_id: str, messages: list[Json]) -> list[Json]:
    asked = {"session": session_id, "messages": [each["id"] for each in messages]}
    long = {**asked, "longest": LONGEST}
    steps = _by("message_id", _ask(warehouse, "page_steps", asked))
    changes = _by("part_id", _ask(warehouse, "page_operations", long))
    parts = _by("message_id", map(_known, _ask(warehouse, "page_parts", long)))
    for message in messages:
        for part in parts[message["id"]]:
            part["changes"] = changes[part["id"]]
        message["steps"] = _steps(steps[message["id"]], parts[message["id"]])
    return messages


def _steps(calls: list[Json], parts: list[Json]) -> list[Json]:
    """Parts under the call that they belong to: each `step-start` begins the next call."""
    groups: list[list[Json]] = [[]]
    for part in parts:
        if part["type"] == "step-start":
            groups.append([])
        elif part["type"] != "step-finish":
            groups[-1].append(part)
    if len(groups) > 1:
        # What stands before the first mark, such as a retry, belongs to the first call.
        before = groups.pop(0)
        groups[0][:0] = before
    number = max(len(groups), len(calls))
    padded = groups + [[] for _ in range(number - len(groups))]
    heads = [{"tokens": _tokens(call), **call} for call in calls] + [{} for _ in range(number - len(calls))]
    return [{**head, "parts": each} for head, each in zip(heads, padded, strict=True)]


def _diffs(warehouse: Tables, session_id: str, messages: list[Json]) -> dict[str, list[Json]]:
    ids = [each["id"] for each in messages]
    asked = {"session": session_id, "messages": ids, "longest": LONGEST}
    return _by("message_id", _ask(warehouse, "page_diffs", asked))


def _tokens(row: Json) -> Json:
    """The five kinds of tokens of a row, taken out of it."""
    kinds = ("input", "output", "reasoning", "cache_read", "cache_write")
    return {kind: row.pop(f"tokens_{kind}") for kind in kinds}


def _meta(session_id: str, **more: Any) -> Json:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"session_id": session_id, **more, "generated_at": now}


def _by(key: str, rows: Iterable[Json]) -> dict[str, list[Json]]:
    grouped: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        grouped[row.pop(key)].append(row)
    return grouped


def _ask(warehouse: Tables, question: str, parameters: Json) -> list[Json]:
    rows = warehouse.query(sql(question), parameters)
    longest = parameters.get("longest")
    return [{name: _given(value, longest) for name, value in row.items()} for row in rows]


def _given(value: Any, longest: int | None) -> Any:
    """A value as JSON has it. A text that the query gave with one character more than `longest` is cut."""
    if longest is not None and isinstance(value, str):
        return beginning(value, longest)
    return jsonable(value)


def _known(row: Json) -> Json:
    return {name: value for name, value in row.items() if value is not None}
