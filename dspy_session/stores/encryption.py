"""Encryption at rest: a store around another one, which gets to see ciphertext alone (extra `crypto`).

A `KeyRing` seals every document on its own, with AES-256-GCM, and authenticates with it its *place*: scope,
key, what it is, and of a turn index and id. A row that was moved elsewhere, to another tenant, conversation or
index, does not open. What a fork inherits stays sealed under its source's key; the fork's sealed head and
metadata name those that it inherits from, and up to where.

In the clear remain: scopes, keys, the ids of turns, kinds and paths of annotations, the number and sizes of
documents, costs and times. Not detected: that somebody put the whole store, or the end of a line, back to an
older state.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

from ..errors import FormatError, StaleStateError, StoreError
from ._documents import check_key, decode, encode
from ._key_ring import KeyRing
from ._wrapping import WrappedStore
from .base import ConversationSummary, Document, Problem, Store, StoredConversation, StoredTurn, VerifyReport

__all__ = ["EncryptedStore", "KeyRing"]

_REMEMBERED = 10_000


class EncryptedStore(WrappedStore):
    """Seals what it hands to the inner store, and opens what it gets from there; see the module."""

    def __init__(self, inner: Store, keys: KeyRing) -> None:
        super().__init__(inner)
        self._keys = keys
        self._totals: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    # -- writing --------------------------------------------------------------------------------------------

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
        place = _Place(check_key(scope, "the scope"), check_key(key, "the key"))
        revision = super().create(
            key,
            self._seal_root(head, "head", place),
            scope=scope,
            turns=self._seal_turns(turns, place, 0),
            annotations=self._seal_notes(annotations, place),
            metadata=self._seal_root(metadata or {}, "metadata", place),
            title=self._seal_title(title, place) or "",
            tags=self._seal_tags(tags, place) or (),
            cost=cost,
        )
        self._remember(scope, key, revision, len(turns))
        return revision

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
        place = _Place(check_key(scope, "the scope"), check_key(key, "the key"))
        notes = self._seal_notes(annotations, place)
        # Turns alone are sealed for an index, which is not known before the store has been asked.
        commit = partial(
            self.inner.append,
            key,
            scope=scope,
            expected=expected,
            annotations=notes,
            keep=keep,
            fence=fence,
            title=self._seal_title(title, place),
            tags=self._seal_tags(tags, place),
            cost=cost,
        )
        start = self._start(place, turns, expected) if keep is None else keep
        try:
            revision = commit(self._seal_turns(turns, place, start))
        except StoreError as error:
            # A repetition is recognised by its sealed text, which depends on index, heritage and secret.
            with suppress(StoreError, FormatError):
                if turns and (standing := self._standing(place, turns, keep)):
                    return commit(standing)
            if isinstance(error, StaleStateError):
                last = dict(turns[-1]) if turns else None
                raise StaleStateError(error.expected, error.found, last) from error
            raise
        self._remember(scope, key, revision, start + len(turns))
        return revision

    def _start(self, place: _Place, turns: Sequence[Mapping[str, Any]], expected: str) -> int:
        """The index of the first of these turns: the length of the line at the expected revision."""
        known = self._totals.get((place.scope, place.key, expected))
        if known is not None or not turns:
            return known or 0
        return self.inner.load(place.key, scope=place.scope, last=0).total

    def _standing(
        self, place: _Place, turns: Sequence[Mapping[str, Any]], keep: int | None
    ) -> tuple[Document, ...]:
        """These turns as they stand on the line, sealed; nothing if they do not, or have other content.

        They must stand where they would be written: a text that was sealed for another index does not open there.
        """
        head = self.inner.load(place.key, scope=place.scope, last=0).head
        place = _Place(place.scope, place.key, self._open_root(head, "head", place)[1])
        wanted = {turn.get("id") for turn in turns}
        line = self.inner.turns(
            place.key,
            scope=place.scope,
            before=None if keep is None else keep + len(turns),
            limit=None if keep is None else len(turns),
        )
        rows = [row for row in line if row.id in wanted]
        if not rows:
            return ()
        start = rows[0].index if keep is None else keep
        if [row.index for row in rows] != list(range(start, start + len(turns))):
            return ()
        found = [_text_of(self._open_turn(row, place).data) for row in rows]
        return tuple(row.data for row in rows) if found == list(map(_text_of, turns)) else ()

    def _remember(self, scope: str, key: str, revision: str, total: int) -> None:
        self._totals[scope, key, revision] = total
        while len(self._totals) > _REMEMBERED:
            self._totals.popitem(last=False)

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
        check_key(new_key, "the new key")
        source = self.inner.load(key, scope=scope, last=0)
        old_head, lineage = self._open_root(source.head, "head", _Place(scope, key))
        old_metadata, _ = self._open_root(source.metadata, "metadata", _Place(scope, key))
        upto = source.total if at is None else at
        inherited = [*((name, min(stop, upto)) for name, stop in lineage), (key, upto)]
        place = _Place(scope, new_key, tuple(inherited))
        # Given explicitly, so that a turn committed in between is not inherited beyond what the head says.
        return super().fork(
            key,
            new_key,
            scope=scope,
            at=upto,
            head=self._seal_root(old_head if head is None else head, "head", place),
            metadata=self._seal_root(old_metadata if metadata is None else metadata, "metadata", place),
            title=self._seal_title(title, place),
            tags=self._seal_tags(tags, place),
        )

    # -- reading --------------------------------------------------------------------------------------------

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        found = super().load(key, scope=scope, last=last)
        head, lineage = self._open_root(found.head, "head", _Place(scope, key))
        metadata, _ = self._open_root(found.metadata, "metadata", _Place(scope, key))
        place = _Place(scope, key, lineage)
        self._remember(scope, key, found.revision, found.total)
        title, tags = self._open_outer(found.title, found.tags, place)
        return replace(
            found,
            head=head,
            metadata=metadata,
            title=title,
            tags=tags,
            turns=tuple(self._open_turn(turn, place) for turn in found.turns),
            annotations=tuple(self._open_note(note, place) for note in found.annotations),
        )

    def turns(
        self, key: str, *, scope: str = "", before: int | None = None, limit: int | None = None
    ) -> tuple[StoredTurn, ...]:
        head = self.inner.load(key, scope=scope, last=0).head
        _, lineage = self._open_root(head, "head", _Place(scope, key))
        found = super().turns(key, scope=scope, before=before, limit=limit)
        return tuple(self._open_turn(turn, _Place(scope, key, lineage)) for turn in found)

    def list(
        self,
        *,
        scope: str = "",
        order: Literal["key", "updated"] = "key",
        after: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[ConversationSummary, ...]:
        rows = super().list(scope=scope, order=order, after=after, since=since, limit=limit)
        return tuple(self._open_summary(row) for row in rows)

    def verify(self, key: str | None = None, *, scope: str | None = None) -> VerifyReport:
        report = super().verify(key, scope=scope)
        problems = list(report.problems)
        for one in self.scopes() if scope is None and key is None else (scope or "",):
            for name in [row.key for row in self.inner.list(scope=one)] if key is None else [key]:
                problems += self._unopened(one, name)
        settings = {**report.settings, "encryption": f"AES-256-GCM, current secret {self._keys.current!r}"}
        return replace(report, problems=tuple(problems), settings=settings)

    def _unopened(self, scope: str, key: str) -> Iterator[Problem]:
        """What of a conversation does not open."""
        try:
            head = self.inner.load(key, scope=scope, last=0).head
            place = _Place(scope, key, self._open_root(head, "head", _Place(scope, key))[1])
            self.load(key, scope=scope, last=0)
            turns = self.inner.turns(key, scope=scope)
        except (StoreError, FormatError) as error:
            yield Problem(scope, key, None, str(error))
            return
        for turn in turns:
            try:
                self._open_turn(turn, place)
            except (StoreError, FormatError) as error:
                yield Problem(scope, key, turn.index, str(error))

    # -- sealing and opening --------------------------------------------------------------------------------

    def _opened(self, document: Document, places: Iterable[bytes], name: str) -> Document:
        return decode(self._keys.open(document.get("sealed"), places, name), name)

    def _seal_root(self, document: Mapping[str, Any], what: str, place: _Place) -> Document:
        """A head or metadata, together with whom the conversation inherits from."""
        content = {"document": json.loads(encode(document, f"the {what}")), "lineage": place.lineage}
        return {"sealed": self._keys.seal(encode(content, what), place.own(what))}

    def _open_root(
        self, document: Document, what: str, place: _Place
    ) -> tuple[Document, tuple[tuple[str, int], ...]]:
        name = f"the {what} of {place.key!r} (scope {place.scope!r})"
        content = self._opened(document, [place.own(what)], name)
        return content["document"], tuple((key, stop) for key, stop in content["lineage"])

    def _seal_turns(
        self, turns: Sequence[Mapping[str, Any]], place: _Place, start: int
    ) -> tuple[Document, ...]:
        return tuple(
            {
                "id": check_key(turn.get("id"), "the id of a turn"),
                "sealed": self._keys.seal(_text_of(turn), place.own("turn", start + offset, turn.get("id"))),
            }
            for offset, turn in enumerate(turns)
        )

    def _open_turn(self, turn: StoredTurn, place: _Place) -> StoredTurn:
        name = f"turn {turn.index} of {place.key!r} (scope {place.scope!r})"
        places = place.all(turn.index, "turn", turn.index, turn.id)
        data = self._opened(turn.data, places, name)
        notes = tuple(self._open_note(note, place) for note in turn.annotations)
        return replace(turn, data=data, annotations=notes)

    def _seal_notes(self, notes: Sequence[Mapping[str, Any]], place: _Place) -> tuple[Document, ...]:
        return tuple(
            {
                **{name: note[name] for name in ("kind", "path", "turn") if name in note},
                "sealed": self._keys.seal(
                    encode(note, "an annotation"), place.own("annotation", *_name(note))
                ),
            }
            for note in notes
        )

    def _open_note(self, note: Document, place: _Place) -> Document:
        name = f"an annotation of {place.key!r} (scope {place.scope!r})"
        places = place.all(None, "annotation", *_name(note))
        return self._opened(note, places, name)

    def _seal_title(self, title: str | None, place: _Place) -> str | None:
        if not title or not isinstance(title, str):
            return title
        return self._keys.seal(json.dumps([title]), place.own("title"))

    def _seal_tags(self, tags: Sequence[str] | None, place: _Place) -> Sequence[str] | None:
        if not tags or isinstance(tags, str):
            return tags
        return [self._keys.seal(json.dumps(list(tags)), place.own("tags"))]

    def _open_summary(self, row: ConversationSummary) -> ConversationSummary:
        metadata, lineage = self._open_root(row.metadata, "metadata", _Place(row.scope, row.key))
        title, tags = self._open_outer(row.title, row.tags, _Place(row.scope, row.key, lineage))
        return replace(row, title=title, tags=tags, metadata=metadata)

    def _open_outer(self, title: str, tags: tuple[str, ...], place: _Place) -> tuple[str, tuple[str, ...]]:
        name = f"the summary of {place.key!r} (scope {place.scope!r})"
        if title:
            [title] = json.loads(self._keys.open(title, place.all(None, "title"), name))
        if tags:
            tags = tuple(json.loads(self._keys.open(tags[0], place.all(None, "tags"), name)))
        return title, tags


class _Place:
    """Where documents of a conversation stand: under its own key, or inherited under another."""

    def __init__(self, scope: str, key: str, lineage: tuple[tuple[str, int], ...] = ()) -> None:
        self.scope, self.key, self.lineage = scope, key, lineage

    def own(self, *parts: object) -> bytes:
        """The place of a document that the conversation writes itself."""
        return json.dumps(["dspy-session", 1, self.scope, self.key, *parts]).encode("ascii")

    def all(self, index: int | None, *parts: object) -> list[bytes]:
        """The places that a document may have been written for, which stands at an index, or at none."""
        keys = [self.key, *(key for key, stop in self.lineage if index is None or index < stop)]
        return [_Place(self.scope, key).own(*parts) for key in dict.fromkeys(keys)]


def _name(note: Mapping[str, Any]) -> tuple[object, object, object]:
    return note.get("kind"), note.get("path"), note.get("turn")


def _text_of(turn: Mapping[str, Any]) -> str:
    return encode(turn, "a turn")
