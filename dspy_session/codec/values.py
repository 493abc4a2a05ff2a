"""Field values ↔ JSON, with their types.

Strings, finite numbers, booleans, None, lists, and dicts with string keys stand for themselves. Everything else is an
object with the key `$type`, and further keys for each type:

- `tuple`, `set`, `frozenset`: `items`.
- `dict`: `items`, in pairs; a dict whose keys are not all strings, or that has a key beginning with `$`.
- `bytes`, `bytearray`: `base64`.
- `float`: `value`, which is `nan`, `inf` or `-inf`; JSON has no number for them.
- `complex`: `real`, `imag`.
- `datetime`, `date`, `time`: `iso`, in ISO 8601.
- `timedelta`: `days`, `seconds`, `microseconds`.
- `decimal`, `uuid`, `path`: `value`, their text.
- `enum`: `class` and `name`; or `value` for several flags at once.
- `dataclass`, `model` (pydantic's): `class`, `fields`.
- `example`, `prediction` (DSPy's): `fields`, `inputs`.
- `stand-in`: `class`, `text`, `data`; a value whose type could not be kept.

`class` is `module:qualified.name`. A class is never imported for it: it must be one of DSPy's types, be named in the
program's signature, or be passed by the loading program as `types=[…]`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path
from typing import Any
from uuid import UUID

import dspy
import pydantic

from dspy_session.codec.known_types import collect, known_types
from dspy_session.codec.stand_in import StandIn, type_name
from dspy_session.errors import FormatError, SerializationError

Json = Any


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


class Encoder:
    """Writes values. With `strict`, a value that cannot keep its type is an error that names its place.

    Args:
        strict: raise instead of writing a stand-in.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict

    def fields(self, values: Mapping[str, Any], place: str) -> dict[str, Json]:
        """Field values; `place` says for errors whose they are."""
        try:
            return {name: self.value(value, f"{place}, field {name!r}") for name, value in values.items()}
        except RecursionError:
            raise SerializationError(f"{place}: a value contains itself") from None

    def value(self, value: Any, place: str) -> Json:
        """One value.

        Raises:
            SerializationError: it cannot keep its type, and the encoder is strict.
        """
        if value is None or type(value) in (str, bool, int):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$type": "float", "value": repr(value)}
        if type(value) is list:
            return [self.value(item, place) for item in value]
        if isinstance(value, dict) and type(value).__name__ in ("dict", "Message"):
            return self._dict(value, place)
        return self._tagged(value, place)

    def _dict(self, value: Mapping[Any, Any], place: str) -> Json:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.value(item, place) for key, item in value.items()}
        pairs = [[self.value(key, place), self.value(item, place)] for key, item in value.items()]
        return {"$type": "dict", "items": pairs}

    def _tagged(self, value: Any, place: str) -> Json:
        for kind, write in _WRITERS:
            if isinstance(value, kind):
                return write(self, value, place)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self._object("dataclass", value, given, place)
        return self.stand_in(value, place)

    def _object(self, tag: str, value: Any, given: Mapping[str, Any], place: str) -> Json:
        fields = {name: self.value(item, place) for name, item in given.items()}
        return {"$type": tag, "class": type_name(type(value)), "fields": fields}

    def stand_in(self, value: Any, place: str) -> Json:
        """What is written of a value whose type cannot be kept."""
        held = value if isinstance(value, StandIn) else StandIn.of(value)
        if not isinstance(value, StandIn):
            if self.strict:
                raise SerializationError(
                    f"{place}: a {held.type_name} cannot be written so that it comes back"
                )
            warnings.warn(
                f"{place}: a {held.type_name} cannot keep its type in a file; its text is written",
                stacklevel=2,
            )
        return {"$type": "stand-in", "class": held.type_name, "text": str(held), "data": held.data}


def _items(tag: str) -> Callable[[Encoder, Any, str], Json]:
    def write(encoder: Encoder, value: Any, place: str) -> Json:
        if type(value) not in (tuple, set, frozenset):
            return encoder.stand_in(value, place)
        items = list(value) if tag == "tuple" else sorted(value, key=repr)
        return {"$type": tag, "items": [encoder.value(item, place) for item in items]}

    return write


def _history(encoder: Encoder, value: Any, place: str) -> Json:
    fields = {"messages": [encoder.value(dict(message), place) for message in value.messages]}
    return {"$type": "model", "class": type_name(dspy.History), "fields": fields}


def _model(encoder: Encoder, value: Any, place: str) -> Json:
    given = {name: getattr(value, name) for name in type(value).model_fields if hasattr(value, name)}
    return encoder._object("model", value, {**given, **(value.model_extra or {})}, place)


def _example(tag: str) -> Callable[[Encoder, Any, str], Json]:
    def write(encoder: Encoder, value: Any, place: str) -> Json:
        fields = encoder.value(dict(value.items(include_dspy=True)), place)
        inputs = getattr(value, "_input_keys", None)
        return {"$type": tag, "fields": fields, "inputs": None if inputs is None else sorted(inputs)}

    return write


def _enum(encoder: Encoder, value: Any, place: str) -> Json:
    wire = {"$type": "enum", "class": type_name(type(value))}
    if isinstance(value, Flag) and value.name not in type(value).__members__:
        # Several flags at once have no name of their own.
        return {**wire, "value": value.value}
    return {**wire, "name": value.name}


def _text(tag: str, key: str, read: Callable[[Any], str]) -> Callable[[Encoder, Any, str], Json]:
    def write(encoder: Encoder, value: Any, place: str) -> Json:
        if type(value).__name__ not in (tag, tag.title(), "UUID", "PosixPath", "WindowsPath"):
            # A subclass would come back as its base.
            return encoder.stand_in(value, place)
        return {"$type": tag, key: read(value)}

    return write


def _timedelta(encoder: Encoder, value: Any, place: str) -> Json:
    if type(value) is not timedelta:
        return encoder.stand_in(value, place)
    return {
        "$type": "timedelta",
        "days": value.days,
        "seconds": value.seconds,
        "microseconds": value.microseconds,
    }


def _complex(encoder: Encoder, value: Any, place: str) -> Json:
    return {
        "$type": "complex",
        "real": encoder.value(value.real, place),
        "imag": encoder.value(value.imag, place),
    }


# The first that fits is used: subclasses stand before their bases.
_WRITERS: list[tuple[Any, Callable[[Encoder, Any, str], Json]]] = [
    (StandIn, Encoder.stand_in),
    (Enum, _enum),
    (dspy.History, _history),
    (dspy.Prediction, _example("prediction")),
    (dspy.Example, _example("example")),
    (pydantic.BaseModel, _model),
    (datetime, _text("datetime", "iso", lambda v: v.isoformat())),
    (date, _text("date", "iso", lambda v: v.isoformat())),
    (time, _text("time", "iso", lambda v: v.isoformat())),
    (timedelta, _timedelta),
    (Decimal, _text("decimal", "value", str)),
    (UUID, _text("uuid", "value", str)),
    (Path, _text("path", "value", str)),
    (bytes, _text("bytes", "base64", lambda v: base64.b64encode(v).decode("ascii"))),
    (bytearray, _text("bytearray", "base64", lambda v: base64.b64encode(v).decode("ascii"))),
    (complex, _complex),
    (tuple, _items("tuple")),
    (set, _items("set")),
    (frozenset, _items("frozenset")),
]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


class Decoder:
    """Reads values. A class that was not named becomes a `StandIn`, with one warning each.

    Args:
        types: classes that may come back, beside DSPy's.
        annotations: annotations whose classes may come back.
    """

    def __init__(self, types: Iterable[type] = (), annotations: Iterable[Any] = ()) -> None:
        self._types = known_types()
        for annotation in (*types, *annotations):
            collect(annotation, self._types)
        self._missing: set[str] = set()

    def fields(self, values: Any, place: str) -> dict[str, Any]:
        """Field values."""
        if not isinstance(values, Mapping):
            raise FormatError(f"{place}: expected an object of fields, found {type(values).__name__}")
        return {str(name): self.value(value, f"{place}, field {name!r}") for name, value in values.items()}

    def value(self, value: Json, place: str) -> Any:
        """One value.

        Raises:
            FormatError: it is not what `Encoder` writes.
        """
        if isinstance(value, list):
            return [self.value(item, place) for item in value]
        if not isinstance(value, Mapping):
            return value
        if "$type" not in value:
            return {key: self.value(item, place) for key, item in value.items()}
        read = _READERS.get(value["$type"]) if isinstance(value["$type"], str) else None
        if read is None:
            raise FormatError(f"{place}: unknown $type {value['$type']!r}")
        try:
            return read(self, value, place)
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, ArithmeticError, binascii.Error) as error:
            raise FormatError(
                f"{place}: damaged {value['$type']} ({type(error).__name__}: {error})"
            ) from error

    def items(self, data: Mapping[str, Any], place: str) -> list[Any]:
        return [self.value(item, place) for item in data["items"]]

    def knows(self, name: Any) -> bool:
        """Whether the loading program named a class."""
        return isinstance(name, str) and name in self._types

    def lookup(self, data: Mapping[str, Any], place: str) -> type | None:
        """The class that is named, if the loading program knows it."""
        name = data["class"]
        found = self._types.get(name)
        if found is None and name not in self._missing:
            self._missing.add(name)
            warnings.warn(
                f"{place}: {name} is not known to this program; pass types=[…] with the class to get it back. "
                "Until then a StandIn holds its data",
                stacklevel=2,
            )
        return found


def _read_object(decoder: Decoder, data: Mapping[str, Any], place: str) -> Any:
    fields = decoder.fields(data["fields"], place)
    cls = decoder.lookup(data, place)
    text = ", ".join(f"{k}={v!r}" for k, v in fields.items())
    if cls is None:
        return StandIn(text, data["class"], dict(data))
    make = _validated if data["$type"] == "model" else _dataclass
    try:
        return make(cls, fields)
    except (TypeError, ValueError, AttributeError) as error:
        return _outgrown(data, text, place, error)


def _outgrown(data: Mapping[str, Any], text: str, place: str, error: Exception) -> StandIn:
    """A value of a class that has changed since: it must not make the whole conversation unreadable."""
    warnings.warn(
        f"{place}: {data['class']} no longer takes what the file holds ({type(error).__name__}). "
        "A StandIn holds its data",
        stacklevel=2,
    )
    return StandIn(text, data["class"], dict(data))


def _dataclass(cls: type, fields: dict[str, Any]) -> Any:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is no dataclass")
    made = {f.name: f.init for f in dataclasses.fields(cls)}
    value = cls(**{name: item for name, item in fields.items() if made.get(name, True)})
    for name, item in fields.items():
        if not made.get(name, True):
            object.__setattr__(value, name, item)
    return value


def _validated(cls: type, fields: dict[str, Any]) -> Any:
    """A model of its own field values. Validation by alias or a validator that transforms would change them."""
    if not issubclass(cls, pydantic.BaseModel):
        raise TypeError(f"{cls.__name__} is no pydantic model")
    try:
        value = cls.model_validate(fields)
        if all(getattr(value, name, None) == item for name, item in fields.items()):
            return value
    except pydantic.ValidationError as error:
        required = {name for name, info in cls.model_fields.items() if info.is_required()}
        if not required <= fields.keys() or not _only_alias(error):
            raise
    return cls.model_construct(**fields)


def _only_alias(error: pydantic.ValidationError) -> bool:
    return all(problem["type"] in ("missing", "extra_forbidden") for problem in error.errors())


def _read_example(decoder: Decoder, data: Mapping[str, Any], place: str) -> Any:
    fields = decoder.fields(data["fields"], place)
    if data["$type"] == "prediction":
        return dspy.Prediction(**fields)
    example = dspy.Example(fields)
    return example if data.get("inputs") is None else example.with_inputs(*data["inputs"])


def _read_enum(decoder: Decoder, data: Mapping[str, Any], place: str) -> Any:
    cls = decoder.lookup(data, place)
    text = str(data.get("name", data.get("value")))
    if cls is None:
        return StandIn(text, data["class"], dict(data))
    try:
        return cls(data["value"]) if "value" in data else cls[data["name"]]  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        return _outgrown(data, text, place, error)


def _read_stand_in(decoder: Decoder, data: Mapping[str, Any], place: str) -> Any:
    held = data.get("data")
    if isinstance(held, Mapping) and decoder.knows(held.get("class")):
        return decoder.value(held, place)
    if not isinstance(data["text"], str) or not isinstance(data["class"], str):
        raise TypeError("text and class must be strings")
    return StandIn(data["text"], data["class"], held)


_READERS: dict[str, Callable[[Decoder, Mapping[str, Any], str], Any]] = {
    "tuple": lambda d, v, p: tuple(d.items(v, p)),
    "set": lambda d, v, p: set(d.items(v, p)),
    "frozenset": lambda d, v, p: frozenset(d.items(v, p)),
    "dict": lambda d, v, p: {d.value(key, p): d.value(item, p) for key, item in v["items"]},
    "bytes": lambda d, v, p: base64.b64decode(v["base64"], validate=True),
    "bytearray": lambda d, v, p: bytearray(base64.b64decode(v["base64"], validate=True)),
    "float": lambda d, v, p: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[v["value"]],
    "complex": lambda d, v, p: complex(d.value(v["real"], p), d.value(v["imag"], p)),
    "datetime": lambda d, v, p: datetime.fromisoformat(v["iso"]),
    "date": lambda d, v, p: date.fromisoformat(v["iso"]),
    "time": lambda d, v, p: time.fromisoformat(v["iso"]),
    "timedelta": lambda d, v, p: timedelta(v["days"], v["seconds"], v["microseconds"]),
    "decimal": lambda d, v, p: Decimal(v["value"]),
    "uuid": lambda d, v, p: UUID(v["value"]),
    "path": lambda d, v, p: Path(v["value"]),
    "enum": _read_enum,
    "dataclass": _read_object,
    "model": _read_object,
    "example": _read_example,
    "prediction": _read_example,
    "stand-in": _read_stand_in,
}
