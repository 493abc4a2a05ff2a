"""Files of the DSPy logging plugin: `dspy-<id>.json` (formats 1.0 to 1.3) and raw `session-<id>.json`.

=======  ================================================================  ================================
format   top level                                                         one example for each
=======  ================================================================  ================================
1.0      `session, generated, totalExamples, outcome, examples`            prompt and next reply; no `callID`
1.1      the same                                                          prompt and next reply
1.2      the same                                                          session
1.3      without `outcome`, with `totalTurns, successfulTurns,             prompt that succeeded
         overallSuccess, totalToolCalls`
=======  ================================================================  ================================

The plugin judged a tool call by the word "error" in its result, which is wrong for most of the calls that it
calls failed. Only a call without any result is one that threw; that alone is taken over here.
The plugin's history of a turn may hold the turn's own reply, so it is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from dspy_session.errors import SourceFormatError
from dspy_session.opencode import _fields as read
from dspy_session.opencode import parsing
from dspy_session.opencode.parsing import Json, ParseError
from dspy_session.opencode.records import Content, Message, SessionRecord
from dspy_session.opencode.sources.base import FileSource
from dspy_session.opencode.times import parse_stamp

_DSPY = re.compile(r'^\s*\{\s*"session"\s*:')
_RAW = re.compile(r'^\s*\{\s*"sessionId"\s*:')


class PluginLogSource(FileSource):
    """One `dspy-*.json`."""

    kind: ClassVar[str] = "plugin log"
    rank: ClassVar[int] = 10
    holds: ClassVar[frozenset[str]] = frozenset({"tokens"})

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A JSON file named `dspy-…`, or one that begins with `{"session":`."""
        return _begins(path, "dspy-", _DSPY)

    def heads(self) -> Iterable[SessionRecord]:
        """The one session of the file."""
        stored = self.read()
        session_id = stored["session"]
        created = parse_stamp(stored.get("generated"))
        examples = self.examples(stored)
        context = read.mapping(read.mapping(examples[0].get("input")).get("context")) if examples else {}
        info: Json = {"id": session_id, "title": "", "version": "", "time": {"updated": created}}
        if isinstance(context.get("workingDirectory"), str):
            info["directory"] = context["workingDirectory"]
        starts = [_started(example, created) for example in examples]
        info["time"]["created"] = min(starts, default=created)
        yield SessionRecord(info, partial(self._content, session_id), str(self.path), None, self.holds)

    def read(self) -> Json:
        """The file's JSON.

        Raises:
            SourceFormatError: it is damaged, or another kind of file.
        """
        stored = _load(self.path)
        if not isinstance(stored.get("session"), str) or not isinstance(stored.get("examples"), list):
            raise SourceFormatError(f"{self.path}: no log of the plugin: `session` or `examples` is missing")
        return stored

    def examples(self, stored: Json) -> list[Json]:
        """The examples of the file; damaged ones are skipped and counted."""
        found = []
        for place, example in enumerate(stored["examples"]):
            if isinstance(example, dict) and isinstance(example.get("input"), dict):
                found.append(example)
            else:
                self.skips.add(self.path, f"example {place}", "an example without `input`")
        return found

    def _content(self, session_id: str) -> Content:
        stored = self.read()
        generated = parse_stamp(stored.get("generated"))
        messages: list[Message] = []
        for number, example in enumerate(self.examples(stored)):
            messages += _exchange(example, number, session_id, generated)
        return Content(tuple(messages))


class RawLogSource(FileSource):
    """One `session-*.json`: the messages as the plugin saw them, with money and reasoning tokens."""

    kind: ClassVar[str] = "plugin raw log"
    rank: ClassVar[int] = 15
    holds: ClassVar[frozenset[str]] = frozenset({"tokens", "cost", "steps"})

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A JSON file that begins with `{"sessionId":`."""
        return _begins(path, "session-", _RAW)

    def heads(self) -> Iterable[SessionRecord]:
        """The one session of the file."""
        stored = self._read()
        time = {
            "created": read.count(stored.get("startTime")),
            "updated": read.count(stored.get("lastUpdateTime")),
        }
        info: Json = {"id": stored["sessionId"], "title": "", "version": "", "time": time}
        directory = read.mapping(stored.get("context")).get("workingDirectory")
        if isinstance(directory, str):
            info["directory"] = directory
        yield SessionRecord(info, partial(self._content, info["id"]), str(self.path), None, self.holds)

    @property
    def has_calls(self) -> bool:
        """False after OpenCode was started again in mid-session: the plugin then forgot the earlier calls."""
        return bool(self._read().get("toolCalls"))

    def _read(self) -> Json:
        stored = _load(self.path)
        if not isinstance(stored.get("sessionId"), str) or not isinstance(stored.get("messages"), list):
            raise SourceFormatError(
                f"{self.path}: no log of the plugin: `sessionId` or `messages` is missing"
            )
        return stored

    def _content(self, session_id: str) -> Content:
        stored = self._read()
        heads: list[tuple[Json, str]] = []
        for place, entry in enumerate(stored["messages"]):
            if isinstance(entry, dict):
                heads.append((_raw_head(entry, session_id), read.text(entry.get("content"))))
            else:
                self.skips.add(self.path, f"message {place}", "a message is not a JSON object")
        heads.sort(key=lambda each: (each[0]["time"]["created"], each[0]["id"]))
        calls = [each for each in read.items(stored.get("toolCalls")) if isinstance(each, dict)]
        return Content(tuple(_raw_messages(heads, calls)))


def _begins(path: Path, name: str, opening: re.Pattern[str]) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = parsing.decoded(file.read(4096))
    return opening.match(start) is not None or (
        path.name.startswith(name) and not start.strip().startswith("[")
    )


def _load(path: Path) -> Json:
    try:
        return parsing.json_object(parsing.decoded(path.read_bytes()))
    except (ParseError, OSError) as error:
        raise SourceFormatError(f"{path}: cannot be read: {error}") from error


def _started(example: Json, otherwise: int) -> int:
    stamps = [read.mapping(example.get("metadata")).get("timestamp")]
    stamps += [read.mapping(action).get("timestamp") for action in read.items(example.get("actions"))]
    return min((at for at in map(parse_stamp, stamps) if at), default=otherwise)


def _exchange(example: Json, number: int, session_id: str, generated: int) -> list[Message]:
    """A prompt and its one reply. Where its steps began and ended was not logged."""
    given, outcome = example["input"], read.mapping(example.get("outcome"))
    started = _started(example, generated)
    metrics = read.mapping(outcome.get("metrics"))
    seconds = read.number(metrics.get("timeToCompletion"))
    agent = read.mapping(example.get("agent"))
    provider, _, model = read.text(agent.get("model")).rpartition("/")
    output = read.mapping(example.get("output"))
    user_id = f"{session_id}_user_{number:04d}"
    reply_id = read.text(output.get("finalMessage")) or f"{session_id}_reply_{number:04d}"
    # Two prompts may bear one time stamp; the number keeps them apart.
    user: Json = {
        "id": user_id,
        "sessionID": session_id,
        "role": "user",
        "time": {"created": started + 2 * number},
    }
    user.update(agent=agent.get("name"), model={"providerID": provider, "modelID": model}, dspy=example)
    ended = started + round(seconds * 1000)
    reply: Json = {"id": reply_id, "sessionID": session_id, "role": "assistant", "parentID": user_id}
    reply["time"] = {"created": started + 2 * number + 1, "completed": max(ended, started + 2 * number + 1)}
    reply.update(agent=agent.get("name"), providerID=provider, modelID=model, finish="stop")
    reply["tokens"] = dict(read.mapping(metrics.get("tokenCost")))
    actions = [each for each in read.items(example.get("actions")) if isinstance(each, dict)]
    parts = [{"type": "step-start"}, *map(_call, actions), {"type": "text", "text": output.get("response")}]
    task = [{"type": "text", "text": given.get("task")}]
    return [parsing.message(user, _numbered(user, task)), parsing.message(reply, _numbered(reply, parts))]


def _numbered(head: Json, parts: Sequence[Json]) -> list[Json]:
    ids = {"messageID": head["id"], "sessionID": head["sessionID"]}
    return [{**each, "id": f"{head['id']}_{place:06d}", **ids} for place, each in enumerate(parts)]


def _call(action: Json) -> Json:
    args = action.get("args")
    state: Json = {"input": args if isinstance(args, dict) else {}}
    started = parse_stamp(action.get("timestamp"))
    if started:
        state["time"] = {"start": started}
    if isinstance(action.get("result"), str):
        state.update(status="completed", output=action["result"])
    else:
        state.update(status="error", error="")
    call_id = action.get("callID") or f"step_{action.get('step')}"
    return {"type": "tool", "tool": action.get("tool"), "callID": call_id, "state": state, "dspy": action}


def _raw_head(entry: Json, session_id: str) -> Json:
    info = dict(read.mapping(entry.get("info")))
    info.setdefault("id", entry.get("messageID") or entry.get("messageId") or "")
    info.setdefault("role", entry.get("role"))
    info["sessionID"] = session_id
    time = dict(read.mapping(info.get("time")))
    stamp = entry.get("timestamp")
    time.setdefault("created", stamp if isinstance(stamp, int) else parse_stamp(stamp))
    info["time"] = {**time, "created": read.count(time["created"])}
    return info


def _raw_messages(heads: list[tuple[Json, str]], calls: list[Json]) -> Iterable[Message]:
    """Each call goes to the last reply that had begun when it was made."""
    replies = [head for head, _ in heads if head["role"] == "assistant"]
    made: dict[int, list[Json]] = {}
    for action in calls:
        at = parse_stamp(action.get("timestamp"))
        begun = [i for i, head in enumerate(replies) if head["time"]["created"] <= at]
        made.setdefault(begun[-1] if begun else 0, []).append(_call(action))
    place = -1
    for head, content in heads:
        parts: list[Json] = [{"type": "text", "text": content}] if content else []
        if head["role"] == "assistant":
            place += 1
            parts = [{"type": "step-start"}, *parts, *made.get(place, ())]
        yield parsing.message(head, _numbered(head, parts))
