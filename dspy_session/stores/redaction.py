"""Redaction: a hook that sees every document before it is written anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ..errors import ConfigurationError, StaleStateError
from ._documents import decode, encode
from ._wrapping import WrappedStore
from .base import Document, Store

__all__ = ["Redact", "RedactingStore"]

Redact: TypeAlias = Callable[
    [Literal["turn", "annotation", "head", "metadata", "summary"], Document], Document
]
"""Gets what kind of document it is and a copy of it, which it may change; returns what is to be stored."""


class RedactingStore(WrappedStore):
    """Stores what `redact` makes of each document.

    A turn or annotation which that changed is marked by the member `"redacted": true`. The hook has to leave
    `"id"`, `"kind"`, `"turn"` and `"path"` as they are (`ConfigurationError`), and to return the same for the
    same, or else repeating a commit is not recognised. A document of the kind "summary" has the members
    `"title"` and `"tags"`, as far as they are given.
    """

    def __init__(self, inner: Store, redact: Redact) -> None:
        super().__init__(inner)
        self._redact = redact

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
        summary = self._summary(title, tags)
        return super().create(
            key,
            self._plain("head", head),
            scope=scope,
            turns=[self._marked("turn", turn) for turn in turns],
            annotations=[self._marked("annotation", annotation) for annotation in annotations],
            metadata=self._plain("metadata", metadata or {}),
            title=summary.get("title", ""),
            tags=summary.get("tags", ()),
            cost=cost,
        )

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
        summary = self._summary(title, tags)
        try:
            return super().append(
                key,
                [self._marked("turn", turn) for turn in turns],
                scope=scope,
                expected=expected,
                annotations=[self._marked("annotation", annotation) for annotation in annotations],
                keep=keep,
                fence=fence,
                title=summary.get("title"),
                tags=summary.get("tags"),
                cost=cost,
            )
        except StaleStateError as error:
            # The caller may append it elsewhere: it gets back what it gave.
            raise StaleStateError(error.expected, error.found, dict(turns[-1]) if turns else None) from error

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
        summary = self._summary(title, tags)
        return super().fork(
            key,
            new_key,
            scope=scope,
            at=at,
            head=None if head is None else self._plain("head", head),
            metadata=None if metadata is None else self._plain("metadata", metadata),
            title=summary.get("title"),
            tags=summary.get("tags"),
        )

    def _plain(self, kind: Any, document: Mapping[str, Any]) -> Document:
        # A copy by way of the text: the hook may change it in place, and sees what would be stored.
        return self._redact(kind, decode(encode(document, f"the {kind}"), f"the {kind}"))

    def _marked(self, kind: Any, document: Mapping[str, Any]) -> Document:
        before = encode(document, f"the {kind}")
        after = self._redact(kind, decode(before, f"the {kind}"))
        if encode(after, f"the redacted {kind}") == before:
            return after
        for name in ("id",) if kind == "turn" else ("kind", "turn", "path"):
            if after.get(name) != document.get(name):
                raise ConfigurationError(f"redaction must leave the {name!r} of a {kind} as it is")
        return {**after, "redacted": True}

    def _summary(self, title: str | None, tags: Sequence[str] | None) -> Document:
        document: Document = {}
        if title is not None:
            document["title"] = title
        if tags is not None:
            document["tags"] = tags if isinstance(tags, str) else list(tags)
        return self._redact("summary", document) if document else document
