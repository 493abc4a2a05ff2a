"""How a record reads its fields: lazily, by name, tolerant of whatever JSON holds.

A record keeps the JSON object that it was read from and looks a field up when asked.
So building a record costs nothing per field, fields that this release does not know stay in `raw`,
and a value of the wrong type reads as the field's empty value instead of crashing the read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, overload

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
        return isinstance(other, Record) and type(self) is type(other) and bool(self.raw == other.raw)

    def __hash__(self) -> int:
        return hash((type(self).__name__, str(self.raw.get("id"))))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.raw,)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(getattr(self, name))}" for name in self.shown)
        return f"{type(self).__name__}({fields})"


class Field(property, Generic[T]):
    """A field of a `Record`: the value under `keys` (nested), made a `T` by `read`.

    It is a `property`, because that is the fastest way to look something up that Python has.
    """

    def __init__(self, read: Callable[[Any], T], *keys: str, doc: str = "") -> None:
        super().__init__(_look_up(read, *keys), doc=doc)

    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, owner: type, /) -> Field[T]: ...
        @overload
        def __get__(self, record: Any, owner: type | None = None, /) -> T: ...
        def __get__(self, record: Any, owner: type | None = None, /) -> T | Field[T]: ...


def _look_up(read: Callable[[Any], T], first: str, *rest: str) -> Callable[[Record], T]:
    """The getter of a field: unrolled for the two depths that fields have, as it runs for every part there is.

    A value of the type that is expected is taken as it is; `read` sees the others.
    """
    plain: Any = _PLAIN.get(read)
    if not rest:

        def look(record: Record) -> T:
            value: Any = record.raw.get(first)
            return value if type(value) is plain else read(value)

        return look
    second, *deeper = rest

    def look_deeper(record: Record) -> T:
        outer = record.raw.get(first)
        value: Any = outer.get(second) if type(outer) is dict else None
        for key in deeper:
            value = value.get(key) if type(value) is dict else None
        return value if type(value) is plain else read(value)

    return look_deeper


def text(value: Any) -> str:
    """The string, or `""` for anything else."""
    return value if isinstance(value, str) else ""


def optional_text(value: Any) -> str | None:
    """The string, or None for anything else."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float:
    """The finite number as a float, or 0.0 for anything else."""
    found = optional_number(value)
    return 0.0 if found is None else found


def optional_number(value: Any) -> float | None:
    """The finite number as a float, or None for anything else."""
    if type(value) is not float and type(value) is not int:
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def count(value: Any) -> int:
    """The number as an int (JSON writes 3.0 for 3 at times), or 0 for anything else."""
    if type(value) is int:
        return value
    return int(number(value))


def optional_count(value: Any) -> int | None:
    """The number as an int, or None for anything else."""
    if value is None or type(value) is int:
        return value
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


_PLAIN: dict[Callable[[Any], Any], type] = {
    text: str,
    optional_text: str,
    count: int,
    optional_count: int,
    mapping: dict,
}
"""What each of these gives back as it is."""
