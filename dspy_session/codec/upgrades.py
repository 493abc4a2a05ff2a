"""Older files made into the present shape; one function for each old version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_session.codec.wire import VERSION
from dspy_session.errors import FormatError, UnsupportedVersionError


def checked(data: Any, what: str) -> dict[str, Any]:
    """Check that data is an object of a readable version, and bring it to the present one.

    Args:
        data: what was read.
        what: how errors call it, such as `"session state"`.

    Raises:
        FormatError: it is no such object.
        UnsupportedVersionError: its version is not known to this release.
    """
    if not isinstance(data, Mapping):
        raise FormatError(f"a {what} is a JSON object, not a {type(data).__name__}")
    version = data.get("version", 1)
    if isinstance(version, bool) or not isinstance(version, int):
        raise FormatError(f"this is no {what}: its version is {version!r}")
    if not 1 <= version <= VERSION:
        raise UnsupportedVersionError(
            f"Unsupported {what} version: {version}; this release reads 1 to {VERSION}"
            + (" (a newer release wrote it)" if version > VERSION else "")
        )
    if not isinstance(data.get("turns", []), list) or ("turns" not in data and "l2_memory" not in data):
        raise FormatError(f"this is no {what}: it has no list of turns")
    return dict(data) if version == VERSION else _from_early(data, what)


def _from_early(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Versions 1 and 2. Values stand as they are; snapshots are written out, or missing and to be rebuilt."""
    turns = [_early_turn(turn, place, what) for place, turn in enumerate(data.get("turns", []))]
    nodes = data.get("node_states") or {}
    if not isinstance(nodes, Mapping):
        raise FormatError(f"this is no {what}: node_states is a {type(nodes).__name__}")
    upgraded = {
        **data,
        "version": VERSION,
        "turns": turns,
        "initial_history": early_history(data.get("initial_history"), what),
        "node_states": {path: _from_early(node, what) for path, node in nodes.items()},
    }
    if "input_field_override" in data and "history_input_fields" not in data:
        upgraded["history_input_fields"] = data["input_field_override"]
    return upgraded


def _early_turn(turn: Any, place: int, what: str) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise FormatError(f"this is no {what}: turn {place} is a {type(turn).__name__}")
    fields = {name: turn.get(name) or {} for name in ("inputs", "outputs")}
    snapshot = turn.get("history_snapshot")
    return {
        **fields,
        # Early versions renumbered carelessly: the place in the file is what counts.
        "index": place,
        "score": turn.get("score"),
        "written_snapshot": early_history(snapshot, what) or [] if snapshot is not None else None,
        "exact": False,
        "early": True,
    }


def early_history(history: Any, what: str) -> list[dict[str, Any]] | None:
    """A written-out history: `{"messages": [...]}`."""
    if history is None:
        return None
    messages = history.get("messages") if isinstance(history, Mapping) else None
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise FormatError(f"this is no {what}: a history must be an object with a list of messages")
    return [{"values": dict(message), "inputs": None} for message in messages]
