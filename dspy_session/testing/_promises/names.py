"""Promises of stores: what is listed, and which keys and scopes there may be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ...errors import ConfigurationError, ConversationNotFoundError
from ...stores.base import MAX_KEY_BYTES
from .case import FUTURE, StoreCase, refused, turn

STRANGE_KEYS = (
    "",
    " ",
    "a/b",
    "../up",
    "semi;colon'--",
    '"quoted"',
    "{braces}",
    "per%cent%s",
    "que?stion",
    "back\\slash",
    "nul\x00inside",
    "nul\x00other",
    "new\nline",
    "é",
    "e\u0301",
    "日本語",
    "😀",
    "\uffff",
    "A",
    "a",
    "a ",
    "k" * MAX_KEY_BYTES,
)


class Names(StoreCase):
    """Listings, keys and scopes."""

    # -- listing -----------------------------------------------------------------------------------------

    def test_summaries(self) -> None:
        revision = self.begin(title="é\x00", tags=["b", "a"], metadata={"m": [1]}, cost=0.25)
        [row] = self.store.list(scope=self.scope)
        assert (row.key, row.scope, row.title, row.tags) == ("k", self.scope, "é\x00", ("b", "a"))
        assert (row.turns, row.cost, row.metadata, row.source) == (0, 0.25, {"m": [1]}, None)
        assert row.created == row.updated
        assert row.created.utcoffset() == timedelta(0)
        revision = self.append("k", ["a", "b"], revision, cost=0.5)
        revision = self.append("k", [], revision, keep=1, title="new", tags=[])
        [after] = self.store.list(scope=self.scope)
        assert (after.turns, after.cost, after.title, after.tags) == (1, 0.75, "new", ())
        assert after.created == row.created
        assert after.updated >= row.updated
        found = self.load(last=0)
        assert (found.title, found.tags, found.cost) == ("new", (), 0.75)

    def test_listing_in_the_order_of_keys(self) -> None:
        keys = ["b", "a", "é", "Z", "", "\uffff", "😀", "ab", "a\x00"]
        for key in keys:
            self.begin(key)
        assert [row.key for row in self.store.list(scope=self.scope)] == sorted(keys)
        paged: list[str] = []
        after: str | None = None
        while page := self.store.list(scope=self.scope, after=after, limit=2):
            paged += [row.key for row in page]
            after = page[-1].key
        assert paged == sorted(keys)
        assert self.store.list(scope=self.scope, limit=0) == ()

    def test_listing_the_latest_first(self) -> None:
        for key in ("a", "b", "c"):
            self.begin(key)
        self.append("b", ["x"], self.load("b").revision)
        rows = self.store.list(scope=self.scope, order="updated")
        assert rows[0].key == "b"
        assert [row.updated for row in rows] == sorted((row.updated for row in rows), reverse=True)
        [b] = self.store.list(scope=self.scope, order="updated", limit=1)
        assert b.key == "b"
        assert [row.key for row in self.store.list(scope=self.scope, since=b.updated)] == ["b"]
        assert self.store.list(scope=self.scope, since=FUTURE) == ()
        wrong: Any = "title"
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, order=wrong)
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, order="updated", after="a")
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, since=datetime(2026, 1, 1))

    # -- keys and scopes ---------------------------------------------------------------------------------

    def test_strange_keys(self) -> None:
        for number, key in enumerate(STRANGE_KEYS):
            self.store.create(key, {"n": number}, scope=self.scope, turns=[turn(key, n=number)])
        assert [row.key for row in self.store.list(scope=self.scope)] == sorted(STRANGE_KEYS)
        for number, key in enumerate(STRANGE_KEYS):
            found = self.load(key)
            assert (found.key, found.head, found.turns[0].id) == (key, {"n": number}, key)
            self.store.append(key, [turn("t")], scope=self.scope, expected=found.revision)
            with self.store.lease(key, scope=self.scope, wait=0) as lease:
                note = {"kind": "s", "turn": key}
                revision = self.load(key).revision
                self.append(key, [], revision, annotations=[note], fence=lease.token)
            assert self.load(key).turns[0].annotations == (note,)
        assert self.store.verify(scope=self.scope).ok
        for key in STRANGE_KEYS:
            self.store.fork(key, key[: MAX_KEY_BYTES - 2] + "+f", scope=self.scope)
            assert self.store.erase(key, scope=self.scope, forks="keep") == (key,)
        assert len(self.store.list(scope=self.scope)) == len(STRANGE_KEYS)

    def test_strange_scopes(self) -> None:
        scopes = [f"{self.scope[:20]}{key}"[:MAX_KEY_BYTES] for key in STRANGE_KEYS]
        try:
            for scope in scopes:
                self.store.create("k", {"scope": scope}, scope=scope)
            for scope in scopes:
                assert self.store.load("k", scope=scope).head == {"scope": scope}
                assert len(self.store.list(scope=scope)) == 1
            assert [scope for scope in self.store.scopes() if scope in scopes] == sorted(scopes)
        finally:
            for scope in scopes:
                self.store.expire(before=FUTURE, scope=scope)
        assert not set(scopes) & set(self.store.scopes())

    def test_keys_that_are_not_allowed(self) -> None:
        for key in ("k" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "\ud800", 5, None, b"k"):
            wrong: Any = key
            for operation in (
                lambda wrong=wrong: self.store.create(wrong, {}, scope=self.scope),
                lambda wrong=wrong: self.store.create("k", {}, scope=wrong),
                lambda wrong=wrong: self.load(wrong),
                lambda wrong=wrong: self.store.fork("k", wrong, scope=self.scope),
                lambda wrong=wrong: self.store.lease(wrong, scope=self.scope).__enter__(),
            ):
                with refused(ConfigurationError):
                    operation()
        assert self.store.list(scope=self.scope) == ()

    def test_scopes_do_not_see_each_other(self) -> None:
        revision = self.begin(turns=2)
        before, other = self.load(), self.scope + "-other"
        with refused(ConversationNotFoundError):
            self.store.load("k", scope=other)
        with refused(ConversationNotFoundError):
            self.store.turns("k", scope=other)
        with refused(ConversationNotFoundError):
            self.store.append("k", [turn("x")], scope=other, expected=revision)
        with refused(ConversationNotFoundError):
            self.store.fork("k", "f", scope=other)
        with refused(ConversationNotFoundError):
            self.store.erase("k", scope=other, forks="erase")
        with refused(ConversationNotFoundError):
            self.store.prune(key="k", keep=0, scope=other)
        with refused(ConversationNotFoundError):
            self.store.verify("k", scope=other)
        assert self.store.list(scope=other) == ()
        assert self.store.prune(keep=0, scope=other) == 0
        assert self.store.expire(before=FUTURE, scope=other) == ()
        theirs = self.store.create("k", {"theirs": True}, scope=other, turns=[turn("t0", theirs=True)])
        with self.store.lease("k", scope=other, wait=0), self.store.lease("k", scope=self.scope, wait=0):
            self.store.append("k", [], scope=other, expected=theirs, keep=0)
        self.store.erase("k", scope=other)
        assert self.load() == before
