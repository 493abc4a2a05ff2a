"""The shapes of answers that tell a conversation: prompts, messages, exchanges, timelines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from dspy_session.opencode.analytics._answered_parts import Answer, Found, tokens
from dspy_session.opencode.analytics.reporting import jsonable


def prompts(rows: Sequence[Found], title: str) -> Answer:
    """The first prompt (the title where nothing was typed), and the last answer."""
    first = next((row["prompt"] for row in rows if row["prompt"]), None)
    last = next((row["response"] for row in reversed(rows) if row["response"]), None)
    return {
        "meta": {},
        "prompt_input": first or title or "(No prompt content)",
        "prompt_output": last or "(No response yet)",
    }


def messages(rows: Sequence[Found]) -> Answer:
    """The parts of all messages, one entry each; a message without parts has one entry."""
    told = [_message(row) for row in rows]
    return {"meta": {"count": len(told)}, "messages": told}


def _message(row: Found) -> Answer:
    told = {
        "message_id": row["message_id"],
        "role": row["role"],
        "agent": row["agent"],
        "type": row["part_type"] or "message",
        "timestamp": jsonable(row["part_at"] or row["created_at"]),
        "tokens_in": row["tokens_input"] or 0,
        "tokens_out": row["tokens_output"] or 0,
        **_more(row),
    }
    if row["part_type"] == "text" and row["content"]:
        told["content"] = row["content"]
    elif row["part_type"] == "tool":
        told.update(tool_name=row["tool_name"], tool_status=row["tool_status"])
    return told


def _more(row: Found) -> Answer:
    """What only some messages have."""
    more: Answer = {name: row[name] for name in ("summary_title", "root_path") if row[name]}
    if row["error_name"]:
        data = row["error_data"]
        more["error"] = {"name": row["error_name"], "data": json.loads(data) if data else None}
    return more


def timeline(rows: Sequence[Found]) -> Answer:
    """Messages, each followed by its calls of tools."""
    events: list[Answer] = []
    told = None
    for row in rows:
        if row["message_id"] != told:
            told = row["message_id"]
            events.append(_message_event(row))
        if row["part_type"] == "tool":
            events.append(_tool_event(row))
    return {"meta": {"count": len(events)}, "timeline": events}


def _message_event(row: Found) -> Answer:
    event = {
        "type": "message",
        "id": row["message_id"],
        "role": row["role"],
        "timestamp": jsonable(row["created_at"]),
        "tokens_in": row["tokens_input"] or 0,
        "tokens_out": row["tokens_output"] or 0,
        **_more(row),
    }
    return {**event, "agent": row["agent"]} if row["agent"] else event


def _tool_event(row: Found) -> Answer:
    event = {
        "type": "tool",
        "id": row["id"],
        "tool_name": row["tool_name"],
        "status": row["tool_status"],
        "timestamp": jsonable(row["part_at"]),
        "duration_ms": row["duration_ms"] or 0,
    }
    named = {"title": row["tool_title"], "result_summary": row["result_summary"]}
    return {**event, **{name: value for name, value in named.items() if value}}


def exchanges(rows: Sequence[Found]) -> Answer:
    """Prompts with their answers, numbered from 1."""
    told = [
        {
            "number": row["turn_index"] + 1,
            "user_message_id": row["user_message_id"],
            "assistant_message_id": row["assistant_message_id"],
            "user_prompt": row["prompt"] or "",
            "assistant_response": row["response"] or "",
            "summary_title": row["summary_title"],
            "started_at": jsonable(row["started_at"]),
            "ended_at": jsonable(row["ended_at"]),
            "duration_ms": row["duration_ms"] or 0,
            "tokens": tokens(row, ("input", "output", "reasoning")),
            "cost": row["cost"] or 0.0,
            "tool_count": row["tool_count"] or 0,
            "reasoning_count": row["reasoning_count"],
            "agent": row["agent"],
            "model_id": (row["model"] or "").partition("/")[2] or row["model"],
        }
        for row in rows
    ]
    return {"meta": {"count": len(told)}, "exchanges": told}


def full_timeline(head: Found, rows: Sequence[Found], turns: int, status: str, sub_agents: int) -> Answer:
    """Everything that happened, in order: prompts, thoughts, tools, ends of steps, patches, files, answers."""
    events = [event for row in rows for event in _events(row)]
    ends = [event for event in events if event["type"] == "step_finish"]
    used = [event["tokens"] for event in ends]
    return {
        "meta": {"title": head["title"], "directory": head["directory"]},
        "session": {
            "id": head["id"],
            "title": head["title"],
            "directory": head["directory"],
            "agent": head["agent"],
            "model": head["model"],
            "started_at": jsonable(head["created_at"]),
            "ended_at": jsonable(head["ended_at"]),
            "duration_ms": head["duration_ms"] or 0,
            "parent_session_id": head["parent_id"],
            "depth": 0,
            "status": status,
        },
        "timeline": events,
        "summary": {
            "total_exchanges": turns,
            "total_tokens": sum(each["input"] + each["output"] + each["reasoning"] for each in used),
            "total_cost_usd": round(sum(event["cost"] for event in ends), 6),
            "total_tool_calls": sum(event["type"] == "tool_call" for event in events),
            "total_reasoning_entries": sum(event["type"] == "reasoning" for event in events),
            "delegations": sub_agents,
        },
    }


def _events(row: Found) -> Iterator[Answer]:
    kind = row["part_type"]
    common = {
        "exchange_number": (row["turn_index"] or 0) + 1,
        "timestamp": jsonable(row["part_at"] or row["created_at"]),
    }
    if kind == "text" and row["content"] and not row["synthetic"]:
        yield {**_said(row), **common}
    elif kind == "tool":
        yield {**_called(row), **common}
        if row["child_session_id"]:
            yield {**_delegated(row), **common, "timestamp": jsonable(row["ended_at"])}
    elif kind in _MADE:
        yield {"type": _MADE[kind][0], **common, **_MADE[kind][1](row)}


def _said(row: Found) -> Answer:
    if row["role"] == "user":
        return {"type": "user_prompt", "content": row["content"], "message_id": row["message_id"]}
    return {
        "type": "assistant_response",
        "content": row["content"],
        "message_id": row["message_id"],
        "tokens_out": row["tokens_output"] or 0,
    }


def _called(row: Found) -> Answer:
    return {
        "type": "tool_call",
        "id": row["id"],
        "tool_name": row["tool_name"],
        "status": row["tool_status"],
        "arguments": json.loads(row["arguments"]) if row["arguments"] else None,
        "result_summary": row["result_summary"] or "",
        "duration_ms": row["duration_ms"] or 0,
        "title": row["tool_title"],
        "child_session_id": row["child_session_id"],
    }


def _delegated(row: Found) -> Answer:
    return {
        "type": "delegation_result",
        "child_session_id": row["child_session_id"],
        "agent": row["child_agent"],
        "status": row["tool_status"],
        "result_summary": row["result_summary"] or "",
        "duration_ms": row["duration_ms"] or 0,
    }


def _thought(row: Found) -> Answer:
    signature = row["anthropic_signature"]
    entry = {
        "text": row["reasoning_text"] or "",
        "has_signature": signature is not None,
        "signature": signature,
    }
    return {"entries": [entry]}


def _finished(row: Found) -> Answer:
    kinds = ("input", "output", "reasoning", "cache_read", "cache_write")
    used = {kind: row[f"part_{kind}"] or 0 for kind in kinds}
    return {"reason": row["reason"] or "", "tokens": used, "cost": row["part_cost"] or 0.0}


def _patched(row: Found) -> Answer:
    return {"git_hash": row["git_hash"] or "", "files": list(row["files"] or ())}


def _attached(row: Found) -> Answer:
    file = {
        "filename": row["file_name"] or "unknown",
        "mime_type": row["file_mime"] or "application/octet-stream",
    }
    return {**file, "data_url": row["file_url"]} if row["file_url"] else file


_MADE: dict[str, tuple[str, Any]] = {
    "reasoning": ("reasoning", _thought),
    "step-finish": ("step_finish", _finished),
    "patch": ("patch", _patched),
    "file": ("file_attachment", _attached),
}
