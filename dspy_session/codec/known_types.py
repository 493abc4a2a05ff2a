"""Which classes a file may bring back, by the name that files give them: DSPy's, and those that a program names."""

from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from typing import Any

import dspy
import pydantic

from dspy_session.codec.stand_in import type_name

_DSPY_TYPES = (
    "Image",
    "Audio",
    "File",
    "Code",
    "History",
    "Tool",
    "ToolCalls",
    "Reasoning",
    "Citations",
    "Document",
)


def known_types() -> dict[str, type]:
    """DSPy's types, which every file may bring back."""
    named = [getattr(dspy, name, None) for name in _DSPY_TYPES]
    known = {type_name(cls): cls for cls in named if isinstance(cls, type)}
    calls = dspy.ToolCalls.ToolCall
    return {**known, type_name(calls): calls, **_nested(dspy.ToolCalls)}


def _nested(model: type[pydantic.BaseModel]) -> dict[str, type]:
    found: dict[str, type] = {}
    for info in model.model_fields.values():
        collect(info.annotation, found)
    return found


def collect(annotation: Any, into: dict[str, type]) -> None:
    """Add the classes that an annotation names, and those that its models' fields name, to a registry."""
    for argument in typing.get_args(annotation):
        collect(argument, into)
    if not isinstance(annotation, type) or type_name(annotation) in into:
        return
    if issubclass(annotation, pydantic.BaseModel):
        into[type_name(annotation)] = annotation
        for info in annotation.model_fields.values():
            collect(info.annotation, into)
    elif dataclasses.is_dataclass(annotation):
        into[type_name(annotation)] = annotation
        try:
            hints = typing.get_type_hints(annotation)
        except Exception:
            hints = {}
        for hint in hints.values():
            collect(hint, into)
    elif issubclass(annotation, Enum):
        into[type_name(annotation)] = annotation
