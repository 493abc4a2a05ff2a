"""Points in time, which OpenCode and its plugins write as milliseconds since the epoch or as ISO texts."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

from dspy_session.errors import ConfigurationError

When = str | date | datetime | int | float

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST = datetime.min.replace(tzinfo=timezone.utc)
_LAST = datetime.max.replace(tzinfo=timezone.utc)
_FURTHEST = 253_402_300_800
"""Seconds from 1970 to the end of the year 9999, and more than to the beginning of the year 1."""


def moment(milliseconds: int) -> datetime:
    """The UTC time of milliseconds since the epoch, held within the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LAST if milliseconds > 0 else _FIRST


def stamp(milliseconds: int) -> str:
    """Milliseconds since the epoch as JavaScript writes a time: `2025-11-28T13:26:00.715Z`."""
    return moment(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_stamp(value: Any) -> int:
    """An ISO time, in UTC unless it says otherwise, as milliseconds since the epoch; 0 for anything else."""
    try:
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return 0
    return ((at if at.tzinfo else at.replace(tzinfo=timezone.utc)) - _EPOCH) // timedelta(milliseconds=1)


def milliseconds(when: When) -> int:
    """What a user gives as a time, as milliseconds since the epoch.

    Args:
        when: an ISO date or time, a `date` or `datetime`, or seconds since the epoch. Without a zone it is
            local time, and a date is its midnight.

    Raises:
        ConfigurationError: the text is no ISO date or time, or the number no time of the years 1 to 9999.
    """
    if isinstance(when, (int, float)):
        if not -_FURTHEST < when < _FURTHEST:
            raise ConfigurationError(f"{when!r} is no time: give seconds since 1970, not milliseconds")
        return round(when * 1000)
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ConfigurationError(
                f"{when!r} is no date: write it as 2026-10-01 or 2026-10-01T12:00"
            ) from None
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day)
    return (_aware(when) - _EPOCH) // timedelta(milliseconds=1)


def _aware(when: datetime) -> datetime:
    if when.tzinfo:
        return when
    try:
        return when.astimezone()
    except (ValueError, OverflowError):
        # Local time is not known at the ends of the calendar, where a day more or less asks for the same.
        return when.replace(tzinfo=timezone.utc)
