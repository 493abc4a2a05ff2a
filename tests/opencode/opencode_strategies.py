"""Hypothesis strategies for conversations as OpenCode stores them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from opencode_layouts import Conversation, Json

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
counts = st.integers(0, 10**6)
tokens = st.fixed_dictionaries(
    {
        "input": counts,
        "output": counts,
        "reasoning": counts,
        "cache": st.fixed_dictionaries({"read": counts, "write": counts}),
    }
)
costs = st.floats(0, 100, allow_nan=False).map(lambda cost: round(cost, 6))
times = st.integers(1_700_000_000_000, 1_800_000_000_000)
extras = st.dictionaries(st.sampled_from(["novel", "future"]), values, max_size=2)


def _part(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    known = st.fixed_dictionaries({"type": st.just(kind), **fields})
    return st.tuples(extras, known).map(lambda pair: {**pair[0], **pair[1]})


def _state(status: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    given = {"status": st.just(status), "input": st.dictionaries(words, values, max_size=3)}
    return st.fixed_dictionaries({**given, **fields})


span = st.tuples(times, st.integers(0, 10**5)).map(lambda at: {"start": at[0], "end": at[0] + at[1]})
metadata = st.dictionaries(st.sampled_from(["exit", "truncated", "description"]), values, max_size=2)
states = st.one_of(
    _state("completed", output=words, metadata=metadata, time=span, title=words),
    _state("error", error=words.map(lambda reason: f"Error: {reason}"), metadata=metadata, time=span),
    _state("running", metadata=metadata, time=times.map(lambda at: {"start": at})),
    st.just({"status": "pending", "input": {}, "raw": ""}),
)
call_ids = st.uuids().map(lambda uuid: f"call_{uuid.hex}")
tools = st.sampled_from(["bash", "read", "edit", "lab_level"])
said = _part("text", text=words, time=span)
thought = _part("reasoning", text=words, time=span)
called = _part("tool", tool=tools, callID=call_ids, state=states)
started = st.just({"type": "step-start"})
ended = _part("step-finish", reason=st.sampled_from(["stop", "tool-calls"]), cost=costs, tokens=tokens)
odd = _part("patch", hash=words, files=st.lists(words, max_size=2)) | _part("hologram", beam=values)
typed = _part("text", text=words) | _part("text", text=words, synthetic=st.just(True))
attached = _part("file", mime=st.just("image/png"), url=st.just("data:image/png;base64,AAAA"))


@st.composite
def conversations(draw: st.DrawFn, *, plain: bool = False) -> Conversation:
    """Any conversation. `plain` ones hold only what every layout can."""
    session = f"ses_{draw(st.integers(0, 10**9)):012x}"
    created = draw(times)
    at, messages = created, []
    for turn in range(draw(st.integers(0, 3))):
        at += draw(st.integers(1, 10**5))
        prompt = f"msg_{session[-8:]}{turn:04d}a"
        kinds = _part("text", text=words) if plain else typed | attached
        parts = draw(st.lists(kinds, min_size=1, max_size=2))
        head: Json = {"role": "user", "time": {"created": at}, "agent": "build"}
        messages.append(_message(session, prompt, head, parts[:1] if plain else parts))
        for step in range(draw(st.integers(0, 2))):
            at += draw(st.integers(1, 10**5))
            reply = f"msg_{session[-8:]}{turn:04d}b{step}"
            messages.append(_message(session, reply, *draw(_replies(prompt, at, plain))))
    pending, high = st.just("pending"), st.just("high")
    todos = st.fixed_dictionaries({"content": words, "status": pending, "priority": high})
    return Conversation(_info(draw, session, created), messages, draw(st.lists(todos, max_size=2)))


@st.composite
def _replies(draw: st.DrawFn, prompt: str, at: int, plain: bool) -> tuple[Json, list[Json]]:
    middle = draw(st.lists(said | thought | called if plain else said | thought | called | odd, max_size=4))
    finish = draw(ended)
    head: Json = {"role": "assistant", "parentID": prompt, "mode": "build", "agent": "build"}
    head.update(providerID="lab", modelID="large", path={"cwd": "/work", "root": "/work"})
    head.update(time={"created": at, "completed": at + 5}, finish=finish["reason"])
    head.update(cost=finish["cost"], tokens=finish["tokens"])
    return head, [draw(started), *middle, finish]


def _message(session: str, message_id: str, head: Json, parts: list[Json]) -> tuple[Json, list[Json]]:
    ids = {"sessionID": session, "messageID": message_id}
    numbered = [{**part, "id": f"prt_{message_id}_{place:03d}", **ids} for place, part in enumerate(parts)]
    return {**head, "id": message_id, "sessionID": session}, numbered


def _info(draw: st.DrawFn, session: str, created: int) -> Json:
    info: Json = {
        "id": session,
        "slug": "calm-cactus",
        "projectID": "p1",
        "directory": "/work",
        "title": draw(words),
        "version": "1.18.33",
        "cost": draw(costs),
        "tokens": draw(tokens),
        "time": {"created": created, "updated": created + 1000},
    }
    if draw(st.booleans()):
        info["parentID"] = "ses_parent"
    if draw(st.booleans()):
        info["model"] = {"id": "large", "providerID": "lab"}
    return info
