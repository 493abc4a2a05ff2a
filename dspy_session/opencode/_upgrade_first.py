"""Messages of the first releases (0.1): one object holds everything, in the AI SDK's own shape."""

from __future__ import annotations

from typing import Any

from dspy_session.opencode import _fields as read

Json = dict[str, Any]

_STATES = {"partial-call": "pending", "call": "running"}
_KNOWN = ("id", "role", "parts", "metadata")


def message_of_first_release(stored: Json, session_id: str) -> tuple[Json, list[Json]]:
    """`{id, role, parts, metadata}` as a message head and parts of today's shape.

    Parts get ids made of the message's id and their place, so that they stay in order.
    """
    metadata = read.mapping(stored.get("metadata"))
    assistant = read.mapping(metadata.get("assistant"))
    info: Json = {key: value for key, value in stored.items() if key not in _KNOWN}
    info.update(
        id=stored.get("id"), sessionID=metadata.get("sessionID") or session_id, role=stored.get("role")
    )
    info.update(
        {key: value for key, value in metadata.items() if key not in ("assistant", "tool", "sessionID")}
    )
    info.update(assistant)
    tools = read.mapping(metadata.get("tool"))
    parts = []
    for place, each in enumerate(read.items(stored.get("parts"))):
        if isinstance(each, dict):
            made = _part(each, tools)
            made.update(id=f"{info['id']}_{place:06d}", messageID=info["id"], sessionID=info["sessionID"])
            parts.append(made)
    return info, parts


def _part(stored: Json, tools: Any) -> Json:
    kind = stored.get("type")
    if kind == "tool-invocation" and isinstance(stored.get("toolInvocation"), dict):
        return _tool(stored["toolInvocation"], tools)
    if kind == "file":
        renamed = {key: value for key, value in stored.items() if key != "mediaType"}
        return {**renamed, "mime": stored.get("mediaType") or stored.get("mime")}
    return dict(stored)


def _tool(call: Json, tools: Any) -> Json:
    call_id = call.get("toolCallId")
    recorded = dict(read.mapping(tools.get(call_id)) if isinstance(call_id, str) else {})
    state: Json = {"input": call.get("args") or {}}
    if "title" in recorded:
        state["title"] = recorded.pop("title")
    if "time" in recorded:
        state["time"] = recorded.pop("time")
    result = call.get("result")
    if call.get("state") != "result":
        state["status"] = _STATES.get(str(call.get("state")), "running")
    elif isinstance(result, str) and result.startswith("Error: "):
        state.update(status="error", error=result)
    else:
        state.update(status="completed", output=result if isinstance(result, str) else str(result))
    state["metadata"] = recorded
    return {"type": "tool", "callID": call_id, "tool": call.get("toolName"), "state": state}
