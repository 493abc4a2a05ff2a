"""What went into a call and what came out, copied once, and the message by which later calls are shown it.

An `Exchange` never changes and is shared by all who hold it: turns, forks, snapshots. A `Projection` says which of its
fields a history shows; a `Message` is those fields.
"""

from __future__ import annotations

import copy
import itertools
import uuid
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

from dspy_session.codec.stand_in import StandIn, type_name

ATOMS = (str, int, float, bool, type(None), bytes, complex, Decimal, date, timedelta, Enum, uuid.UUID)
_message_keys = itertools.count()


def keep(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Copy field values so that nobody can change them later.

    A value that cannot be copied becomes a `StandIn`, with a warning: a paid answer is never lost for it.

    Args:
        values: field names to values.
        what: how the warning calls the holder of the field, such as `"the output"`.
    """
    kept = {}
    for name, value in values.items():
        if isinstance(value, ATOMS):
            kept[name] = value
            continue
        try:
            kept[name] = copy.deepcopy(value)
        except Exception as error:
            kept[name] = StandIn.of(value)
            warnings.warn(
                f"{what} {name!r} ({type_name(type(value))}) cannot be copied ({error}): "
                "the turn is recorded with its text in its place",
                stacklevel=2,
            )
    return kept


def has_stand_in(values: Mapping[str, Any]) -> bool:
    """Whether a value lost its type when it was recorded, so that a replay cannot be exact."""
    return any(isinstance(value, StandIn) for value in values.values())


def private(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of kept values that its holder may change."""
    return {name: value if isinstance(value, ATOMS) else _copied(value) for name, value in values.items()}


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        # It could be copied when it was kept; one that no longer can must not make the turn unreadable.
        return StandIn.of(value)


@lru_cache(maxsize=4_096)
def _shared_names(names: tuple[str, ...]) -> frozenset[str]:
    # The turns of a conversation have the same inputs: they share one set of their names.
    return frozenset(names)


class Message(dict[str, Any]):
    """One past exchange as a history shows it: a plain dict of fields that also knows which of them went in.

    Never changed after it is made; `key` identifies it in caches of rendered text (None: do not cache).
    """

    __slots__ = ("input_names", "key")

    def __init__(
        self, values: Mapping[str, Any], input_names: Iterable[str], *, cached: bool = False
    ) -> None:
        super().__init__(values)
        self.input_names = _shared_names(tuple(input_names))
        self.key = next(_message_keys) if cached else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Message:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Message, (dict(self), self.input_names))

    def plain(self) -> dict[str, Any]:
        """A dict that its holder may change."""
        return private(self)


@dataclass(frozen=True, slots=True)
class Projection:
    """Which fields of a turn enter the history.

    Attributes:
        exclude: names left out, of inputs, outputs and extras.
        inputs: if not None, the only inputs that enter.
        extras: names of extras that enter beside the outputs.
    """

    exclude: frozenset[str] = frozenset()
    inputs: frozenset[str] | None = None
    extras: frozenset[str] = frozenset()

    def shows_input(self, name: str) -> bool:
        return name not in self.exclude and (self.inputs is None or name in self.inputs)


ALL_FIELDS = Projection()


class Exchange:
    """What went into a call and what came out of it.

    Attributes:
        inputs: the program's inputs.
        outputs: the program's declared outputs.
        extras: whatever else the prediction carried; not shown to later calls unless asked for.
    """

    __slots__ = ("_messages", "extras", "inputs", "outputs")

    def __init__(
        self, inputs: dict[str, Any], outputs: dict[str, Any], extras: dict[str, Any] | None = None
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.extras = extras or None
        self._messages: tuple[Projection, Message] | None = None

    def message(self, projection: Projection) -> Message:
        """The fields that enter a history; an output called like an input is named `output_<name>`."""
        cached = self._messages
        if cached is not None and cached[0] == projection:
            return cached[1]
        values = {name: value for name, value in self.inputs.items() if projection.shows_input(name)}
        input_names = list(values)
        shown = [item for item in self.outputs.items() if item[0] not in projection.exclude]
        shown += [item for item in (self.extras or {}).items() if item[0] in projection.extras]
        for name, value in shown:
            values[output_name(name, self.inputs)] = value
        message = Message(values, input_names, cached=True)
        self._messages = (projection, message)
        return message


def output_name(name: str, inputs: Iterable[str]) -> str:
    """The name under which an output stands beside the inputs in one flat dict."""
    return f"output_{name}" if name in inputs else name
