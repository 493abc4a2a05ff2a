"""How the keys of the Redis store hold turns, and what its scripts answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import _documents as documents
from ._documents import Commit
from ._rows import RawTurn


def as_text(raw: Any) -> str:
    return bytes(raw).decode("utf-8")


def commit_rows(commit: Commit) -> Iterator[str | int]:
    yield len(commit.turns)
    for turn in commit.turns:
        yield from (turn.id, turn.digest.hex(), turn.text)
    yield len(commit.notes)
    for note in commit.notes:
        yield from (note.name, "-" if note.turn is None else f"+{note.turn}", note.text)


def split_turn(element: bytes) -> tuple[str, str]:
    """Id and text of a turn, as the list of its segment holds it."""
    length, _, rest = element.partition(b" ")
    return rest[: int(length)].decode("utf-8"), rest[int(length) :].decode("utf-8")


def read_window(flat: Sequence[Any]) -> Iterator[RawTurn]:
    place = 0
    while place < len(flat):
        index, element, count = flat[place : place + 3]
        latest: dict[bytes, str] = {}
        for at in range(place + 3, place + 3 + 2 * count, 2):
            latest.pop(flat[at], None)
            latest[flat[at]] = as_text(flat[at + 1])
        turn, text = split_turn(element)
        yield RawTurn(int(index), turn, text, list(latest.values()))
        place += 3 + 2 * count


def check_rows(answer: Sequence[Any]) -> Iterator[tuple[int | None, str]]:
    """What is wrong in the answer of the verify script: index or None, and a sentence."""
    _, head_digest, head, first, total, rows = answer
    if head is None:
        yield None, "its head is missing"
    elif as_text(head_digest) != documents.digest_of(as_text(head)).hex():
        yield None, "the head's digest does not match its text"
    expected = int(first)
    for index, segment, element, entry in rows:
        yield from ((missing, "the turn is missing") for missing in range(expected, index))
        expected = index + 1
        try:
            yield from ((index, what) for what in check_turn(element, entry, f"{segment} {index} "))
        except ValueError as error:
            yield index, f"the turn is damaged: {error}"
    yield from ((missing, "the turn is missing") for missing in range(expected, int(total)))


def check_turn(element: bytes, entry: bytes, place: str) -> Iterator[str]:
    turn, text = split_turn(element)
    known = [part for part in as_text(entry).split(";") if part.startswith(place)]
    if not known:
        yield f"the turn is not filed under its id {turn!r}"
    elif known[0].split()[3] != documents.digest_of(text).hex():
        yield "the turn's digest does not match its text"
    if documents.decode(text, "the turn").get("id") != turn:
        yield f"the turn is filed under the id {turn!r}, which is not its own"
