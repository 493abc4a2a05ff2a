"""What the backends share: documents are checked and encoded here, so that a backend moves texts alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..errors import ConfigurationError, FormatError
from . import _documents as documents
from ._documents import Commit
from .base import ConversationSummary, Document, Store, StoredConversation, StoredTurn, VerifyReport
from .lease import Lease, LeaseKeeper


@dataclass(frozen=True)
class RawTurn:
    """A turn as it was read: `notes` are the texts of its annotations, those that count, oldest first."""

    index: int
    id: str
    text: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RawConversation:
    """A conversation as it was read."""

    revision: str
    head: str
    metadata: str
    title: str
    tags: str
    cost: float
    total: int
    first: int
    turns: Sequence[RawTurn]
    notes: Sequence[str]


@dataclass(frozen=True)
class RawSummary:
    """A summary as it was read; times in microseconds since 1970."""

    key: str
    title: str
    turns: int
    created: int
    updated: int
    cost: float
    tags: str
    metadata: str
    source: str | None


@dataclass(frozen=True)
class Fork:
    """One call of `Store.fork`, checked and encoded. None stands for: as in the source."""

    scope: str
    key: str
    new_key: str
    at: int | None
    head: str | None
    metadata: str | None
    title: str | None
    tags: str | None


@dataclass(frozen=True)
class Listing:
    """One call of `Store.list`, checked; `since` in microseconds since 1970."""

    scope: str
    order: str
    after: str | None
    since: int | None
    limit: int | None


@dataclass(frozen=True)
class Beginning:
    """What a conversation has from its creation on, beside its first commit."""

    head: str
    metadata: str
    commit: Commit = field(repr=False)


class RowStore(Store):
    """A store whose backend implements the abstract methods below, on texts that were checked already."""

    def __init__(self) -> None:
        self._leases = LeaseKeeper(self._take_lease, self._renew_lease, self._drop_lease)

    def close(self) -> None:
        """Stop renewing leases; a backend also lets go of what it holds."""
        self._leases.abandon()

    # -- what a backend does ------------------------------------------------------------------------------

    @abstractmethod
    def _create(self, new: Beginning) -> str: ...

    @abstractmethod
    def _append(self, commit: Commit) -> str: ...

    @abstractmethod
    def _load(self, scope: str, key: str, last: int | None) -> RawConversation: ...

    @abstractmethod
    def _turns(self, scope: str, key: str, before: int | None, limit: int | None) -> Sequence[RawTurn]: ...

    @abstractmethod
    def _fork(self, fork: Fork) -> str: ...

    @abstractmethod
    def _list(self, listing: Listing) -> Sequence[RawSummary]: ...

    @abstractmethod
    def _erase(self, scope: str, key: str, forks: str | None) -> tuple[str, ...]: ...

    @abstractmethod
    def _expire(self, scope: str, before: int) -> tuple[str, ...]: ...

    @abstractmethod
    def _prune(self, scope: str, key: str | None, keep: int) -> int: ...

    @abstractmethod
    def _verify(self, scope: str | None, key: str | None) -> VerifyReport: ...

    @abstractmethod
    def _take_lease(self, scope: str, key: str, ttl: float) -> int | None:
        """A token above every earlier one if the lease is free or expired by the backend's clock, or None."""

    @abstractmethod
    def _renew_lease(self, scope: str, key: str, token: int, ttl: float) -> bool:
        """Whether the lease still has this token; if so it now lasts `ttl` seconds from here."""

    @abstractmethod
    def _drop_lease(self, scope: str, key: str, token: int) -> None:
        """Free the lease if it still has this token."""

    # -- the contract -------------------------------------------------------------------------------------

    def create(
        self,
        key: str,
        head: Mapping[str, Any],
        *,
        scope: str = "",
        turns: Sequence[Mapping[str, Any]] = (),
        annotations: Sequence[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        title: str = "",
        tags: Sequence[str] = (),
        cost: float = 0.0,
    ) -> str:
        commit = Commit(
            scope=documents.check_key(scope, "the scope"),
            key=documents.check_key(key, "the key"),
            turns=documents.encode_turns(turns),
            notes=documents.encode_notes(annotations),
            title=documents.encode_title(title),
            tags=documents.encode_tags(tags),
            cost=documents.check_cost(cost),
        )
        known = {turn.id for turn in commit.turns}
        for note in commit.notes:
            if note.turn is not None and note.turn not in known:
                raise documents.no_turn(note.turn, key)
        metadata_text = documents.encode(metadata or {}, "the metadata")
        return self._create(Beginning(documents.encode(head, "the head"), metadata_text, commit))

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        documents.check_key(scope, "the scope")
        documents.check_key(key, "the key")
        raw = self._load(scope, key, documents.check_count(last, "last"))
        place = f"{key!r} (scope {scope!r})"
        _check_line(
            raw.turns, raw.total - raw.first if last is None else min(last, raw.total - raw.first), place
        )
        title, tags = _read_outer(raw.title, raw.tags, f"the summary of {place}")
        return StoredConversation(
            key=key,
            scope=scope,
            revision=raw.revision,
            head=documents.decode(raw.head, f"the head of {place}"),
            turns=_read_turns(raw.turns, place),
            total=raw.total,
            annotations=_read_notes(raw.notes, place),
            metadata=documents.decode(raw.metadata, f"the metadata of {place}"),
            title=title,
            tags=tags,
            cost=raw.cost,
            first=raw.first,
        )

    def turns(
        self, key: str, *, scope: str = "", before: int | None = None, limit: int | None = None
    ) -> tuple[StoredTurn, ...]:
        documents.check_key(scope, "the scope")
        documents.check_key(key, "the key")
        documents.check_count(before, "before")
        documents.check_count(limit, "limit")
        rows, place = self._turns(scope, key, before, limit), f"{key!r} (scope {scope!r})"
        _check_line(rows, len(rows), place)
        return _read_turns(rows, place)

    def append(
        self,
        key: str,
        turns: Sequence[Mapping[str, Any]] = (),
        *,
        scope: str = "",
        expected: str,
        annotations: Sequence[Mapping[str, Any]] = (),
        keep: int | None = None,
        fence: int | None = None,
        title: str | None = None,
        tags: Sequence[str] | None = None,
        cost: float = 0.0,
    ) -> str:
        if not isinstance(expected, str):
            raise ConfigurationError(f"expected must be a revision that the store gave, not {expected!r}")
        commit = Commit(
            scope=documents.check_key(scope, "the scope"),
            key=documents.check_key(key, "the key"),
            turns=documents.encode_turns(turns),
            notes=documents.encode_notes(annotations),
            expected=documents.check_key(expected, "expected"),
            keep=documents.check_count(keep, "keep"),
            fence=documents.check_count(fence, "fence"),
            title=None if title is None else documents.encode_title(title),
            tags=None if tags is None else documents.encode_tags(tags),
            cost=documents.check_cost(cost),
            last=dict(turns[-1]) if turns else None,
        )
        return self._append(commit)

    def fork(
        self,
        key: str,
        new_key: str,
        *,
        scope: str = "",
        at: int | None = None,
        head: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> str:
        return self._fork(
            Fork(
                scope=documents.check_key(scope, "the scope"),
                key=documents.check_key(key, "the key"),
                new_key=documents.check_key(new_key, "the new key"),
                at=documents.check_count(at, "at"),
                head=None if head is None else documents.encode(head, "the head"),
                metadata=None if metadata is None else documents.encode(metadata, "the metadata"),
                title=None if title is None else documents.encode_title(title),
                tags=None if tags is None else documents.encode_tags(tags),
            )
        )

    def list(
        self,
        *,
        scope: str = "",
        order: Literal["key", "updated"] = "key",
        after: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[ConversationSummary, ...]:
        if order not in ("key", "updated"):
            raise ConfigurationError(f'order must be "key" or "updated", not {order!r}')
        if after is not None and order != "key":
            raise ConfigurationError('after= needs order="key": times change while one reads')
        listing = Listing(
            scope=documents.check_key(scope, "the scope"),
            order=order,
            after=None if after is None else documents.check_key(after, "after"),
            since=None if since is None else documents.to_micros(since, "since"),
            limit=documents.check_count(limit, "limit"),
        )
        return tuple(_read_summary(raw, scope) for raw in self._list(listing))

    def erase(
        self, key: str, *, scope: str = "", forks: Literal["keep", "erase"] | None = None
    ) -> tuple[str, ...]:
        if forks not in (None, "keep", "erase"):
            raise ConfigurationError(f'forks must be "keep", "erase" or None, not {forks!r}')
        documents.check_key(scope, "the scope")
        return self._erase(scope, documents.check_key(key, "the key"), forks)

    def expire(self, *, before: datetime, scope: str = "") -> tuple[str, ...]:
        documents.check_key(scope, "the scope")
        return self._expire(scope, documents.to_micros(before, "before"))

    def prune(self, *, keep: int, key: str | None = None, scope: str = "") -> int:
        documents.check_key(scope, "the scope")
        if documents.check_count(keep, "keep") is None:
            raise ConfigurationError("keep must be a whole number from 0, not None")
        return self._prune(scope, None if key is None else documents.check_key(key, "the key"), keep)

    def verify(self, key: str | None = None, *, scope: str | None = None) -> VerifyReport:
        if key is not None:
            scope = scope or ""
            documents.check_key(key, "the key")
        if scope is not None:
            documents.check_key(scope, "the scope")
        return self._verify(scope, key)

    def lease(
        self, key: str, *, scope: str = "", wait: float | None = None, ttl: float = 30.0
    ) -> AbstractContextManager[Lease]:
        documents.check_key(scope, "the scope")
        return self._leases.hold(scope, documents.check_key(key, "the key"), wait=wait, ttl=ttl)


def _check_line(rows: Sequence[RawTurn], count: int, place: str) -> None:
    """Refuse to hand out a line with a hole: a model would take it for the whole truth."""
    if len(rows) != count or any(row.index != rows[0].index + offset for offset, row in enumerate(rows)):
        raise FormatError(f"turns of {place} are missing. `verify` lists which")


def _read_turns(rows: Sequence[RawTurn], place: str) -> tuple[StoredTurn, ...]:
    return tuple(
        StoredTurn(
            row.index,
            row.id,
            documents.decode(row.text, f"turn {row.index} of {place}"),
            _read_notes(row.notes, place),
        )
        for row in rows
    )


def _read_notes(texts: Sequence[str], place: str) -> tuple[Document, ...]:
    return tuple(documents.decode(text, f"an annotation of {place}") for text in texts)


def _read_outer(title: str, tags: str, place: str) -> tuple[str, tuple[str, ...]]:
    outer = documents.decode(f'{{"title":{title},"tags":{tags}}}', place)
    return outer["title"], tuple(outer["tags"])


def _read_summary(raw: RawSummary, scope: str) -> ConversationSummary:
    place = f"the summary of {raw.key!r} (scope {scope!r})"
    title, tags = _read_outer(raw.title, raw.tags, place)
    return ConversationSummary(
        key=raw.key,
        scope=scope,
        title=title,
        turns=raw.turns,
        created=documents.from_micros(raw.created),
        updated=documents.from_micros(raw.updated),
        cost=raw.cost,
        tags=tags,
        metadata=documents.decode(raw.metadata, place),
        source=raw.source,
    )
