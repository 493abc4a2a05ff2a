"""How a record reads its fields: lazily, by name, tolerant of whatever JSON holds.

A record keeps the JSON object that it was read from and looks a field up when asked.
So building a record costs nothing per field, fields that this release does not know stay in `raw`,
and a value of the wrong type reads as the field's empty value instead of crashing the read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, overload

T = TypeVar("T")

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Record:
    """A frozen view of one JSON object.

    Attributes:
        raw: the JSON object, with every field that was stored, known or not. Not to be changed.

    Two records are equal if they are of one type and their JSON is equal.
    """

    __slots__ = ("raw",)
    shown: ClassVar[tuple[str, ...]] = ("id",)
    raw: Mapping[str, Any]

    def __init__(self, raw: Mapping[str, Any]) -> None:
        object.__setattr__(self, "raw", raw)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and bool(self.raw == other.raw)

    def __hash__(self) -> int:
        return hash((type(self).__name__, str(self.raw.get("id"))))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.raw,)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(getattr(self, name))}" for name in self.shown)
        return f"{type(self).__name__}({fields})"


class Field(Generic[T]):
    """A field of a `Record`: the value under `keys` (nested), made a `T` by `read`."""

    def __init__(self, read: Callable[[Any], T], *keys: str, doc: str = "") -> None:
        self.read = read
        self.first = keys[0]
        self.rest = keys[1:]
        self.__doc__ = doc

    @overload
    def __get__(self, record: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, record: Record, owner: type) -> T: ...
    def __get__(self, record: Record | None, owner: type) -> T | Field[T]:
        if record is None:
            return self
        value = record.raw.get(self.first)
        for key in self.rest:
            value = value.get(key) if isinstance(value, dict) else None
        return self.read(value)

    def __set__(self, record: Record, value: T) -> NoReturn:
        raise AttributeError(f"{type(record).__name__} is frozen: {self.first} cannot be set")


def text(value: Any) -> str:
    """The string, or `""` for anything else."""
    return value if isinstance(value, str) else ""


def optional_text(value: Any) -> str | None:
    """The string, or None for anything else."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float:
    """The finite number as a float, or 0.0 for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            return 0.0
        return result if math.isfinite(result) else 0.0
    return 0.0


def optional_number(value: Any) -> float | None:
    """The finite number as a float, or None for anything else."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(value) if known and (value == 0 or number(value) != 0.0) else None


def count(value: Any) -> int:
    """The number as an int (JSON writes 3.0 for 3 at times), or 0 for anything else."""
    if type(value) is int:
        return value
    return int(number(value))


def optional_count(value: Any) -> int | None:
    """The number as an int, or None for anything else."""
    known = optional_number(value)
    return None if known is None else int(known)


def flag(value: Any) -> bool:
    """True for JSON's `true` alone."""
    return value is True


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else NOTHING


def items(value: Any) -> tuple[Any, ...]:
    """The JSON array as a tuple, or an empty one for anything else."""
    return tuple(value) if isinstance(value, list) else ()


def texts(value: Any) -> tuple[str, ...]:
    """The strings of the JSON array, or none for anything else."""
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
