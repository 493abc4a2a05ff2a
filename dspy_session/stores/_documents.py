"""Documents as stores write them: checked, in one canonical text form, with a digest.

The canonical form of a document is its JSON (RFC 8259) in UTF-8 without insignificant white space, members
in the order given, non-ASCII characters as themselves. A document that holds a lone surrogate, which UTF-8
cannot express, is escaped to ASCII as a whole. A turn's digest is BLAKE2b of that text with 16 bytes of
output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any

from ..errors import (
    ConfigurationError,
    ConversationExistsError,
    ConversationNotFoundError,
    FormatError,
    LeaseError,
    SerializationError,
    StaleStateError,
    StoreError,
    UnknownPathError,
)
from .base import MAX_KEY_BYTES, Document

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_COUNT = 2**53  # what every backend can count to: Redis' scripts calculate in double precision
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class TurnText:
    """A turn, ready to be written."""

    id: str
    text: str
    digest: bytes


@dataclass(frozen=True)
class NoteText:
    """An annotation, ready to be written. `name` stands for its kind and path, `turn` is None or an id."""

    name: str
    turn: str | None
    text: str


@dataclass(frozen=True)
class Commit:
    """One call of `Store.append` or `Store.create`, checked and encoded."""

    scope: str
    key: str
    turns: tuple[TurnText, ...]
    notes: tuple[NoteText, ...]
    expected: str = ""
    keep: int | None = None
    fence: int | None = None
    title: str | None = None
    tags: str | None = None
    cost: float = 0.0
    last: Document | None = field(default=None, compare=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return (
            not (self.turns or self.notes or self.cost) and (self.keep, self.title, self.tags) == (None,) * 3
        )

    def receipt(self) -> bytes:
        """A digest of the whole commit, by which its repetition is recognised."""
        parts: list[object] = [self.expected, self.keep, self.title, self.tags, self.cost]
        parts += [(turn.id, turn.digest) for turn in self.turns]
        parts += [(note.name, note.turn, note.text) for note in self.notes]
        return digest_of(repr(parts))


def digest_of(text: str) -> bytes:
    """The digest of a canonical text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def check_key(value: object, what: str) -> str:
    """`value`, if it can be a key, scope or turn id."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must be a str, not {type(value).__name__}")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what} holds a lone surrogate, which is no Unicode text") from None
    if size > MAX_KEY_BYTES:
        raise ConfigurationError(f"{what} has {size} bytes in UTF-8; at most {MAX_KEY_BYTES} are allowed")
    return value


def check_count(value: int | None, what: str) -> int | None:
    """`value`, if it is a number of turns or None."""
    if value is not None and (type(value) is not int or not 0 <= value <= _MAX_COUNT):
        raise ConfigurationError(f"{what} must be a whole number from 0 to 2**53, not {value!r}")
    return value


def check_cost(value: float) -> float:
    """`value`, if it can be added to a cost."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"cost must be a finite number, not {value!r}")
    return float(value)


def encode(document: Mapping[str, Any], what: str) -> str:
    """The canonical text of a document."""
    if not isinstance(document, Mapping):
        raise SerializationError(f"{what} must be a JSON object (a mapping), not {type(document).__name__}")
    return _dump(document if isinstance(document, dict) else dict(document), what)


def _dump(value: Any, what: str) -> str:
    try:
        _check_names(value)
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"{what} is not JSON: {error}") from error
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def _check_names(value: Any) -> None:
    """Refuse member names that JSON would silently turn into strings: they would not come back as given."""
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise TypeError(f"the name {name!r} of a member is no string")
            if isinstance(member, (dict, list, tuple)):
                _check_names(member)
    else:
        for member in value:
            if isinstance(member, (dict, list, tuple)):
                _check_names(member)


def decode(text: str, what: str) -> Document:
    """The document of a canonical text."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{what} is damaged: {error}. `verify` lists every damaged place") from error
    if not isinstance(document, dict):
        raise FormatError(f"{what} is damaged: it is no JSON object")
    return document


def encode_turns(turns: Iterable[Mapping[str, Any]]) -> tuple[TurnText, ...]:
    """The turns of a commit, whose ids must differ."""
    rows: dict[str, TurnText] = {}
    for turn in turns:
        text = encode(turn, "a turn")
        name = check_key(turn.get("id"), "the id of a turn")
        if name in rows:
            raise ConfigurationError(f"two turns of one commit have the id {name!r}")
        rows[name] = TurnText(name, text, digest_of(text))
    return tuple(rows.values())


def encode_notes(annotations: Iterable[Mapping[str, Any]]) -> tuple[NoteText, ...]:
    """The annotations of a commit."""
    return tuple(_encode_note(annotation) for annotation in annotations)


def _encode_note(annotation: Mapping[str, Any]) -> NoteText:
    text = encode(annotation, "an annotation")
    kind, path, turn = annotation.get("kind"), annotation.get("path"), annotation.get("turn")
    if not isinstance(kind, str):
        raise ConfigurationError(f"an annotation's kind must be a str, not {kind!r}")
    if path is not None and not isinstance(path, str):
        raise ConfigurationError(f"an annotation's path must be a str, not {path!r}")
    if turn is not None:
        check_key(turn, "an annotation's turn")
    name = json.dumps([kind] if path is None else [kind, path], separators=(",", ":"))
    check_key(name, "an annotation's kind and path, as JSON,")
    return NoteText(name, turn, text)


def encode_tags(tags: Sequence[str]) -> str:
    """Tags as JSON text."""
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigurationError(f"tags must be a sequence of str, not {tags!r}")
    return json.dumps(list(tags), separators=(",", ":"))


def encode_title(title: str) -> str:
    """A title as JSON text, which keeps what a database's own text type may refuse."""
    if not isinstance(title, str):
        raise ConfigurationError(f"the title must be a str, not {type(title).__name__}")
    return json.dumps(title)


def to_micros(moment: datetime, what: str) -> int:
    """Microseconds since 1970 in UTC."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(f"{what} must be a datetime with a time zone, not {moment!r}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The aware datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def revision_of(incarnation: str, version: int) -> str:
    """A revision: which life of the key, and how many commits it has had."""
    return f"{incarnation}.{version}"


# -- refusals: one wording for all backends -----------------------------------------------------------------


def not_found(scope: str, key: str) -> ConversationNotFoundError:
    """The error for a key that has no conversation."""
    return ConversationNotFoundError(f"there is no conversation {key!r} in scope {scope!r}")


def exists(scope: str, key: str) -> ConversationExistsError:
    """The error for a key that is taken."""
    return ConversationExistsError(f"there is a conversation {key!r} in scope {scope!r} already")


def has_forks(key: str, forks: Sequence[str]) -> StoreError:
    """The error for erasing a conversation that has forks."""
    return StoreError(
        f"{key!r} has forks which share turns with it: {', '.join(map(repr, sorted(forks)))}. "
        'Say forks="keep" to leave them what they share, or forks="erase" to erase them too'
    )


def stale(commit: Commit, found: str) -> StaleStateError:
    """The error for a commit that was based on an older revision."""
    return StaleStateError(commit.expected, found, commit.last)


def fence_lost(commit: Commit) -> LeaseError:
    """The error for a commit whose lease is not held any more."""
    return LeaseError(
        f"the lease of {commit.key!r} (scope {commit.scope!r}) with token {commit.fence} is lost: somebody"
        " took over after it expired, or it was released. Nothing was written: load again and append"
    )


def duplicate(turn: str, key: str) -> StoreError:
    """The error for an id that is on the line with another content."""
    return StoreError(f"a turn with the id {turn!r} is in {key!r} already, elsewhere or with other content")


def no_position(keep: int, first: int, total: int) -> UnknownPathError:
    """The error for a position that the line does not have."""
    return UnknownPathError(
        f"{keep} is no position of this conversation: it has those from {first} to {total}"
    )


def no_turn(turn: str, key: str) -> UnknownPathError:
    """The error for an annotation about a turn that is not on the line."""
    return UnknownPathError(f"an annotation speaks of the turn {turn!r}, which is not on the line of {key!r}")


def refusal(commit: Commit, outcome: str, detail: str, turn: str | None) -> StoreError | UnknownPathError:
    """The error for an outcome of the commit function of a database."""
    if outcome == "missing":
        return not_found(commit.scope, commit.key)
    if outcome == "fence":
        return fence_lost(commit)
    if outcome == "stale":
        return stale(commit, detail)
    if outcome == "position":
        first, total = map(int, detail.split())
        return no_position(commit.keep or 0, first, total)
    if outcome == "duplicate":
        return duplicate(turn or "", commit.key)
    return no_turn(turn or "", commit.key)
