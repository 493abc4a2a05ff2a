"""What a client may ask with: the parameters of a route, their types and bounds, declared once.

The same declaration checks a request and describes the parameter in the API's description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Protocol

Json = dict[str, Any]
MAX_TEXT = 500
"""Characters that a text parameter may have."""

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?\s*([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


class BadRequest(Exception):
    """A request that cannot be answered as it was asked; the message tells the client why."""


class Kind(Protocol):
    """A type of parameter: reads a text, and describes itself as JSON Schema."""

    def read(self, text: str) -> Any:
        """The value.

        Raises:
            ValueError: the text is none of this kind; the message says what it must be.
        """
        ...

    def schema(self) -> Json:
        """The kind in JSON Schema."""
        ...


@dataclass(frozen=True)
class Text:
    """A text that is not empty."""

    longest: int = MAX_TEXT

    def read(self, text: str) -> str:
        if not 0 < len(text) <= self.longest or "\0" in text:
            raise ValueError(f"must have 1 to {self.longest} characters, and no NUL among them")
        return text

    def schema(self) -> Json:
        return {"type": "string", "minLength": 1, "maxLength": self.longest, "pattern": "^[^\\u0000]+$"}


@dataclass(frozen=True)
class Integer:
    """A whole number within bounds."""

    least: int
    most: int

    def read(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not self.least <= int(text) <= self.most:
            raise ValueError(f"must be a whole number from {self.least} to {self.most}")
        return int(text)

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}")
        return text

    def schema(self) -> Json:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Flag:
    """`true` or `false`."""

    def read(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Moment:
    """A date or a time of ISO 8601. Without a zone it is local time, and a date is its midnight."""

    def read(self, text: str) -> datetime:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise ValueError("must be a date as 2026-10-01 or a time as 2026-10-01T12:00:00Z")
        day, clock, second, fraction, zone = found.groups()
        # A leap second and fractions beyond the microsecond are valid, and more than Python can hold.
        second = "59" if second == "60" else second or "00"
        try:
            at = datetime.combine(
                date.fromisoformat(day), time.fromisoformat(f"{clock or '00:00'}:{second}")
            ).replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
            return _in_utc(at, zone)
        except ValueError:
            raise ValueError("is no date of the calendar, or no time of the day") from None

    def schema(self) -> Json:
        return {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}


def _in_utc(at: datetime, zone: str | None) -> datetime:
    offset = timedelta() if zone is None or zone in "Zz" else _offset(zone)
    try:
        return at.astimezone(timezone.utc) if zone is None else (at - offset).replace(tzinfo=timezone.utc)
    except (OverflowError, OSError, ValueError):
        # The first and the last days of the calendar lie outside it in another zone.
        return at.replace(tzinfo=timezone.utc)


def _offset(zone: str) -> timedelta:
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


@dataclass(frozen=True)
class Parameter:
    """A parameter in the address' query.

    Attributes:
        default: its value where it is not given.
        many: it may be given several times; the value is a tuple.
    """

    name: str
    kind: Kind
    doc: str
    default: Any = None
    many: bool = False

    def schema(self) -> Json:
        """The parameter in JSON Schema."""
        if self.many:
            return {"type": "array", "items": self.kind.schema(), "minItems": 1, "maxItems": 100}
        default = {} if self.default is None else {"default": self.default}
        return {**self.kind.schema(), **default}

    def read(self, given: Sequence[str]) -> Any:
        """The value of what a client gave.

        Raises:
            BadRequest: it is no such value.
        """
        if not given:
            return () if self.many else self.default
        if len(given) > (100 if self.many else 1):
            raise BadRequest(f"parameter {self.name!r} is given {len(given)} times")
        try:
            values = tuple(self.kind.read(each) for each in given)
        except ValueError as error:
            raise BadRequest(f"parameter {self.name!r} {error}") from None
        return values if self.many else values[0]


def read_query(declared: Sequence[Parameter], pairs: Iterable[tuple[str, str]]) -> Json:
    """The values of a query, by the parameters' names.

    Raises:
        BadRequest: a value is wrong, or a parameter is not one of those declared.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    names = [each.name for each in declared]
    unknown = sorted(set(given) - set(names))
    if unknown:
        known = f"there are {', '.join(names)}" if names else "there are none here"
        raise BadRequest(f"no parameter is called {unknown[0][:MAX_TEXT]!r}: {known}")
    return {each.name: each.read(given.get(each.name, ())) for each in declared}
