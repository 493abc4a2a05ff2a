"""What the SQL stores share: every operation as statements over a transaction; `_lines` has the tables."""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from ..errors import ConversationNotFoundError
from . import _documents as documents
from ._documents import Commit, NoteText
from ._lines import HOUR, POSITION, Position, Run, line, standing_notes, sweep, turn_rows
from ._rows import Beginning, Fork, Listing, RawConversation, RawSummary, RawTurn, RowStore
from ._standing import find, repeated, standing


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
        rows = run(POSITION + (self._for_update if lock else ""), self._raw(scope), self._raw(key))
        if not rows:
            raise documents.not_found(scope, key)
        return Position(*rows[0])

    def _family_position(self, run: Run, scope: str, key: str) -> Position:
        """A position whose family stays as it is until the end of the transaction.

        The family is locked before any row: everything that takes both has to do so in this order.
        """
        family = self._position(run, scope, key).family
        while True:
            self._lock_family(run, family)
            found = self._position(run, scope, key, lock=True)
            if found.family == family:
                return found
            # Erased and begun anew in between.
            family = found.family

    # -- writing --------------------------------------------------------------------------------------------

    def _create(self, new: Beginning) -> str:
        commit = new.commit
        receipt = documents.digest_of(new.head + new.metadata + commit.receipt().hex())
        with self._writing() as run:
            rows = run(POSITION, self._raw(commit.scope), self._raw(commit.key))
            if rows:
                old = Position(*rows[0])
                if commit.turns and bytes(old.receipt) == receipt:
                    return old.revision
                raise documents.exists(commit.scope, commit.key)
            head = self._write_head(run, new.head)
            now, incarnation = self._now(run), secrets.token_hex(6)
            segment = run(
                "INSERT INTO segment (family, owner, parent, start, bound) VALUES (?, 0, NULL, 0, 0)"
                " RETURNING id",
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
            "INSERT INTO conversation (scope, key, incarnation, version, receipt, family, segment, total,"
            " first, open, bound, head, hour, source, title, tags, cost, metadata, created, updated)"
            f" VALUES ({', '.join('?' * 20)})"
            " ON CONFLICT (scope, key) DO NOTHING RETURNING id",
            *(self._raw(scope), self._raw(key), *p[1:], source, title, tags, cost, metadata, now, now),
        )
        if not rows:
            raise documents.exists(scope, key)
        return int(rows[0][0])

    def _append(self, commit: Commit) -> str:
        with self._writing() as run:
            old = self._position(run, commit.scope, commit.key, lock=True)
            if commit.expected != old.revision:
                before = repeated(run, old, commit, self._raw)
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
                "UPDATE conversation SET version = ?, receipt = ?, segment = ?, total = ?, open = ?,"
                " bound = ?, title = coalesce(?, title), tags = coalesce(?, tags), cost = cost + ?,"
                " updated = ? WHERE id = ?",
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
            found = find(run, old, self._raw(turn.id))
            if found is not None and found.index < start:
                if commit.keep is None and standing(run, old, commit, self._raw) is not None:
                    return False
                raise documents.duplicate(turn.id, commit.key)
        return True

    def _indices(self, run: Run, old: Position, commit: Commit, start: int) -> dict[str, int]:
        """Where the turns are that the commit's annotations speak of."""
        indices = {turn.id: start + place for place, turn in enumerate(commit.turns)}
        for note in commit.notes:
            if note.turn is not None and note.turn not in indices:
                found = find(run, old, self._raw(note.turn))
                if found is None or found.index >= start:
                    raise documents.no_turn(note.turn, commit.key)
                indices[note.turn] = found.index
        return indices

    def _advance(self, run: Run, old: Position, commit: Commit, start: int) -> Position:
        """The position after the commit: in a new segment, unless it goes on where the old one is."""
        new = old._replace(
            version=old.version + 1,
            receipt=commit.receipt(),
            total=start + len(commit.turns),
            bound=0,
            open=1,
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
                "INSERT INTO turn (family, segment, idx, id, version, digest, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(p.family, p.segment, start + place, self._raw(turn.id), p.version, turn.digest, turn.text),
            )
        self._write_notes(run, commit.notes, p, indices)

    def _write_notes(self, run: Run, notes: Iterable[NoteText], p: Position, indices: dict[str, int]) -> None:
        for note in notes:
            about = -1 if note.turn is None else indices[note.turn]
            run(
                "INSERT INTO note (segment, about, name, at, version, data) VALUES (?, ?, ?, ?, ?, ?)",
                *(p.segment, about, note.name, p.total, p.version, note.text),
            )

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
            return self._erase_from(run, self._family_position(run, scope, key), scope, key, forks)

    def _erase_from(
        self, run: Run, root: Position, scope: str, key: str, forks: str | None
    ) -> tuple[str, ...]:
        gone = {root.id: key}
        children = self._forks_of(run, root.id)
        if children and forks is None:
            raise documents.has_forks(key, list(children.values()))
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
        sweep(run, root.family, heads, lock=self._for_update)
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
            with suppress(ConversationNotFoundError), self._writing() as run:
                root = self._family_position(run, scope, key)
                if run("SELECT 1 FROM conversation WHERE id = ? AND updated < ?", root.id, before):
                    gone += self._erase_from(run, root, scope, key, "keep")
        with self._writing() as run:
            run(
                "DELETE FROM lease WHERE scope = ? AND expires < ?"
                " AND NOT EXISTS (SELECT 1 FROM conversation c"
                " WHERE c.scope = lease.scope AND c.key = lease.key)",
                *(self._raw(scope), self._now(run) - 86_400_000_000),
            )
        return tuple(sorted(gone))

    def _prune(self, scope: str, key: str | None, keep: int) -> int:
        if key is not None:
            return self._prune_one(scope, key, keep)
        with self._reading() as run:
            rows = run("SELECT key FROM conversation WHERE scope = ?", self._raw(scope))
        dropped = 0
        for name in [self._key(row[0]) for row in rows]:
            with suppress(ConversationNotFoundError):
                dropped += self._prune_one(scope, name, keep)
        return dropped

    def _prune_one(self, scope: str, key: str, keep: int) -> int:
        with self._writing() as run:
            p = self._family_position(run, scope, key)
            first = max(p.first, p.total - keep)
            run("UPDATE conversation SET first = ? WHERE id = ?", first, p.id)
            sweep(run, p.family, lock=self._for_update)
            return first - p.first

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
            for index, turn, text in turn_rows(run, span, start, stop)
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
            RawSummary(
                *(self._key(key), title, total, created, updated, cost, tags, metadata),
                None if source is None else self._key(source),
            )
            for key, title, total, created, updated, cost, tags, metadata, source in rows
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
