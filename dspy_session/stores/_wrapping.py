"""A store around another store: whatever a wrapper does not change goes through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal

from .base import ConversationSummary, Store, StoredConversation, StoredTurn, VerifyReport
from .lease import Lease


class WrappedStore(Store):
    """Hands everything on to `inner`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

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
        return self.inner.create(
            key,
            head,
            scope=scope,
            turns=turns,
            annotations=annotations,
            metadata=metadata,
            title=title,
            tags=tags,
            cost=cost,
        )

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        return self.inner.load(key, scope=scope, last=last)

    def turns(
        self, key: str, *, scope: str = "", before: int | None = None, limit: int | None = None
    ) -> tuple[StoredTurn, ...]:
        return self.inner.turns(key, scope=scope, before=before, limit=limit)

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
        return self.inner.append(
            key,
            turns,
            scope=scope,
            expected=expected,
            annotations=annotations,
            keep=keep,
            fence=fence,
            title=title,
            tags=tags,
            cost=cost,
        )

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
        return self.inner.fork(
            key, new_key, scope=scope, at=at, head=head, metadata=metadata, title=title, tags=tags
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
        return self.inner.list(scope=scope, order=order, after=after, since=since, limit=limit)

    def scopes(self) -> tuple[str, ...]:
        return self.inner.scopes()

    def erase(
        self, key: str, *, scope: str = "", forks: Literal["keep", "erase"] | None = None
    ) -> tuple[str, ...]:
        return self.inner.erase(key, scope=scope, forks=forks)

    def expire(self, *, before: datetime, scope: str = "") -> tuple[str, ...]:
        return self.inner.expire(before=before, scope=scope)

    def prune(self, *, keep: int, key: str | None = None, scope: str = "") -> int:
        return self.inner.prune(keep=keep, key=key, scope=scope)

    def verify(self, key: str | None = None, *, scope: str | None = None) -> VerifyReport:
        return self.inner.verify(key, scope=scope)

    def lease(
        self, key: str, *, scope: str = "", wait: float | None = None, ttl: float = 30.0
    ) -> AbstractContextManager[Lease]:
        return self.inner.lease(key, scope=scope, wait=wait, ttl=ttl)

    def close(self) -> None:
        self.inner.close()
