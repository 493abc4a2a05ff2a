"""Lines of turns in the tables of the SQL stores: reading them, and deleting what no line shows.

Tables (the types are the dialect's):

- `conversation`: a position (`segment`, `total`) with a revision (`incarnation`, `version`) and a summary.
  Turns below `first` were pruned. `open` says that the next commit may go on in the segment: the conversation
  owns it and stands at its end. Otherwise the next commit opens a segment, and of the annotations in this one
  only those up to version `bound` count.
- `segment`: a piece of a line: from index `start` on it has turns of its own, before that those of
  `parent`, of whose annotations those up to version `bound` count. A fork is a conversation row, nothing
  else; moving back is a changed `total`. Segments of conversations that share turns have the same `family`.
- `turn`: a turn, written once.
- `note`: an annotation. `about` is the index of the turn it speaks of, or -1; `at` is the position after the
  commit that wrote it. A new segment begins with copies of the annotations without a turn which count at its
  start, so that reading them never walks the line.
- `head`: a head document, shared by forks. `lease`: the leases.

Hence a line is read as a short list of spans, newest first: in segment s the turns from its start up to where
the next newer segment takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..errors import FormatError
from . import _documents as documents

Run: TypeAlias = Callable[..., list[Any]]
"""Executes one statement with its parameters and returns the rows."""

HOUR = 3_600_000_000
"""In microseconds. The index for the latest conversations is by the hour, so that few commits change it."""

UNBOUND = 2**62
"""A bound that no version reaches."""

POSITION = (
    "SELECT id, incarnation, version, receipt, family, segment, total, first, open, bound, head, hour"
    " FROM conversation WHERE scope = ? AND key = ?"
)
_STANDING_NOTES = """
WITH RECURSIVE names(name) AS (
    SELECT (SELECT min(name) FROM note WHERE segment = ? AND about = -1)
    UNION ALL
    SELECT (SELECT min(note.name) FROM note WHERE segment = ? AND about = -1 AND note.name > names.name)
    FROM names WHERE names.name IS NOT NULL)
SELECT note.name, note.data FROM names JOIN note ON note.id = (
    SELECT n.id FROM note n
    WHERE n.segment = ? AND n.about = -1 AND n.name = names.name AND n.at <= ? AND n.version <= ?
    ORDER BY n.at DESC, n.version DESC, n.id DESC LIMIT 1)
ORDER BY note.id"""


class Position(NamedTuple):
    """A row of `conversation`, without its summary."""

    id: int
    incarnation: str
    version: int
    receipt: bytes
    family: int
    segment: int
    total: int
    first: int
    open: int
    bound: int
    head: int
    hour: int

    @property
    def revision(self) -> str:
        return documents.revision_of(self.incarnation, self.version)

    @property
    def limit(self) -> int:
        """Up to which version the annotations of the position's segment count, for whoever builds on it."""
        return self.version if self.open else self.bound


class Span(NamedTuple):
    """The part of a line that lies in one segment; without turns if `start` is not below `stop`."""

    segment: int
    owner: int
    start: int
    stop: int
    bound: int


def line(run: Run, p: Position, lowest: int) -> list[Span]:
    """The spans of a line, newest first, down to the one which begins at index `lowest` or before."""
    spans: list[Span] = []
    segment: int | None = p.segment
    stop, bound = p.total, UNBOUND if p.open else p.bound
    while segment is not None:
        rows = run("SELECT owner, parent, start, bound FROM segment WHERE id = ?", segment)
        if not rows or len(spans) > 1_000_000:
            raise FormatError(f"segment {segment} of a conversation is missing, or its parents form a ring")
        owner, parent, start, parent_bound = rows[0]
        spans.append(Span(segment, owner, start, stop, bound))
        if start <= lowest:
            break
        segment, stop, bound = parent, min(stop, start), parent_bound
    return spans


def standing_notes(run: Run, p: Position, at: int) -> list[tuple[str, str]]:
    """Name and text of the annotations without a turn that count at a position of a line, oldest first."""
    span = line(run, p, at)[-1]
    return [
        (name, text)
        for name, text in run(
            _STANDING_NOTES, span.segment, span.segment, span.segment, min(at, span.stop), span.bound
        )
    ]


def turn_rows(run: Run, span: Span, start: int, stop: int) -> Iterator[Any]:
    start, stop = max(start, span.start), min(stop, span.stop)
    if start < stop:
        yield from run(
            "SELECT idx, id, data FROM turn WHERE segment = ? AND idx >= ? AND idx < ? ORDER BY idx",
            *(span.segment, start, stop),
        )


def trim(run: Run, segment: int, needed: Sequence[tuple[Span, int]]) -> None:
    """Delete what is in a segment beside what these lines, each with the index it begins at, show of it."""
    gap = -1
    for start, stop in sorted((max(span.start, first), span.stop) for span, first in needed):
        if start < stop:
            if gap < start:
                run("DELETE FROM turn WHERE segment = ? AND idx >= ? AND idx < ?", segment, gap, start)
            gap = max(gap, stop)
    run("DELETE FROM turn WHERE segment = ? AND idx >= ?", segment, gap)
    for note, about, at, version in run("SELECT id, about, at, version FROM note WHERE segment = ?", segment):
        if not any(
            version <= span.bound and (at <= span.stop if about < 0 else first <= about < span.stop)
            for span, first in needed
        ):
            run("DELETE FROM note WHERE id = ?", note)


def sweep(run: Run, family: int, heads: Iterable[int] = (), *, lock: str) -> None:
    """Delete what no conversation of a family shows any more; of the heads, look at these."""
    rows = run(
        "SELECT id, incarnation, version, receipt, family, segment, total, first, open, bound, head, hour"
        f" FROM conversation WHERE family = ? ORDER BY id{lock}",
        family,
    )
    needed: dict[int, list[tuple[Span, int]]] = {}
    for p in (Position(*row) for row in rows):
        for span in line(run, p, p.first):
            needed.setdefault(span.segment, []).append((span, p.first))
    for (segment,) in run("SELECT id FROM segment WHERE family = ?", family):
        if segment in needed:
            trim(run, segment, needed[segment])
        else:
            run("DELETE FROM turn WHERE segment = ?", segment)
            run("DELETE FROM note WHERE segment = ?", segment)
            run("DELETE FROM segment WHERE id = ?", segment)
    for head in heads:
        run(
            "DELETE FROM head WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM conversation c WHERE c.family = ? AND c.head = head.id)",
            *(head, family),
        )
