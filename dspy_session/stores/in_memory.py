"""A store in this process' memory: for tests, and for what need not survive.

It is also the model that the other stores are compared with, so it is as plain as can be: each conversation
has lists of its own, which a fork copies (the texts in them are shared), and moving back cuts them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from . import _documents as documents
from ._documents import Commit, NoteText, TurnText
from ._rows import Beginning, Fork, Listing, RawConversation, RawSummary, RawTurn, RowStore
from .base import VerifyReport

__all__ = ["InMemoryStore"]


@dataclass
class _Conversation:
    scope: str
    key: str
    head: str
    metadata: str
    created: int
    updated: int
    incarnation: str = field(default_factory=lambda: secrets.token_hex(6))
    version: int = 1
    receipt: bytes = b""
    first: int = 0
    turns: list[tuple[int, TurnText]] = field(default_factory=list)  # (version of its commit, turn)
    indices: dict[str, int] = field(default_factory=dict)  # id of a turn on the line -> its index
    notes: list[tuple[int, NoteText]] = field(default_factory=list)  # (position when written, annotation)
    title: str = '""'
    tags: str = "[]"
    cost: float = 0.0
    source: _Conversation | None = None

    @property
    def revision(self) -> str:
        return documents.revision_of(self.incarnation, self.version)

    @property
    def total(self) -> int:
        return self.first + len(self.turns)

    def cut(self, position: int) -> None:
        """Move the position back, if it is not there already."""
        if position == self.total and len(self.indices) == len(self.turns):
            return
        del self.turns[position - self.first :]
        self._forget(lambda at: at <= position)

    def drop(self, count: int) -> None:
        """Delete the oldest turns."""
        del self.turns[:count]
        self.first += count
        self._forget(lambda at: True)

    def _forget(self, counts: Callable[[int], bool]) -> None:
        """Forget the annotations about turns that are gone, and of the others those that no longer count."""
        self.indices = {row.id: self.first + place for place, (_, row) in enumerate(self.turns)}
        self.notes = [
            (at, note)
            for at, note in self.notes
            if (counts(at) if note.turn is None else note.turn in self.indices)
        ]

    def write(self, commit: Commit) -> None:
        """Append what a commit brings."""
        for turn in commit.turns:
            self.indices[turn.id] = self.total
            self.turns.append((self.version, turn))
        self.notes += [(self.total, note) for note in commit.notes]
        self.cost += commit.cost
        self.title = self.title if commit.title is None else commit.title
        self.tags = self.tags if commit.tags is None else commit.tags

    def standing(self, commit: Commit) -> int | None:
        """The index at which the commit's turns stand on the line, if they do."""
        start = self.indices.get(commit.turns[0].id) if commit.turns else None
        if start is None:
            return None
        run = self.turns[start - self.first : start - self.first + len(commit.turns)]
        return start if [row for _, row in run] == list(commit.turns) else None


class InMemoryStore(RowStore):
    """Keeps conversations in memory, as texts: what was given and what is read never share an object."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._all: dict[tuple[str, str], _Conversation] = {}
        self._held: dict[tuple[str, str], tuple[int, float]] = {}
        self._token = 0

    def _get(self, scope: str, key: str) -> _Conversation:
        try:
            return self._all[scope, key]
        except KeyError:
            raise documents.not_found(scope, key) from None

    # -- writing --------------------------------------------------------------------------------------------

    def _create(self, new: Beginning) -> str:
        commit, now = new.commit, time.time_ns() // 1000
        conversation = _Conversation(commit.scope, commit.key, new.head, new.metadata, now, now)
        conversation.receipt = documents.digest_of(new.head + new.metadata + commit.receipt().hex())
        conversation.write(commit)
        with self._lock:
            old = self._all.get((commit.scope, commit.key))
            if old is not None:
                if old.receipt == conversation.receipt and commit.turns:
                    return old.revision
                raise documents.exists(commit.scope, commit.key)
            self._all[commit.scope, commit.key] = conversation
        return conversation.revision

    def _append(self, commit: Commit) -> str:
        with self._lock:
            conversation = self._get(commit.scope, commit.key)
            if commit.expected != conversation.revision:
                before = _repeated(conversation, commit)
                if before is not None:
                    return before
            if commit.fence is not None and self._token_of(commit.scope, commit.key) != commit.fence:
                raise documents.fence_lost(commit)
            if commit.expected != conversation.revision:
                raise documents.stale(commit, conversation.revision)
            if commit.empty:
                return conversation.revision
            position = conversation.total if commit.keep is None else commit.keep
            if not conversation.first <= position <= conversation.total:
                raise documents.no_position(position, conversation.first, conversation.total)
            if not self._check(conversation, commit, position):
                return conversation.revision
            conversation.cut(position)
            conversation.version += 1
            conversation.updated = time.time_ns() // 1000
            conversation.receipt = commit.receipt()
            conversation.write(commit)
            return conversation.revision

    def _check(self, conversation: _Conversation, commit: Commit, position: int) -> bool:
        """Whether the commit is to be written; False if its turns stand there already."""
        for turn in commit.turns:
            if conversation.indices.get(turn.id, position) < position:
                if commit.keep is None and conversation.standing(commit) is not None:
                    return False
                raise documents.duplicate(turn.id, commit.key)
        new = {turn.id for turn in commit.turns}
        for note in commit.notes:
            if note.turn is None or note.turn in new:
                continue
            if conversation.indices.get(note.turn, position) >= position:
                raise documents.no_turn(note.turn, commit.key)
        return True

    def _fork(self, fork: Fork) -> str:
        with self._lock:
            source = self._get(fork.scope, fork.key)
            at = source.total if fork.at is None else fork.at
            if not source.first <= at <= source.total:
                raise documents.no_position(at, source.first, source.total)
            if (fork.scope, fork.new_key) in self._all:
                raise documents.exists(fork.scope, fork.new_key)
            now = time.time_ns() // 1000
            new = _Conversation(
                fork.scope,
                fork.new_key,
                source.head if fork.head is None else fork.head,
                source.metadata if fork.metadata is None else fork.metadata,
                now,
                now,
                first=source.first,
                turns=[(1, turn) for _, turn in source.turns],
                notes=list(source.notes),
                title=source.title if fork.title is None else fork.title,
                tags=source.tags if fork.tags is None else fork.tags,
                source=source,
            )
            new.cut(at)
            self._all[fork.scope, fork.new_key] = new
            return new.revision

    def _erase(self, scope: str, key: str, forks: str | None) -> tuple[str, ...]:
        with self._lock:
            found = [self._get(scope, key)]
            children = self._forks_of(found[0])
            if children and forks is None:
                raise documents.has_forks(key, [child.key for child in children])
            if forks == "erase":
                for conversation in found:
                    found += self._forks_of(conversation)
            for conversation in found:
                for child in self._forks_of(conversation):
                    child.source = None
                del self._all[scope, conversation.key]
                self._held.pop((scope, conversation.key), None)
            return tuple(sorted(conversation.key for conversation in found))

    def _forks_of(self, source: _Conversation) -> list[_Conversation]:
        return [conversation for conversation in self._all.values() if conversation.source is source]

    def _expire(self, scope: str, before: int) -> tuple[str, ...]:
        with self._lock:
            old = [c.key for c in self._all.values() if c.scope == scope and c.updated < before]
            for key in old:
                self._erase(scope, key, "keep")
            return tuple(sorted(old))

    def _prune(self, scope: str, key: str | None, keep: int) -> int:
        with self._lock:
            some = [self._get(scope, key)] if key is not None else list(self._all.values())
            dropped = 0
            for conversation in some:
                surplus = len(conversation.turns) - keep
                if conversation.scope == scope and surplus > 0:
                    conversation.drop(surplus)
                    dropped += surplus
            return dropped

    # -- reading --------------------------------------------------------------------------------------------

    def _load(self, scope: str, key: str, last: int | None) -> RawConversation:
        with self._lock:
            found = self._get(scope, key)
            return RawConversation(
                revision=found.revision,
                head=found.head,
                metadata=found.metadata,
                title=found.title,
                tags=found.tags,
                cost=found.cost,
                total=found.total,
                first=found.first,
                turns=_window(found, found.total, last),
                notes=_latest(note for _, note in found.notes if note.turn is None),
            )

    def _turns(self, scope: str, key: str, before: int | None, limit: int | None) -> Sequence[RawTurn]:
        with self._lock:
            found = self._get(scope, key)
            return _window(found, found.total if before is None else before, limit)

    def _list(self, listing: Listing) -> Sequence[RawSummary]:
        with self._lock:
            rows = [
                _summary(conversation)
                for conversation in self._all.values()
                if conversation.scope == listing.scope
                and (listing.since is None or conversation.updated >= listing.since)
                and (listing.after is None or conversation.key > listing.after)
            ]
        rows.sort(key=lambda row: row.key)
        if listing.order == "updated":
            rows.sort(key=lambda row: row.updated, reverse=True)
        return rows[: listing.limit]

    def scopes(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted({scope for scope, _ in self._all}))

    def _verify(self, scope: str | None, key: str | None) -> VerifyReport:
        # Nothing can be damaged: whatever is kept is a text, which Python does not change.
        with self._lock:
            some = [
                conversation
                for conversation in self._all.values()
                if scope in (None, conversation.scope) and key in (None, conversation.key)
            ]
            if key is not None and not some:
                raise documents.not_found(scope or "", key)
            turns = sum(len(c.turns) for c in some)
        settings = {"backend": "memory", "durability": "none: everything ends with the process"}
        return VerifyReport(len(some), turns, (), settings)

    # -- leases ---------------------------------------------------------------------------------------------

    def _take_lease(self, scope: str, key: str, ttl: float) -> int | None:
        with self._lock:
            held = self._held.get((scope, key))
            if held is not None and held[1] > time.monotonic():
                return None
            self._token += 1
            self._held[scope, key] = self._token, time.monotonic() + ttl
            return self._token

    def _token_of(self, scope: str, key: str) -> int | None:
        held = self._held.get((scope, key))
        return None if held is None else held[0]

    def _renew_lease(self, scope: str, key: str, token: int, ttl: float) -> bool:
        with self._lock:
            if self._token_of(scope, key) != token:
                return False
            self._held[scope, key] = token, time.monotonic() + ttl
            return True

    def _drop_lease(self, scope: str, key: str, token: int) -> None:
        with self._lock:
            if self._token_of(scope, key) == token:
                del self._held[scope, key]


def _repeated(conversation: _Conversation, commit: Commit) -> str | None:
    """The revision that an outdated commit had produced, if it was written before."""
    if conversation.receipt == commit.receipt():
        return conversation.revision
    start = conversation.standing(commit)
    if start is None or commit.keep not in (None, start):
        return None
    version, _ = conversation.turns[start - conversation.first + len(commit.turns) - 1]
    return documents.revision_of(conversation.incarnation, version)


def _window(conversation: _Conversation, stop: int, limit: int | None) -> list[RawTurn]:
    stop = min(stop, conversation.total)
    start = conversation.first if limit is None else max(conversation.first, stop - limit)
    notes: dict[str | None, list[NoteText]] = {}
    for _, note in conversation.notes:
        notes.setdefault(note.turn, []).append(note)
    rows = conversation.turns[start - conversation.first : max(stop - conversation.first, 0)]
    return [
        RawTurn(start + place, row.id, row.text, _latest(notes.get(row.id, ())))
        for place, (_, row) in enumerate(rows)
    ]


def _latest(notes: Iterable[NoteText]) -> list[str]:
    latest: dict[str, NoteText] = {}
    for note in notes:
        latest.pop(note.name, None)
        latest[note.name] = note
    return [note.text for note in latest.values()]


def _summary(c: _Conversation) -> RawSummary:
    source = c.source.key if c.source is not None else None
    return RawSummary(c.key, c.title, c.total, c.created, c.updated, c.cost, c.tags, c.metadata, source)
