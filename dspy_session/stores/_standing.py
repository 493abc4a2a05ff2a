"""What of a commit stands on a line of the SQL stores already: a commit that is repeated must be written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _documents as documents
from ._documents import Commit
from ._lines import Position, Run, line


@dataclass(frozen=True)
class Found:
    """A turn on a line; `version` is that of its commit, as the conversation counts."""

    index: int
    version: int
    digest: bytes


def find(run: Run, p: Position, turn: Any) -> Found | None:
    """A turn of the line, by its id as the dialect stores it."""
    sql = "SELECT segment, idx, version, digest FROM turn WHERE family = ? AND id = ?"
    rows = run(sql, p.family, turn)
    if not rows:
        return None
    spans = {span.segment: span for span in line(run, p, min(row[1] for row in rows))}
    for segment, index, version, digest in rows:
        span = spans.get(segment)
        if span is not None and p.first <= index < span.stop:
            return Found(index, version if span.owner == p.id else 1, bytes(digest))
    return None


def standing(run: Run, p: Position, commit: Commit, raw: Callable[[str], Any]) -> tuple[int, int] | None:
    """Index of the first and version of the last turn of a commit, if it stands on the line."""
    stands: list[Found] = []
    for place, turn in enumerate(commit.turns):
        found = find(run, p, raw(turn.id))
        if found is None or found.digest != turn.digest:
            return None
        stands.append(found)
        if found.index != stands[0].index + place:
            return None
    return (stands[0].index, stands[-1].version) if stands else None


def repeated(run: Run, p: Position, commit: Commit, raw: Callable[[str], Any]) -> str | None:
    """The revision that an outdated commit had produced, if it was written before."""
    if bytes(p.receipt) == commit.receipt():
        return p.revision
    stands = standing(run, p, commit, raw)
    if stands is None or commit.keep not in (None, stands[0]):
        return None
    return documents.revision_of(p.incarnation, stands[1])
