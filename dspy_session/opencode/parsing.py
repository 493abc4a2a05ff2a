"""Raw JSON to records: the one place that knows how releases wrote what.

Records have one shape, that of `opencode export` since 1.1: a message's `info` with its id, a part with its
id, `messageID` and `sessionID`. Rows of a database and files of a tree lack ids, older and newer releases
have other shapes; each is brought to that one shape here, and fields that nobody knows ride along.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode._upgrade_first import message_of_first_release
from dspy_session.opencode._upgrade_v2 import messages_of_v2
from dspy_session.opencode.parts import part
from dspy_session.opencode.records import Message, Todo

Json = dict[str, Any]

_decode = json.JSONDecoder().raw_decode
_ID = itemgetter("id")


class ParseError(ValueError):
    """A piece of JSON is damaged or is not an object; sources turn it into a counted skip."""


def json_object(data: Any) -> Json:
    """The JSON object in a text or in UTF-8 bytes.

    Raises:
        ParseError: for anything else; says why.
    """
    # Rows may be BLOBs, and tools print bytes that are no UTF-8.
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        text = text.strip()
        value, end = _decode(text)
        if end != len(text):
            raise ValueError(f"something follows at character {end}")
    except (ValueError, TypeError, AttributeError) as error:
        raise ParseError(f"not JSON ({error})") from None
    except RecursionError:
        raise ParseError("JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise ParseError(f"a JSON object was expected, not {type(value).__name__}")
    return value


def decoded(content: bytes) -> str:
    """A file's text: UTF-8, or UTF-16 if it says so by its byte order mark (as PowerShell writes)."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")


def message(info: Json, parts: Iterable[Json]) -> Message:
    """A message from its head and its parts, ids included. Parts are put in order of their ids.

    Parts without ids stay where they are.
    """
    stored = list(parts)
    if all(type(each.get("id")) is str for each in stored):
        stored.sort(key=_ID)
    return Message(info, map(part, stored))


def in_order(messages: Iterable[Message]) -> tuple[Message, ...]:
    """By time, then by id. Never by id alone: ids start again from 0 every 2.2 years."""
    return tuple(sorted(messages, key=lambda each: (each.created, each.id)))


def exported_messages(entries: Iterable[Any], session_id: str) -> tuple[Message, ...]:
    """The messages of an `opencode export`: `{info, parts}` (v1), or flat ones (v2).

    Raises:
        ParseError: for an entry that is neither.
    """
    found: list[Message] = []
    flat: list[Json] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ParseError("a message is not a JSON object")
        if isinstance(entry.get("info"), dict):
            parts = [each for each in read.items(entry.get("parts")) if isinstance(each, dict)]
            found.append(message(entry["info"], parts))
        elif "type" in entry:
            flat.append(entry)
        elif isinstance(entry.get("metadata"), dict) and isinstance(entry.get("parts"), list):
            found.append(first_release_message(entry, session_id))
        else:
            raise ParseError("a message has neither `info` nor `type`")
    return in_order(found) if not flat else tuple(message(*each) for each in messages_of_v2(flat, session_id))


def first_release_message(stored: Json, session_id: str) -> Message:
    """A message file of 0.1, which holds everything."""
    return message(*message_of_first_release(stored, session_id))


def v2_messages(stored: Iterable[Json], session_id: str) -> tuple[Message, ...]:
    """The rows of a v2 session, in order of `seq`."""
    return tuple(message(*each) for each in messages_of_v2(stored, session_id))


def todos(stored: Iterable[Any]) -> tuple[Todo, ...]:
    """A to-do list."""
    return tuple(Todo(each) for each in stored if isinstance(each, dict))


_PLAIN_COLUMNS = {
    "id": "id",
    "slug": "slug",
    "project_id": "projectID",
    "workspace_id": "workspaceID",
    "parent_id": "parentID",
    "directory": "directory",
    "path": "path",
    "title": "title",
    "version": "version",
    "agent": "agent",
    "cost": "cost",
}
_OBJECT_COLUMNS = ("metadata", "permission", "revert", "model")
_TIMES = ("created", "updated", "compacting", "archived", "suspended", "idle", "viewed")


def session_info(row: Mapping[str, Any]) -> Json:
    """A session's row, in the shape of an export's `info`. Columns are taken by name, as many as there are.

    JSON columns that are damaged are left out.
    """
    info: Json = {name: row[column] for column, name in _PLAIN_COLUMNS.items() if row.get(column) is not None}
    for column in _OBJECT_COLUMNS:
        stored = _json_column(row.get(column))
        if stored is not None:
            info[column] = stored
    info["time"] = {name: row[f"time_{name}"] for name in _TIMES if row.get(f"time_{name}") is not None}
    if row.get("tokens_input") is not None:
        info["tokens"] = _token_columns(row)
    summary = {name: row.get(f"summary_{name}") for name in ("additions", "deletions", "files")}
    if any(value is not None for value in summary.values()):
        diffs = _json_column(row.get("summary_diffs"))
        info["summary"] = {**summary, **({"diffs": diffs} if diffs is not None else {})}
    if row.get("share_url"):
        info["share"] = {"url": row["share_url"]}
    fork = row.get("fork_session_id") or row.get("fork_message_id")
    if fork:
        info["fork"] = {"sessionID": row.get("fork_session_id"), "boundary": row.get("fork_boundary")}
    if row.get("idle_outcome"):
        info["idleOutcome"] = row["idle_outcome"]
    return info


def _token_columns(row: Mapping[str, Any]) -> Json:
    cache = {"read": row.get("tokens_cache_read") or 0, "write": row.get("tokens_cache_write") or 0}
    kinds = {kind: row.get(f"tokens_{kind}") or 0 for kind in ("input", "output", "reasoning")}
    return {**kinds, "cache": cache}


def _json_column(stored: Any) -> Any:
    if not isinstance(stored, (str, bytes)):
        return None
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return None


def exported_info(info: Json) -> Json:
    """The `info` of an export: as it is, except that v2 keeps the folder elsewhere."""
    location = read.mapping(info.get("location"))
    if "directory" in info or not location:
        return info
    return {**info, **({"directory": location["directory"]} if "directory" in location else {})}
