"""What the SQL stores share: the tables' meaning, and every operation as statements over a transaction.

Tables (the types are the dialect's):

- `conversation`: a position (`segment`, `total`) with a revision (`incarnation`, `version`) and a summary.
  Turns below `first` were pruned. `open` says that the next commit may go on in the segment: the conversation
  owns it and stands at its end. Otherwise the next commit opens a segment, and of the annotations in this one
  only those up to version `bound` count.
- `segment`: a piece of a line: from index `start` on it has turns of its own, before that those of `parent`,
  of whose annotations those up to version `bound` count. A fork is a conversation row, nothing else; moving back
  is a changed `total`. Segments of conversations that share turns have the same `family`.
- `turn`: a turn, written once.
- `note`: an annotation. `about` is the index of the turn it speaks of, or -1; `at` is the position after the
  commit that wrote it. A new segment begins with copies of the annotations without a turn which count at its
  start, so that reading them never walks the line.
- `head`: a head document, shared by forks. `lease`: the leases.

Hence a line is read as a short list of spans, newest first: in segment s the turns from its start up to where
the next newer segment takes over.
"""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..errors import FormatError
from . import _documents as documents
from ._documents import Commit, NoteText
from ._rows import Beginning, Fork, Listing, RawConversation, RawSummary, RawTurn, RowStore
from .in_memory import exists, has_forks

Run: TypeAlias = Callable[..., list[Any]]
"""Executes one statement with its parameters and returns the rows."""

HOUR = 3_600_000_000
"""In microseconds. The index for the latest conversations is by the hour, so that few commits change it."""

UNBOUND = 2**62
"""A bound that no version reaches."""

_POSITION = (
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
    """The part of a line that lies in one segment; `start` may be at or behind `stop`, then it has no turns."""

    segment: int
    owner: int
    start: int
    stop: int
    bound: int


@dataclass(frozen=True)
class Found:
    """A turn on a line; `version` is that of its commit, as the conversation counts."""

    index: int
    version: int
    digest: bytes


class RelationalStore(RowStore):
    """A store over SQL. The dialect gives transactions, and how keys and the present are written."""

    _for_update = ""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Run]:
        """A transaction that sees one instant."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Run]:
        """A transaction that is committed at the end of the block, or leaves everything as it was."""

    def _raw(self, key: str) -> Any:
        """A key as the dialect stores it."""
        return key

    def _key(self, raw: Any) -> str:
        """A stored key."""
        return str(raw)

    def _lock_family(self, run: Run, family: int) -> None:
        """Keep other transactions from changing which conversations share turns."""

    def _now(self, run: Run) -> int:
        """The present, in microseconds since 1970."""
        return time.time_ns() // 1000

    # -- positions and lines --------------------------------------------------------------------------------

    def _position(self, run: Run, scope: str, key: str, *, lock: bool = False) -> Position:
        rows = run(_POSITION + (self._for_update if lock else ""), self._raw(scope), self._raw(key))
        if not rows:
            raise documents.not_found(scope, key)
        return Position(*rows[0])

    def _family_position(self, run: Run, scope: str, key: str) -> Position:
        """A position whose family stays as it is until the end of the transaction."""
        self._lock_family(run, self._position(run, scope, key).family)
        return self._position(run, scope, key, lock=True)

    # -- writing --------------------------------------------------------------------------------------------

    def _create(self, new: Beginning) -> str:
        commit = new.commit
        receipt = documents.digest_of(new.head + new.metadata + commit.receipt().hex())
        with self._writing() as run:
            rows = run(_POSITION, self._raw(commit.scope), self._raw(commit.key))
            if rows:
                old = Position(*rows[0])
                if commit.turns and bytes(old.receipt) == receipt:
                    return old.revision
                raise exists(commit.scope, commit.key)
            head = self._write_head(run, new.head)
            now, incarnation = self._now(run), secrets.token_hex(6)
            segment = run(
                "INSERT INTO segment (family, owner, parent, start, bound) VALUES (?, 0, NULL, 0, 0) RETURNING id",
                head,
            )[0][0]
            position = Position(
                *(0, incarnation, 1, receipt, head, segment, len(commit.turns), 0, 1, 0, head, now // HOUR)
            )
            summary = (commit.title, commit.tags, commit.cost, new.metadata, now)
            owner = self._insert(run, commit.scope, commit.key, position, None, summary)
            run("UPDATE segment SET owner = ? WHERE id = ?", owner, segment)
            indices = {turn.id: index for index, turn in enumerate(commit.turns)}
            self._write_rows(run, commit, position, 0, indices)
            return position.revision

    def _write_head(self, run: Run, text: str) -> int:
        sql = "INSERT INTO head (digest, data) VALUES (?, ?) RETURNING id"
        return int(run(sql, documents.digest_of(text), text)[0][0])

    def _insert(
        self, run: Run, scope: str, key: str, p: Position, source: int | None, summary: Sequence[Any]
    ) -> int:
        title, tags, cost, metadata, now = summary
        rows = run(
            "INSERT INTO conversation (scope, key, incarnation, version, receipt, family, segment, total, first,"
            " open, bound, head, hour, source, title, tags, cost, metadata, created, updated)"
            f" VALUES ({', '.join('?' * 20)})"
            " ON CONFLICT (scope, key) DO NOTHING RETURNING id",
            *(self._raw(scope), self._raw(key), *p[1:], source, title, tags, cost, metadata, now, now),
        )
        if not rows:
            raise exists(scope, key)
        return int(rows[0][0])

    def _append(self, commit: Commit) -> str:
        with self._writing() as run:
            old = self._position(run, commit.scope, commit.key, lock=True)
            if commit.expected != old.revision:
                before = self._repeated(run, old, commit)
                if before is not None:
                    return before
            self._check_fence(run, commit)
            if commit.expected != old.revision:
                raise documents.stale(commit, old.revision)
            if commit.empty:
                return old.revision
            start = old.total if commit.keep is None else commit.keep
            if not old.first <= start <= old.total:
                raise documents.no_position(start, old.first, old.total)
            if not self._check_turns(run, old, commit, start):
                return old.revision
            indices = self._indices(run, old, commit, start)
            new, now = self._advance(run, old, commit, start), self._now(run)
            self._write_rows(run, commit, new, start, indices)
            run(
                "UPDATE conversation SET version = ?, receipt = ?, segment = ?, total = ?, open = ?, bound = ?,"
                " title = coalesce(?, title), tags = coalesce(?, tags), cost = cost + ?, updated = ?"
                " WHERE id = ?",
                *(new.version, new.receipt, new.segment, new.total, new.open, new.bound),
                *(commit.title, commit.tags, commit.cost, now, new.id),
            )
            if now // HOUR != old.hour:
                run("UPDATE conversation SET hour = ? WHERE id = ?", now // HOUR, new.id)
            return new.revision

    def _check_fence(self, run: Run, commit: Commit) -> None:
        if commit.fence is not None and not run(
            "SELECT 1 FROM lease WHERE scope = ? AND key = ? AND token = ? AND expires > 0",
            *(self._raw(commit.scope), self._raw(commit.key), commit.fence),
        ):
            raise documents.fence_lost(commit)

    def _check_turns(self, run: Run, old: Position, commit: Commit, start: int) -> bool:
        """Whether the commit is to be written; False if its turns stand there already."""
        for turn in commit.turns:
            found = self._find(run, old, turn.id)
            if found is not None and found.index < start:
                if commit.keep is None and self._standing(run, old, commit) is not None:
                    return False
                raise documents.duplicate(turn.id, commit.key)
        return True

    def _indices(self, run: Run, old: Position, commit: Commit, start: int) -> dict[str, int]:
        """Where the turns are that the commit's annotations speak of."""
        indices = {turn.id: start + place for place, turn in enumerate(commit.turns)}
        for note in commit.notes:
            if note.turn is not None and note.turn not in indices:
                found = self._find(run, old, note.turn)
                if found is None or found.index >= start:
                    raise documents.no_turn(note.turn, commit.key)
                indices[note.turn] = found.index
        return indices

    def _advance(self, run: Run, old: Position, commit: Commit, start: int) -> Position:
        """The position after the commit, in a segment of its own if it does not go on where the old one is."""
        new = old._replace(
            version=old.version + 1, receipt=commit.receipt(), total=start + len(commit.turns), bound=0, open=1
        )
        if old.open and start == old.total:
            return new
        if not commit.turns and not commit.notes:
            return new._replace(open=0, bound=old.limit)
        sql = "INSERT INTO segment (family, owner, parent, start, bound) VALUES (?, ?, ?, ?, ?) RETURNING id"
        segment = int(run(sql, old.family, old.id, old.segment, start, old.limit)[0][0])
        carried = [NoteText(name, None, text) for name, text in standing_notes(run, old, start)]
        self._write_notes(run, carried, new._replace(segment=segment, total=start), {})
        return new._replace(segment=segment)

    def _write_rows(self, run: Run, commit: Commit, p: Position, start: int, indices: dict[str, int]) -> None:
        for place, turn in enumerate(commit.turns):
            run(
                "INSERT INTO turn (family, segment, idx, id, version, digest, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(p.family, p.segment, start + place, self._raw(turn.id), p.version, turn.digest, turn.text),
            )
        self._write_notes(run, commit.notes, p, indices)

    def _write_notes(
        self, run: Run, notes: Iterable[NoteText], p: Position, indices: dict[str, int]
    ) -> None:
        for note in notes:
            about = -1 if note.turn is None else indices[note.turn]
            run(
                "INSERT INTO note (segment, about, name, at, version, data) VALUES (?, ?, ?, ?, ?, ?)",
                *(p.segment, about, note.name, p.total, p.version, note.text),
            )

    def _find(self, run: Run, p: Position, turn: str) -> Found | None:
        """A turn of the line, by its id."""
        rows = run(
            "SELECT segment, idx, version, digest FROM turn WHERE family = ? AND id = ?", p.family, self._raw(turn)
        )
        if not rows:
            return None
        spans = {span.segment: span for span in line(run, p, min(row[1] for row in rows))}
        for segment, index, version, digest in rows:
            span = spans.get(segment)
            if span is not None and p.first <= index < span.stop:
                return Found(index, version if span.owner == p.id else 1, bytes(digest))
        return None

    def _standing(self, run: Run, p: Position, commit: Commit) -> tuple[int, int] | None:
        """Index of the first and version of the last turn of a commit, if it stands on the line."""
        start = version = -1
        for place, turn in enumerate(commit.turns):
            found = self._find(run, p, turn.id)
            if found is None or found.digest != turn.digest or place and found.index != start + place:
                return None
            start, version = (found.index - place), found.version
        return (start, version) if commit.turns else None

    def _repeated(self, run: Run, p: Position, commit: Commit) -> str | None:
        """The revision that an outdated commit had produced, if it was written before."""
        if bytes(p.receipt) == commit.receipt():
            return p.revision
        standing = self._standing(run, p, commit)
        if standing is None or commit.keep not in (None, standing[0]):
            return None
        return documents.revision_of(p.incarnation, standing[1])

    def _fork(self, fork: Fork) -> str:
        with self._writing() as run:
            source = self._family_position(run, fork.scope, fork.key)
            at = source.total if fork.at is None else fork.at
            if not source.first <= at <= source.total:
                raise documents.no_position(at, source.first, source.total)
            now = self._now(run)
            sql = "SELECT title, tags, metadata FROM conversation WHERE id = ?"
            [(title, tags, metadata)] = run(sql, source.id)
            new = source._replace(
                incarnation=secrets.token_hex(6),
                version=1,
                receipt=b"",
                total=at,
                open=0,
                bound=source.limit,
                head=source.head if fork.head is None else self._write_head(run, fork.head),
                hour=now // HOUR,
            )
            summary = (
                title if fork.title is None else fork.title,
                tags if fork.tags is None else fork.tags,
                0.0,
                metadata if fork.metadata is None else fork.metadata,
                now,
            )
            self._insert(run, fork.scope, fork.new_key, new, source.id, summary)
            return new.revision

    # -- deleting -------------------------------------------------------------------------------------------

    def _erase(self, scope: str, key: str, forks: str | None) -> tuple[str, ...]:
        with self._writing() as run:
            return self._erase_within(run, scope, key, forks)

    def _erase_within(self, run: Run, scope: str, key: str, forks: str | None) -> tuple[str, ...]:
        root = self._family_position(run, scope, key)
        gone = {root.id: key}
        children = self._forks_of(run, root.id)
        if children and forks is None:
            raise has_forks(key, list(children.values()))
        waiting = children if forks == "erase" else {}
        while waiting:
            gone.update(waiting)
            waiting = {c: name for parent in waiting for c, name in self._forks_of(run, parent).items()}
        heads = []
        for conversation, name in gone.items():
            heads.append(run("SELECT head FROM conversation WHERE id = ?", conversation)[0][0])
            run("UPDATE conversation SET source = NULL WHERE source = ?", conversation)
            run("DELETE FROM conversation WHERE id = ?", conversation)
            run("DELETE FROM lease WHERE scope = ? AND key = ?", self._raw(scope), self._raw(name))
        self._sweep(run, root.family, heads)
        return tuple(sorted(gone.values()))

    def _forks_of(self, run: Run, conversation: int) -> dict[int, str]:
        rows = run("SELECT id, key FROM conversation WHERE source = ?", conversation)
        return {row[0]: self._key(row[1]) for row in rows}

    def _expire(self, scope: str, before: int) -> tuple[str, ...]:
        with self._reading() as run:
            rows = run(
                "SELECT key FROM conversation WHERE scope = ? AND hour <= ? AND updated < ?",
                *(self._raw(scope), before // HOUR, before),
            )
        gone: list[str] = []
        for key in [self._key(row[0]) for row in rows]:
            with self._writing() as run:
                still = run(
                    "SELECT 1 FROM conversation WHERE scope = ? AND key = ? AND updated < ?" + self._for_update,
                    *(self._raw(scope), self._raw(key), before),
                )
                if still:
                    gone += self._erase_within(run, scope, key, "keep")
        with self._writing() as run:
            run(
                "DELETE FROM lease WHERE scope = ? AND expires < ? AND NOT EXISTS (SELECT 1 FROM conversation c"
                " WHERE c.scope = lease.scope AND c.key = lease.key)",
                *(self._raw(scope), self._now(run) - 86_400_000_000),
            )
        return tuple(sorted(gone))

    def _prune(self, scope: str, key: str | None, keep: int) -> int:
        if key is not None:
            keys = [key]
        else:
            with self._reading() as run:
                rows = run("SELECT key FROM conversation WHERE scope = ?", self._raw(scope))
            keys = [self._key(row[0]) for row in rows]
        return sum(self._prune_one(scope, name, keep, missing_ok=key is None) for name in keys)

    def _prune_one(self, scope: str, key: str, keep: int, *, missing_ok: bool) -> int:
        with self._writing() as run:
            if missing_ok and not run(_POSITION, self._raw(scope), self._raw(key)):
                return 0
            p = self._family_position(run, scope, key)
            first = max(p.first, p.total - keep)
            run("UPDATE conversation SET first = ? WHERE id = ?", first, p.id)
            self._sweep(run, p.family)
            return first - p.first

    def _sweep(self, run: Run, family: int, heads: Iterable[int] = ()) -> None:
        """Delete what no conversation of a family shows any more; of the heads, look at these."""
        rows = run(
            "SELECT id, incarnation, version, receipt, family, segment, total, first, open, bound, head, hour"
            f" FROM conversation WHERE family = ? ORDER BY id{self._for_update}",
            family,
        )
        needed: dict[int, list[tuple[Span, int]]] = {}
        for p in (Position(*row) for row in rows):
            for span in line(run, p, p.first):
                needed.setdefault(span.segment, []).append((span, p.first))
        for (segment,) in run("SELECT id FROM segment WHERE family = ?", family):
            if segment in needed:
                _trim(run, segment, needed[segment])
            else:
                for table, column in (("turn", "segment"), ("note", "segment"), ("segment", "id")):
                    run(f"DELETE FROM {table} WHERE {column} = ?", segment)
        for head in heads:
            run(
                "DELETE FROM head WHERE id = ? AND NOT EXISTS"
                " (SELECT 1 FROM conversation c WHERE c.family = ? AND c.head = head.id)",
                *(head, family),
            )

    # -- reading --------------------------------------------------------------------------------------------

    def _load(self, scope: str, key: str, last: int | None) -> RawConversation:
        with self._reading() as run:
            p = self._position(run, scope, key)
            [(head, metadata, title, tags, cost)] = run(
                "SELECT h.data, c.metadata, c.title, c.tags, c.cost"
                " FROM conversation c JOIN head h ON h.id = c.head WHERE c.id = ?",
                p.id,
            )
            start = p.first if last is None else max(p.first, p.total - last)
            return RawConversation(
                revision=p.revision,
                head=head,
                metadata=metadata,
                title=title,
                tags=tags,
                cost=cost,
                total=p.total,
                first=p.first,
                turns=self._window(run, p, start, p.total),
                notes=[text for _, text in standing_notes(run, p, p.total)],
            )

    def _turns(self, scope: str, key: str, before: int | None, limit: int | None) -> Sequence[RawTurn]:
        with self._reading() as run:
            p = self._position(run, scope, key)
            stop = p.total if before is None else min(before, p.total)
            start = p.first if limit is None else max(p.first, stop - limit)
            return self._window(run, p, start, stop)

    def _window(self, run: Run, p: Position, start: int, stop: int) -> list[RawTurn]:
        if start >= stop:
            return []
        spans = line(run, p, start)[::-1]
        notes: dict[int, dict[str, str]] = {}
        for span in spans:
            for about, name, text in run(
                "SELECT about, name, data FROM note WHERE segment = ? AND about >= ? AND about < ?"
                " AND version <= ? ORDER BY id",
                *(span.segment, start, min(span.stop, stop), span.bound),
            ):
                latest = notes.setdefault(about, {})
                latest.pop(name, None)
                latest[name] = text
        return [
            RawTurn(index, self._key(turn), text, list(notes.get(index, {}).values()))
            for span in spans
            for index, turn, text in _turn_rows(run, span, start, stop)
        ]

    def _list(self, listing: Listing) -> Sequence[RawSummary]:
        where, values = ["c.scope = ?"], [self._raw(listing.scope)]
        if listing.after is not None:
            where.append("c.key > ?")
            values.append(self._raw(listing.after))
        if listing.since is not None:
            where += ["c.hour >= ?", "c.updated >= ?"]
            values += [listing.since // HOUR, listing.since]
        order = "c.key" if listing.order == "key" else "c.hour DESC, c.updated DESC, c.key"
        limit = "" if listing.limit is None else f" LIMIT {listing.limit:d}"
        with self._reading() as run:
            rows = run(
                "SELECT c.key, c.title, c.total, c.created, c.updated, c.cost, c.tags, c.metadata, s.key"
                " FROM conversation c LEFT JOIN conversation s ON s.id = c.source"
                f" WHERE {' AND '.join(where)} ORDER BY {order}{limit}",
                *values,
            )
        return [
            RawSummary(self._key(row[0]), *row[1:8], None if row[8] is None else self._key(row[8]))
            for row in rows
        ]

    def scopes(self) -> tuple[str, ...]:
        with self._reading() as run:
            rows = run(
                "WITH RECURSIVE s(scope) AS (SELECT (SELECT scope FROM conversation ORDER BY scope LIMIT 1)"
                " UNION ALL SELECT (SELECT c.scope FROM conversation c WHERE c.scope > s.scope"
                " ORDER BY c.scope LIMIT 1) FROM s WHERE s.scope IS NOT NULL)"
                " SELECT scope FROM s WHERE scope IS NOT NULL"
            )
        return tuple(self._key(row[0]) for row in rows)


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


def _turn_rows(run: Run, span: Span, start: int, stop: int) -> Iterator[Any]:
    start, stop = max(start, span.start), min(stop, span.stop)
    if start < stop:
        yield from run(
            "SELECT idx, id, data FROM turn WHERE segment = ? AND idx >= ? AND idx < ? ORDER BY idx",
            *(span.segment, start, stop),
        )


def _trim(run: Run, segment: int, needed: Sequence[tuple[Span, int]]) -> None:
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
