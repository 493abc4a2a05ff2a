"""Histories to report on: several sessions with all that reports look at, forks, undone turns and sub-agents."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from opencode_layouts import Conversation, Json

START = 1_795_000_000_000
HOUR = 3_600_000
MODELS = [("lab", "large"), ("lab", "small"), ("route", "lab/large")]
AGENTS = ["build", "plan"]
PROJECTS = [("p1", "/work/shelf"), ("p2", "/work/café")]
REJECTED = "Error: The user rejected permission to use this specific tool call."

counts = st.integers(0, 5000)
tokens = st.builds(
    lambda i, o, r, cr, cw: {"input": i, "output": o, "reasoning": r, "cache": {"read": cr, "write": cw}},
    counts,
    counts,
    counts,
    counts,
    counts,
)
costs = st.integers(0, 10_000).map(lambda cents: cents / 10_000)


def _done(given: Json, metadata: Json | None = None) -> Json:
    return {
        "status": "completed",
        "input": given,
        "output": "out",
        "title": "t",
        "metadata": metadata or {},
    }


def _failed(given: Json, error: str) -> Json:
    return {"status": "error", "input": given, "error": error}


calls = st.one_of(
    st.sampled_from(["alpha", "beta"]).map(lambda name: ("skill", _done({"name": name}))),
    st.just(("skill", _failed({"name": "gone"}, 'Error: Skill "gone" not found'))),
    st.tuples(st.sampled_from(["pytest", "ls"]), st.sampled_from([0, 1])).map(
        lambda run: ("bash", _done({"command": run[0]}, {"exit": run[1]}))
    ),
    st.just(("bash", _done({"command": "pytest"}, {"timeout": True}))),
    st.just(("bash", _failed({"command": "ls"}, REJECTED))),
    st.sampled_from(["edit", "write"]).map(lambda tool: (tool, _done({"filePath": "/work/a.py"}))),
    st.just(("edit", _failed({"filePath": "/work/a.py"}, "Error: oldString not found in content"))),
    st.just(("read", {"status": "running", "input": {"filePath": "/work/a.py"}})),
    st.just(("apply_patch", _done({"patchText": "*** Update File: /work/a.py\n"}))),
)
errors = st.sampled_from(
    [
        None,
        None,
        None,
        {"name": "MessageAbortedError", "data": {"message": "Aborted"}},
        {"name": "ContextOverflowError", "data": {"message": "prompt is too long"}},
        {"name": "MessageOutputLengthError", "data": {}},
        {"name": "APIError", "data": {"message": "slow down", "statusCode": 429, "isRetryable": True}},
    ]
)
RETRY = {
    "type": "retry",
    "attempt": 1,
    "error": {"name": "APIError", "data": {"message": "slow down", "statusCode": 429}},
}


@st.composite
def histories(draw: st.DrawFn) -> list[Conversation]:
    """One to three sessions, and perhaps a fork of the first and a sub-agent's session."""
    made = [draw(_conversations(number)) for number in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()) and made[0].messages:
        made.append(_fork(made[0], draw(_conversations(8))))
    if draw(st.booleans()):
        child = draw(_conversations(9))
        child.info["parentID"] = made[0].id
        made.append(child)
    return made


@st.composite
def _conversations(draw: st.DrawFn, number: int) -> Conversation:
    session = f"ses_{number:04d}"
    created = START + number * 20 * HOUR
    project, folder = draw(st.sampled_from(PROJECTS))
    info: Json = {
        "id": session,
        "slug": "s",
        "projectID": project,
        "directory": folder,
        "title": f"S{number}",
    }
    info |= {"version": "1.18.33", "time": {"created": created, "updated": created + HOUR}}
    messages: list[tuple[Json, list[Json]]] = []
    at = created
    for turn in range(draw(st.integers(0, 3))):
        at += draw(st.integers(1, 30 * HOUR))
        messages += draw(_turns(session, turn, at))
    if messages and draw(st.booleans()):
        info["revert"] = {"messageID": draw(st.sampled_from(messages))[0]["id"]}
    todos = st.fixed_dictionaries(
        {
            "content": st.sampled_from(["read", "write"]),
            "status": st.sampled_from(["pending", "completed", "in_progress"]),
            "priority": st.just("high"),
        }
    )
    return Conversation(info, messages, draw(st.lists(todos, max_size=2)))


@st.composite
def _turns(draw: st.DrawFn, session: str, turn: int, at: int) -> list[tuple[Json, list[Json]]]:
    user = f"msg_{session}_{turn:02d}a"
    head: Json = {"role": "user", "time": {"created": at}, "agent": draw(st.sampled_from(AGENTS))}
    parts: list[Json] = [{"type": "text", "text": f"prompt {turn}"}]
    if draw(st.integers(0, 4)) == 0:
        parts.append(
            {
                "type": "text",
                "text": "Base directory for this skill: /skills/alpha",
                "synthetic": True,
            }
        )
    made = [_message(session, user, head, parts)]
    for step in range(draw(st.integers(0, 3))):
        at += draw(st.integers(1, HOUR))
        reply = f"msg_{session}_{turn:02d}b{step}"
        made.append(_message(session, reply, *draw(_replies(user, at))))
    return made


@st.composite
def _replies(draw: st.DrawFn, parent: str, at: int) -> tuple[Json, list[Json]]:
    provider, model = draw(st.sampled_from(MODELS))
    head: Json = {"role": "assistant", "parentID": parent, "agent": draw(st.sampled_from(AGENTS))}
    head |= {"mode": "build", "providerID": provider, "modelID": model, "time": {"created": at}}
    parts: list[Json] = [RETRY] if draw(st.integers(0, 5)) == 0 else []
    parts.append({"type": "step-start", "snapshot": "abc"})
    for tool, state in draw(st.lists(calls, max_size=4)):
        spent = draw(st.integers(0, 5000))
        span = {"start": at, "end": at + spent} if state["status"] != "running" else {"start": at}
        parts.append({"type": "tool", "tool": tool, "callID": "c", "state": {**state, "time": span}})
    used, cost = draw(tokens), draw(costs)
    if draw(st.integers(0, 6)):
        reason = draw(st.sampled_from(["stop", "tool-calls", "length"]))
        parts.append({"type": "step-finish", "reason": reason, "cost": cost, "tokens": used})
        head |= {"finish": reason, "time": {"created": at, "completed": at + 5}}
    error = draw(errors)
    if error is not None:
        head["error"] = error
    return {**head, "cost": cost, "tokens": used}, parts


def _message(session: str, message: str, head: Json, parts: list[Json]) -> tuple[Json, list[Json]]:
    ids = {"sessionID": session, "messageID": message}
    numbered = [{**part, "id": f"prt_{message}_{place:03d}", **ids} for place, part in enumerate(parts)]
    return {**head, "id": message, "sessionID": session}, numbered


def _fork(source: Conversation, own: Conversation) -> Conversation:
    """A session that begins with a copy of another's messages, under ids of its own."""
    copied = copy.deepcopy(source.messages)
    new: dict[str, Any] = {head["id"]: f"msg_{own.id}_!{place}" for place, (head, _) in enumerate(copied)}
    for head, parts in copied:
        head.update(id=new[head["id"]], sessionID=own.id)
        if "parentID" in head:
            head["parentID"] = new[head["parentID"]]
        for part in parts:
            part.update(id=f"fork_{part['id']}", messageID=head["id"], sessionID=own.id)
    latest = max(head["time"]["created"] for head, _ in copied) + 1
    moved = max(0, latest - own.info["time"]["created"])
    for head, parts in own.messages:
        head["time"] = {name: value + moved for name, value in head["time"].items()}
        for part in parts:
            span = part.get("state", {}).get("time", {})
            part.get("state", {}).update({"time": {name: value + moved for name, value in span.items()}})
            if not part.get("state"):
                part.pop("state", None)
    own.info["time"] = {name: value + moved for name, value in own.info["time"].items()}
    own.info["title"] = f"{source.info['title']} (fork #1)"
    return Conversation(own.info, [*copied, *own.messages], own.todos)
