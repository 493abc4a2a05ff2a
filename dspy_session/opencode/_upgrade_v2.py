"""Messages of OpenCode 2: flat objects told apart by `type`, brought to the shape of 1.x.

Written after the published schema (`session-message.ts`). What has no counterpart in 1.x (a switch of agent,
model or folder, and types yet unknown) becomes a message of the role `event` with one part that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dspy_session.opencode import _fields as read

Json = dict[str, Any]
Upgraded = tuple[Json, list[Json]]

ERRORS = {"aborted": "MessageAbortedError", "interrupted": "MessageAbortedError"}


def messages_of_v2(stored: Iterable[Json], session_id: str) -> Iterator[Upgraded]:
    """Heads and parts of messages, in the order given. An `idle` mark goes to the reply before it."""
    prompt_id: str | None = None
    held: list[Upgraded] = []
    for entry in stored:
        kind = entry.get("type")
        if kind == "idle":
            if held:
                held[-1][0]["idle"] = entry
            continue
        yield from held
        held = _SHAPES.get(str(kind), _event)(entry, _head(entry, session_id), prompt_id)
        prompt_id = next((head["id"] for head, _ in reversed(held) if head["role"] == "user"), prompt_id)
    yield from held


def _head(entry: Json, session_id: str) -> Json:
    head = {"id": entry.get("id"), "sessionID": session_id, "time": dict(read.mapping(entry.get("time")))}
    if isinstance(entry.get("metadata"), dict):
        head["metadata"] = entry["metadata"]
    return head


def _numbered(head: Json, parts: Iterable[Json]) -> list[Json]:
    ids = {"messageID": head["id"], "sessionID": head["sessionID"]}
    return [{**each, "id": f"{head['id']}_{place:06d}", **ids} for place, each in enumerate(parts)]


def _event(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "event"
    return [(head, _numbered(head, [{**entry, "type": str(entry.get("type"))}]))]


def _user(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "user"
    parts: list[Json] = [{"type": "text", "text": entry.get("text")}]
    parts += [_file(each) for each in read.items(entry.get("files")) if isinstance(each, dict)]
    parts += [{"type": "agent", **each} for each in read.items(entry.get("agents")) if isinstance(each, dict)]
    for skill in read.items(entry.get("skills")):
        if isinstance(skill, dict):
            parts.append(_skill_text(skill.get("text"), skill))
    return [(head, _numbered(head, parts))]


def _skill_text(body: Any, skill: Json) -> Json:
    named = {"id": skill.get("id") or skill.get("skill"), "name": skill.get("name")}
    return {"type": "text", "text": read.text(body), "synthetic": True, "metadata": {"skill": named}}


def _file(stored: Json) -> Json:
    mime, source = read.text(stored.get("mime")), read.mapping(stored.get("source"))
    data = stored.get("data") or stored.get("uri")
    url = read.text(source.get("uri"))
    if isinstance(data, str):
        url = data if ":" in data[:32] else f"data:{mime};base64,{data}"
    return {"type": "file", "mime": mime, "filename": stored.get("name"), "url": url, "source": dict(source)}


def _assistant(entry: Json, head: Json, prompt_id: str | None) -> list[Upgraded]:
    model = read.mapping(entry.get("model"))
    head.update(role="assistant", parentID=prompt_id, agent=entry.get("agent"), mode=entry.get("agent"))
    head.update(modelID=model.get("id"), providerID=model.get("providerID"))
    kept = ("finish", "cost", "tokens", "rawFinish")
    head.update({key: entry[key] for key in kept if key in entry})
    if "variant" in model:
        head["variant"] = model["variant"]
    if isinstance(entry.get("error"), dict):
        head["error"] = _error(entry["error"])
    snapshot = read.mapping(entry.get("snapshot"))
    parts: list[Json] = [{"type": "step-start", **_some(snapshot=snapshot.get("start"))}]
    parts += [_content(each) for each in read.items(entry.get("content")) if isinstance(each, dict)]
    if isinstance(entry.get("retry"), dict):
        retry = entry["retry"]
        again = {"attempt": retry.get("attempt"), "time": {"created": retry.get("at")}}
        parts.insert(1, {"type": "retry", **again, "error": _error(read.mapping(retry.get("error")))})
    if "finish" in entry:
        used = {"cost": entry.get("cost", 0), "tokens": entry.get("tokens", {})}
        end = {"type": "step-finish", "reason": entry["finish"], **used}
        parts.append({**end, **_some(snapshot=snapshot.get("end"))})
    if snapshot.get("files"):
        parts.append({"type": "patch", "hash": snapshot.get("start"), "files": snapshot["files"]})
    return [(head, _numbered(head, parts))]


def _some(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _error(stored: Any) -> Json:
    kind = read.text(stored.get("type"))
    rest = {key: value for key, value in stored.items() if key not in ("type", "status")}
    return {"name": ERRORS.get(kind, kind), "data": {**rest, **_some(statusCode=stored.get("status"))}}


def _content(stored: Json) -> Json:
    if stored.get("type") != "tool":
        time = read.mapping(stored.get("time"))
        times = _some(start=time.get("created"), end=time.get("completed"))
        return {**stored, "time": times} if times else dict(stored)
    time = read.mapping(stored.get("time"))
    times = _some(start=time.get("ran", time.get("created")), end=time.get("completed"))
    state = {**_state(read.mapping(stored.get("state"))), "time": times}
    made = {"type": "tool", "callID": stored.get("id"), "tool": stored.get("name"), "state": state}
    return {**made, "metadata": {"providerExecuted": True}} if stored.get("executed") else made


def _state(state: Any) -> Json:
    status, given = state.get("status"), state.get("input")
    if status == "streaming":
        return {"status": "pending", "input": {}, "raw": read.text(given)}
    made: Json = {"status": status, "input": given if isinstance(given, dict) else {}}
    made["metadata"] = dict(read.mapping(state.get("metadata")))
    content = [each for each in read.items(state.get("content")) if isinstance(each, dict)]
    if status == "completed":
        made["output"] = "\n".join(
            read.text(each.get("text")) for each in content if each.get("type") == "text"
        )
        files = [_file(each) for each in content if each.get("type") == "file"]
        if files:
            made["attachments"] = files
    elif status == "error":
        made["error"] = read.text(read.mapping(state.get("error")).get("message"))
    return made


def _compaction(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "user"
    asked = _numbered(head, [{"type": "compaction", "auto": entry.get("reason") == "auto"}])
    if entry.get("status") != "completed":
        return [(head, asked)]
    model = read.mapping(entry.get("model"))
    summed = {**head, "id": f"{head['id']}_summary", "role": "assistant", "parentID": head["id"]}
    summed.update(summary=True, finish="stop", agent="compaction", mode="compaction")
    summed.update(_some(modelID=model.get("id"), providerID=model.get("providerID")))
    used = {"cost": entry.get("cost", 0), "tokens": entry.get("tokens", {})}
    told = [{"type": "text", "text": entry.get("summary")}, {"type": "step-finish", "reason": "stop", **used}]
    if entry.get("recent"):
        summed["recent"] = entry["recent"]
    return [(head, asked), (summed, _numbered(summed, [{"type": "step-start"}, *told]))]


def _shell(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "user"
    told = _numbered(head, [{"type": "text", "synthetic": True, "text": SHELL_TOLD}])
    ran = {**head, "id": f"{head['id']}_shell", "role": "assistant", "parentID": head["id"]}
    output = read.mapping(entry.get("output"))
    status = "running" if entry.get("status") == "running" else "completed"
    metadata = {"exit": entry.get("exit"), "truncated": output.get("truncated", False)}
    state = {"status": status, "input": {"command": entry.get("command")}, "metadata": metadata}
    if status == "completed":
        state["output"] = read.text(output.get("output"))
    call = {"type": "tool", "tool": "bash", "callID": entry.get("shellID"), "state": state}
    return [(head, told), (ran, _numbered(ran, [call]))]


SHELL_TOLD = "The following tool was executed by the user"


def _skill(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "user"
    return [(head, _numbered(head, [_skill_text(entry.get("text"), entry)]))]


def _synthetic(entry: Json, head: Json, _: str | None) -> list[Upgraded]:
    head["role"] = "user"
    return [(head, _numbered(head, [{"type": "text", "text": entry.get("text"), "synthetic": True}]))]


_SHAPES: dict[str, Callable[[Json, Json, str | None], list[Upgraded]]] = {
    "user": _user,
    "assistant": _assistant,
    "compaction": _compaction,
    "shell": _shell,
    "skill": _skill,
    "synthetic": _synthetic,
}
