"""ATIF, the Agent Trajectory Interchange Format of the Harbor project, both ways.

Written is ATIF-v1.7, read is 1.0 to 1.8 (as published with Harbor 0.25). A trajectory's step is a message of
the user or a call of the model; `prompt_tokens` counts cached tokens too, `completion_tokens` reasoning too.
Sub-agents' sessions are embedded in the session that started them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dspy_session.errors import FormatError, UnsupportedVersionError
from dspy_session.opencode import _fields as read
from dspy_session.opencode import parsing
from dspy_session.opencode.grouping import standing
from dspy_session.opencode.history import History
from dspy_session.opencode.messages import Message
from dspy_session.opencode.parts import FilePart, ToolCall
from dspy_session.opencode.records import SessionRecord, Step, loaded_session
from dspy_session.opencode.times import parse_stamp, stamp
from dspy_session.opencode.tokens import Tokens

Json = dict[str, Any]

WRITTEN = "ATIF-v1.7"
READ = frozenset(f"ATIF-v1.{minor}" for minor in range(9))
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def to_atif(record: SessionRecord, history: History | None = None) -> Json:
    """A session as a trajectory.

    What the user undid is left out; what a fork copied is marked as copied context.

    Args:
        record: the session.
        history: where to look for its sub-agents' sessions; without it they are referred to, not embedded.

    Raises:
        FormatError: the session has no messages; ATIF has no empty trajectories.
    """
    children = history.children(record) if history is not None else ()
    embedded = [to_atif(child, history) for child in children if child.messages]
    made = _trajectory(record, {each["trajectory_id"] for each in embedded})
    if embedded:
        made["subagent_trajectories"] = embedded
    return made


def _trajectory(record: SessionRecord, embedded: set[str]) -> Json:
    steps = [{"step_id": number, **step} for number, step in enumerate(_steps(record, embedded), 1)]
    if not steps:
        raise FormatError(f"session {record.id} has no messages, and ATIF has no empty trajectories")
    models = [step["model_name"] for step in steps if "model_name" in step]
    used = record.usage.tokens
    final: Json = {
        "total_prompt_tokens": used.prompt,
        "total_completion_tokens": used.completion,
        "total_cached_tokens": used.cache_read,
        "total_cost_usd": record.usage.cost,
        "total_steps": len(steps),
    }
    agent: Json = {"name": "opencode", "version": record.version or "unknown"}
    if models:
        agent["model_name"] = models[-1]
    kept = ("title", "directory", "projectID", "parentID", "time", "slug")
    extra = {key: record.info[key] for key in kept if record.info.get(key) not in (None, "")}
    return {
        "schema_version": WRITTEN,
        "session_id": record.id,
        "trajectory_id": record.id,
        "agent": agent,
        "steps": steps,
        "final_metrics": final,
        "extra": {"opencode": extra},
    }


def _steps(record: SessionRecord, embedded: set[str]) -> Iterator[Json]:
    summaries = {step.message.id: step for step in record.steps if step.message.is_summary}
    for turn in standing(record):
        calls: dict[str, list[Step]] = {}
        for step in turn.steps:
            calls.setdefault(step.message.id, []).append(step)
        for message in turn.messages:
            made: list[Json] = []
            if message.role == "user":
                made = [_user(message)]
            elif message.is_shell:
                made = [_dispatch(message, embedded)]
            elif message.role == "assistant":
                own = [summaries[message.id]] if message.id in summaries else calls.get(message.id, [])
                made = [_agent(step, embedded) for step in own]
            for each in made:
                yield {**each, "is_copied_context": True} if turn.copied else each


def _user(message: Message) -> Json:
    content: list[Json] = []
    attached: list[str] = []
    for part in message.parts:
        if part.type == "text" and not part.raw.get("ignored"):
            content.append({"type": "text", "text": read.text(part.raw.get("text"))})
        elif part.type in ("subtask", "compaction"):
            content.append({"type": "text", "text": read.text(part.raw.get("prompt"))})
        elif isinstance(part, FilePart) and part.mime in _IMAGES:
            content.append({"type": "image", "source": {"media_type": part.mime, "path": part.url}})
        elif isinstance(part, FilePart):
            attached.append(part.filename or part.url[:200])
    texts = [each["text"] for each in content if each["type"] == "text"]
    plain = len(texts) == len(content)
    extra: Json = {"message_id": message.id, "typed": message.typed}
    if attached:
        extra["files"] = attached
    said = "\n\n".join(texts) if plain else content
    return {"timestamp": stamp(message.created), "source": "user", "message": said, "extra": extra}


def _agent(step: Step, embedded: set[str]) -> Json:
    message = step.message
    made: Json = {"timestamp": stamp(message.created), "source": "agent", "message": step.text}
    if message.model:
        made["model_name"] = message.model
    if step.reasoning:
        made["reasoning_content"] = step.reasoning
    made.update(_tools(step.tool_calls, embedded))
    used = step.usage
    if used.source != "none":
        made["metrics"] = {
            "prompt_tokens": used.tokens.prompt,
            "completion_tokens": used.tokens.completion,
            "cached_tokens": used.tokens.cache_read,
            "cost_usd": used.cost,
            "extra": {
                "reasoning_tokens": used.tokens.reasoning,
                "cache_write_tokens": used.tokens.cache_write,
            },
        }
    extra: Json = {"message_id": message.id, "agent": message.agent}
    reason = step.finish.reason if step.finish is not None else message.finish
    if reason is not None:
        extra["finish"] = reason
    if message.error is not None:
        extra["error"] = {"name": message.error.name, "message": message.error.message}
    if message.is_summary:
        extra["summary"] = True
    if message.completed is not None:
        extra["completed"] = stamp(message.completed)
    return {**made, "llm_call_count": 1, "extra": extra}


def _dispatch(message: Message, embedded: set[str]) -> Json:
    """Tools that OpenCode ran for the user: no call of a model."""
    made: Json = {"timestamp": stamp(message.created), "source": "agent", "message": ""}
    tools = _tools(message.of(ToolCall), embedded)
    return {**made, **tools, "llm_call_count": 0, "extra": {"message_id": message.id}}


def _tools(calls: tuple[ToolCall, ...], embedded: set[str]) -> Json:
    if not calls:
        return {}
    made = [
        {"tool_call_id": call.call_id, "function_name": call.tool, "arguments": dict(call.input)}
        for call in calls
    ]
    return {"tool_calls": made, "observation": {"results": [_result(call, embedded) for call in calls]}}


def _result(call: ToolCall, embedded: set[str]) -> Json:
    content = call.output if call.output is not None else call.error
    made: Json = {"source_call_id": call.call_id, "content": content}
    child = call.child_session_id
    if child is not None:
        # A reference must resolve: to an embedded trajectory, or to the file that its export would have.
        reference: Json = {"session_id": child}
        reference |= {"trajectory_id": child} if child in embedded else {"trajectory_path": f"{child}.json"}
        made["subagent_trajectory_ref"] = [reference]
    extra: Json = {"status": call.status}
    if call.started is not None:
        extra["started"] = stamp(call.started)
    if call.ended is not None:
        extra["ended"] = stamp(call.ended)
    if "exit" in call.metadata:
        extra["exit"] = call.metadata["exit"]
    return {**made, "extra": extra}


def from_atif(stored: Mapping[str, Any]) -> SessionRecord:
    """A trajectory as a session, whoever wrote it. Embedded sub-agents: call it for each of them.

    Raises:
        UnsupportedVersionError: a version of ATIF that is not known.
        FormatError: no trajectory at all.
    """
    version = stored.get("schema_version")
    if not isinstance(stored.get("steps"), list) or not isinstance(version, str):
        raise FormatError("no ATIF trajectory: `schema_version` or `steps` is missing")
    if version not in READ:
        raise UnsupportedVersionError(f"{version} is not known here; ATIF-v1.0 to ATIF-v1.8 are read")
    session_id = read.text(stored.get("trajectory_id")) or read.text(stored.get("session_id")) or "atif"
    agent = read.mapping(stored.get("agent"))
    kept = dict(read.mapping(read.mapping(stored.get("extra")).get("opencode")))
    steps = [each for each in stored["steps"] if isinstance(each, dict)]
    messages: list[Message] = []
    prompt_id: str | None = None
    for place, step in enumerate(steps):
        message = _message(step, session_id, place, prompt_id, read.text(agent.get("model_name")))
        prompt_id = message.id if message.role == "user" else prompt_id
        messages.append(message)
    first = messages[0].created if messages else 0
    info: Json = {"id": session_id, "title": "", "version": read.text(agent.get("version")), **kept}
    info.setdefault("time", {"created": first, "updated": messages[-1].created if messages else 0})
    return loaded_session(info, messages, holds=frozenset({"steps", "reasoning", "tokens", "cost"}))


def _message(step: Json, session_id: str, place: int, prompt_id: str | None, model: str) -> Message:
    extra = read.mapping(step.get("extra"))
    message_id = read.text(extra.get("message_id")) or f"{session_id}_{place:06d}"
    head: Json = {
        "id": message_id,
        "sessionID": session_id,
        "time": {"created": parse_stamp(step.get("timestamp"))},
    }
    if step.get("source") != "agent":
        head["role"] = "user"
        parts = _user_parts(step, extra)
    else:
        provider, _, name = (read.text(step.get("model_name")) or model).rpartition("/")
        head.update(role="assistant", parentID=prompt_id, providerID=provider, modelID=name)
        head.update(agent=extra.get("agent"), finish=extra.get("finish"))
        # Of our own trajectories, those without an end were cut off; others do not tell.
        if "completed" in extra or "message_id" not in extra:
            head["time"]["completed"] = parse_stamp(extra.get("completed", step.get("timestamp")))
        if isinstance(extra.get("error"), dict):
            head["error"] = {
                "name": extra["error"].get("name"),
                "data": {"message": extra["error"].get("message")},
            }
        if extra.get("summary"):
            head["summary"] = True
        parts = _agent_parts(step, extra)
    ids = {"messageID": message_id, "sessionID": session_id}
    return parsing.message(head, [{**p, "id": f"{message_id}_{n:06d}", **ids} for n, p in enumerate(parts)])


def _user_parts(step: Json, extra: Mapping[str, Any]) -> list[Json]:
    said, typed = step.get("message"), extra.get("typed")
    content = _apart(said, typed) if isinstance(said, str) else list(read.items(said))
    parts: list[Json] = []
    for each in content:
        source = read.mapping(each.get("source"))
        if each.get("type") == "text":
            parts.append({"type": "text", "text": each.get("text")})
        elif source:
            parts.append({"type": "file", "mime": source.get("media_type"), "url": source.get("path")})
    for part in parts:
        if part["type"] == "text" and (step.get("source") == "system" or _synthetic(part["text"], typed)):
            part["synthetic"] = True
    for name in read.items(extra.get("files")):
        parts.append({"type": "file", "mime": "application/octet-stream", "filename": name, "url": ""})
    return parts


def _apart(said: str, typed: Any) -> list[Json]:
    """What the user typed, apart from what OpenCode put before and after it."""
    texts = [said]
    if isinstance(typed, str) and typed and typed in said:
        before, _, after = said.partition(typed)
        texts = [text for text in (before.removesuffix("\n\n"), typed, after.removeprefix("\n\n")) if text]
    return [{"type": "text", "text": text} for text in texts]


def _synthetic(text: Any, typed: Any) -> bool:
    return isinstance(typed, str) and isinstance(text, str) and (not typed or text not in typed)


def _agent_parts(step: Json, extra: Mapping[str, Any]) -> list[Json]:
    results = read.items(read.mapping(step.get("observation")).get("results"))
    by_call = {each.get("source_call_id"): each for each in results if isinstance(each, dict)}
    parts: list[Json] = [] if step.get("llm_call_count") == 0 else [{"type": "step-start"}]
    if step.get("reasoning_content"):
        parts.append({"type": "reasoning", "text": step["reasoning_content"]})
    if step.get("message"):
        parts.append({"type": "text", "text": _plain(step["message"])})
    for call in read.items(step.get("tool_calls")):
        if isinstance(call, dict):
            parts.append(_tool_part(call, by_call.get(call.get("tool_call_id"))))
    metrics = read.mapping(step.get("metrics"))
    if metrics:
        reason = extra.get("finish") or ("tool-calls" if step.get("tool_calls") else "stop")
        used = {"cost": metrics.get("cost_usd") or 0, "tokens": _token_object(metrics)}
        parts.append({"type": "step-finish", "reason": reason, **used})
    return parts


def _tool_part(call: Json, result: Json | None) -> Json:
    state: Json = {"input": call.get("arguments") or {}, "metadata": {}}
    extra = read.mapping(result.get("extra")) if result is not None else {}
    content = _plain(result.get("content")) if result is not None else None
    status = extra.get("status") or ("running" if content is None else "completed")
    state["status"] = status
    if status in ("completed", "error"):
        state["output" if status == "completed" else "error"] = content or ""
    time = {
        name: parse_stamp(extra[key])
        for name, key in (("start", "started"), ("end", "ended"))
        if key in extra
    }
    if time:
        state["time"] = time
    if "exit" in extra:
        state["metadata"]["exit"] = extra["exit"]
    references = read.items(result.get("subagent_trajectory_ref")) if result is not None else ()
    for each in references[:1]:
        state["metadata"]["sessionId"] = read.mapping(each).get("session_id") or read.mapping(each).get(
            "trajectory_id"
        )
    return {
        "type": "tool",
        "tool": call.get("function_name"),
        "callID": call.get("tool_call_id"),
        "state": state,
    }


def _token_object(metrics: Mapping[str, Any]) -> Json:
    extra = read.mapping(metrics.get("extra"))
    reasoning = read.count(extra.get("reasoning_tokens"))
    written, cached = read.count(extra.get("cache_write_tokens")), read.count(metrics.get("cached_tokens"))
    tokens = Tokens(
        max(0, read.count(metrics.get("prompt_tokens")) - cached - written),
        max(0, read.count(metrics.get("completion_tokens")) - reasoning),
        reasoning,
        cached,
        written,
    )
    cache = {"read": tokens.cache_read, "write": tokens.cache_write}
    kinds = {"input": tokens.input, "output": tokens.output, "reasoning": tokens.reasoning, "cache": cache}
    return {"total": tokens.total, **kinds}


def _plain(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    return "\n".join(read.text(read.mapping(part).get("text")) for part in read.items(content))
