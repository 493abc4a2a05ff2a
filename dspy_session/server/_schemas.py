"""What answers look like, in JSON Schema."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from typing import Any, Union

from dspy_session.opencode.analytics.session_reports import SessionRow

Json = dict[str, Any]

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TIME_OR_NULL = {"type": ["string", "null"], "format": "date-time"}


def _object(**properties: Json) -> Json:
    """An object that has these properties, and maybe more."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(item: Json) -> Json:
    return {"type": "array", "items": item}


PAGE_META = _object(count=_COUNT, offset=_COUNT, limit=_COUNT, generated_at=_TIME)
"""What a page tells of the list that it is from."""

_META = _object(session_id=_TEXT, generated_at=_TIME)
_TOKENS = _object(input=_COUNT, output=_COUNT, reasoning=_COUNT, cache_read=_COUNT, cache_write=_COUNT)

ANSWERS: Mapping[str, Json] = {
    "reasoning": _object(
        meta=_META,
        summary=_object(total_entries=_COUNT, signed_entries=_COUNT, total_chars=_COUNT),
        details=_list(
            _object(
                id=_TEXT,
                text=_TEXT_OR_NULL,
                signature=_TEXT_OR_NULL,
                timestamp=_TIME_OR_NULL,
                has_signature={"type": "boolean"},
            )
        ),
    ),
    "steps": _object(
        meta=_META,
        summary=_object(
            total_steps=_COUNT,
            total_cost=_NUMBER,
            total_tokens_input=_COUNT,
            total_tokens_output=_COUNT,
            total_tokens_reasoning=_COUNT,
            total_tokens=_COUNT,
        ),
        details=_list(
            _object(
                id=_TEXT,
                event_type={"enum": ["start", "finish"]},
                reason=_TEXT_OR_NULL,
                snapshot_hash=_TEXT_OR_NULL,
                cost=_NUMBER,
                tokens=_TOKENS,
                timestamp=_TIME_OR_NULL,
            )
        ),
    ),
    "git-history": _object(
        meta=_META,
        summary=_object(total_commits=_COUNT, unique_files=_COUNT, files_list=_list(_TEXT)),
        details=_list(
            _object(id=_TEXT, hash=_TEXT, files=_list(_TEXT), file_count=_COUNT, timestamp=_TIME_OR_NULL)
        ),
    ),
    "precise-cost": _object(meta=_META, precise={"type": "object"}, estimated={"type": "object"}),
    "file-parts": _object(meta=_META, summary={"type": "object"}, files=_list({"type": "object"})),
    "exchanges": _object(meta=_META, exchanges=_list({"type": "object"})),
}
"""The answers on one session whose shape is fixed here; the others have at least a `meta`."""


def of_type(hint: Any) -> Json:
    """A type hint of a report's row in JSON Schema."""
    if hint is Any:
        return {}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in inner]}
    if origin in (tuple, list):
        return _list(of_type(inner[0]))
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        return {"type": "object"}
    # A time bears a zone; a whole number may stand for a fraction.
    plain: dict[Any, Json] = {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: _NUMBER,
        str: _TEXT,
        datetime: _TIME,
        date: {"type": "string", "format": "date"},
        type(None): {"type": "null"},
    }
    return dict(plain.get(hint, {}))


def row_schema(row_type: type[Any]) -> Json:
    """A row of a report."""
    hints = typing.get_type_hints(row_type)
    properties = {
        each.name: {**of_type(hints[each.name]), "description": each.metadata["doc"]}
        for each in fields(row_type)
    }
    return _object(**properties)


def report_schema(row_type: type[Any]) -> Json:
    """A report."""
    column = _object(name=_TEXT, doc=_TEXT, unit=_TEXT_OR_NULL)
    return _object(
        name=_TEXT, title=_TEXT, columns=_list(column), rows=_list(row_schema(row_type)), meta=PAGE_META
    )


SESSIONS = _object(meta=PAGE_META, sessions=_list(row_schema(SessionRow)))
"""A list of sessions."""
