"""Conversations for fine-tuning: OpenAI's chat format, and ShareGPT.

Both hold the whole conversation: compactions and the orders to go on after them are left out, so that nothing
is said twice. What the user undid is left out too, and so are failed replies, as OpenCode does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.chat import render
from dspy_session.opencode.grouping import live
from dspy_session.opencode.messages import Message
from dspy_session.opencode.parts import CompactionPart, TextPart
from dspy_session.opencode.records import SessionRecord, Turn

Json = dict[str, Any]
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def to_chat(record: SessionRecord, *, reasoning: bool = False, turns: Iterable[Turn] | None = None) -> Json:
    """A session as one line of OpenAI's fine-tuning format: `{messages, tools, parallel_tool_calls}`.

    OpenCode stores no tool definitions. Those given here are inferred from the calls: names and types of the
    arguments seen. Replies that no model wrote (tools run for the user) have `weight` 0.

    Args:
        record: the session.
        reasoning: keep what the model thought as `reasoning_content`, which OpenAI itself does not take.
        turns: only these; all that count by default.
    """
    messages = [sent for turn in _chosen(record, turns) for sent in _turn_messages(turn, reasoning)]
    line: Json = {"messages": messages}
    tools = _tool_definitions(messages)
    if tools:
        line.update(tools=tools, parallel_tool_calls=any(len(m.get("tool_calls", ())) > 1 for m in messages))
    return line


def _chosen(record: SessionRecord, turns: Iterable[Turn] | None) -> list[Turn]:
    return [turn for turn in (live(record) if turns is None else turns) if turn.kind != "compaction"]


def _turn_messages(turn: Turn, reasoning: bool) -> list[Json]:
    found: list[Json] = []
    for message in turn.messages:
        if message.is_summary or _drives_compaction(message, turn):
            continue
        for sent in render(message, message.created, message.model):
            kept = sent if reasoning else {k: v for k, v in sent.items() if k != "reasoning_content"}
            if sent["role"] == "assistant" and message.is_shell:
                kept["weight"] = 0
            found.append(kept)
    return found


def _drives_compaction(message: Message, turn: Turn) -> bool:
    """The mark of a compaction, and what OpenCode says to the model after it."""
    if message.role != "user" or message is turn.user:
        return False
    compacted = any(m.of(CompactionPart) for m in turn.messages)
    texts = message.of(TextPart)
    replay = any(part.overflow for m in turn.messages for part in m.of(CompactionPart))
    return bool(message.of(CompactionPart)) or (compacted and (replay or all(t.synthetic for t in texts)))


def _tool_definitions(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    seen: dict[str, dict[str, Json]] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            fields = seen.setdefault(call["function"]["name"], {})
            for name, value in json.loads(call["function"]["arguments"]).items():
                kind = _TYPES.get(type(value))
                fields.setdefault(name, {"type": kind} if kind else {})
    return [
        {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": fields}},
        }
        for name, fields in seen.items()
    ]


def to_sharegpt(record: SessionRecord, *, turns: Iterable[Turn] | None = None) -> Json:
    """A session as ShareGPT: `{conversations: [{from, value}], tools}`.

    `human` and `observation` alternate with `gpt` and `function_call`, as trainers want it. Calls are a JSON
    object, or a list for several at once; what the model thought and said before a call stands in front of it
    between `<think>` and `</think>`.
    """
    messages = [sent for turn in _chosen(record, turns) for sent in _turn_messages(turn, reasoning=True)]
    said: list[Json] = []
    for message in messages:
        entry = _entry(message)
        if said and said[-1]["from"] == entry["from"] != "function_call":
            said[-1] = _joined(said[-1], entry)
        else:
            said.append(entry)
    tools = [definition["function"] for definition in _tool_definitions(messages)]
    return {
        "conversations": _alternating([{k: v for k, v in each.items() if k != "results"} for each in said]),
        "tools": json.dumps(tools, ensure_ascii=False),
    }


def _entry(message: Mapping[str, Any]) -> Json:
    content = _text(message["content"])
    if message["role"] == "user":
        return {"from": "human", "value": content}
    if message["role"] == "tool":
        return {"from": "observation", "value": content, "results": [content]}
    thought = "\n\n".join(part for part in (read.text(message.get("reasoning_content")), content) if part)
    calls = message.get("tool_calls")
    if not calls:
        return {"from": "gpt", "value": content}
    functions = [
        {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
        for call in calls
    ]
    value = json.dumps(functions if len(functions) > 1 else functions[0], ensure_ascii=False)
    return {
        "from": "function_call",
        "value": f"<think>\n{thought}\n</think>\n\n{value}" if thought else value,
    }


def _joined(first: Json, second: Json) -> Json:
    if first["from"] != "observation":
        return {**first, "value": f"{first['value']}\n\n{second['value']}"}
    results = [*first["results"], *second["results"]]
    return {**first, "value": json.dumps(results, ensure_ascii=False), "results": results}


def _alternating(said: list[Json]) -> list[Json]:
    """Drop what has no partner: a reply before the first prompt, a prompt without a reply."""
    kept: list[Json] = []
    for entry in said:
        answers = entry["from"] in ("gpt", "function_call")
        if answers == bool(len(kept) % 2):
            kept.append(entry)
        elif kept and not answers:
            kept[-1] = entry
    return kept[: len(kept) - len(kept) % 2]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    shown = []
    for part in content:
        kind = part.get("type")
        shown.append(part["text"] if kind == "text" else f"[{'image' if kind == 'image_url' else 'file'}]")
    return "\n".join(shown)
