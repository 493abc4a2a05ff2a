"""Promises of stores: what is deleted is gone, what is kept is found again and can be verified."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ...errors import (
    ConfigurationError,
    ConversationNotFoundError,
    LeaseError,
    StaleStateError,
    StoreError,
    UnknownPathError,
)
from .case import FUTURE, StoreCase, names, refused, turn


class Keeping(StoreCase):
    """Deleting, verifying, closing and opening."""

    # -- deleting ----------------------------------------------------------------------------------------

    def test_erase(self) -> None:
        revision = self.begin(turns=3)
        self.begin("other", turns=1)
        assert self.store.erase("k", scope=self.scope) == ("k",)
        with refused(ConversationNotFoundError):
            self.load()
        assert [row.key for row in self.store.list(scope=self.scope)] == ["other"]
        assert self.ids("other") == ["t0"]
        new = self.begin()
        assert new != revision
        with refused(StaleStateError):
            self.append("k", ["x"], revision)
        assert self.ids() == []

    def test_erasing_what_has_forks(self) -> None:
        self.begin(turns=3)
        self.store.fork("k", "f", scope=self.scope, at=2)
        self.store.fork("f", "g", scope=self.scope)
        with refused(StoreError) as caught:
            self.store.erase("k", scope=self.scope)
        assert "'f'" in str(caught[0])
        assert self.ids() == ["t0", "t1", "t2"]
        assert self.store.erase("f", scope=self.scope, forks="keep") == ("f",)
        assert self.ids("g") == ["t0", "t1"]
        self.append("g", ["g0"], self.load("g").revision)
        self.store.fork("k", "f", scope=self.scope)
        self.store.fork("f", "h", scope=self.scope)
        assert self.store.erase("k", scope=self.scope, forks="erase") == ("f", "h", "k")
        assert [row.key for row in self.store.list(scope=self.scope)] == ["g"]
        assert self.ids("g") == ["t0", "t1", "g0"]
        wrong: Any = "drop"
        with refused(ConfigurationError):
            self.store.erase("g", scope=self.scope, forks=wrong)

    def test_a_fork_that_was_kept_has_no_source(self) -> None:
        self.begin(turns=1)
        self.store.fork("k", "f", scope=self.scope)
        self.store.erase("k", scope=self.scope, forks="keep")
        self.begin()
        assert [row.source for row in self.store.list(scope=self.scope)] == [None, None]
        assert self.store.erase("k", scope=self.scope) == ("k",)
        assert self.ids("f") == ["t0"]

    def test_a_lease_ends_with_its_conversation(self) -> None:
        self.begin()
        with self.store.lease("k", scope=self.scope, wait=0) as old:
            self.store.erase("k", scope=self.scope)
            revision = self.begin()
            with refused(LeaseError):
                self.append("k", ["a"], revision, fence=old.token)
            with self.store.lease("k", scope=self.scope, wait=0) as new:
                assert new.token > old.token
                self.append("k", ["b"], revision, fence=new.token)
        assert self.ids() == ["b"]

    def test_expire(self) -> None:
        self.begin("old", turns=2)
        self.store.fork("old", "fork", scope=self.scope)
        self.begin("new", turns=1)
        self.append("fork", ["x"], self.load("fork").revision)
        [limit] = [row.updated for row in self.store.list(scope=self.scope) if row.key == "old"]
        assert self.store.expire(before=limit, scope=self.scope) == ()
        limit += timedelta(microseconds=1)
        assert self.store.expire(before=limit, scope=self.scope) == ("old",)
        assert self.ids("fork") == ["t0", "t1", "x"]
        assert self.store.expire(before=FUTURE, scope=self.scope) == ("fork", "new")

    def test_prune(self) -> None:
        revision = self.begin(turns=6)
        revision = self.append("k", ["x"], revision, keep=5)
        revision = self.append("k", [], revision, annotations=[{"kind": "m", "v": 1}])
        revision = self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t0"}])
        self.begin("short", turns=1)
        assert self.store.prune(keep=2, scope=self.scope) == 4
        found = self.load()
        assert (names(found.turns), found.first, found.total) == (["t4", "x"], 4, 6)
        assert [row.index for row in found.turns] == [4, 5]
        assert found.annotations == ({"kind": "m", "v": 1},)
        assert (found.revision, self.ids("short")) == (revision, ["t0"])
        assert self.store.turns("k", scope=self.scope, before=4) == ()
        for last, left in ((0, []), (1, ["x"]), (2, ["t4", "x"]), (3, ["t4", "x"]), (9, ["t4", "x"])):
            assert names(self.load(last=last).turns) == left
        with refused(UnknownPathError):
            self.append("k", [], revision, keep=3)
        with refused(UnknownPathError):
            self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t0"}])
        with refused(UnknownPathError):
            self.store.fork("k", "f", scope=self.scope, at=3)
        revision = self.append("k", ["y"], revision, keep=4)
        assert (self.ids(), self.load().total) == (["y"], 5)
        assert self.store.prune(key="k", keep=0, scope=self.scope) == 1
        self.append("k", ["z"], revision)
        assert [(row.index, row.id) for row in self.load().turns] == [(5, "z")]
        assert self.store.verify(scope=self.scope).ok

    def test_pruning_a_scope_prunes_each_of_its_conversations(self) -> None:
        for key, turns in (("a", 3), ("b", 1), ("c", 2)):
            self.begin(key, turns=turns)
        assert self.store.prune(keep=1, scope=self.scope) == 3
        assert [self.ids(key) for key in "abc"] == [["t2"], ["t0"], ["t1"]]

    # -- verify ------------------------------------------------------------------------------------------

    def test_verify(self) -> None:
        revision = self.begin(turns=4)
        self.append("k", ["x"], revision, keep=2)
        self.store.fork("k", "f", scope=self.scope)
        report = self.store.verify(scope=self.scope)
        assert report.ok
        assert (report.conversations, report.turns, report.problems) == (2, 6, ())
        assert report.settings["backend"]
        assert self.store.verify("f", scope=self.scope).turns == 3

    # -- handles -----------------------------------------------------------------------------------------

    def test_conversations_survive_closing(self) -> None:
        revision = self.begin(turns=3)
        revision = self.append("k", ["x"], revision, keep=2, annotations=[{"kind": "m"}])
        self.store.fork("k", "f", scope=self.scope, at=1)
        before = [self.load(), self.load("f"), self.store.list(scope=self.scope)]
        self.store.close()
        self.store.close()
        self.store = self.open_store()
        assert [self.load(), self.load("f"), self.store.list(scope=self.scope)] == before
        self.append("k", ["y"], revision)

    def test_handles_see_each_others_commits(self) -> None:
        revision = self.begin(turns=1)
        with self.open_store() as other:
            assert other.load("k", scope=self.scope) == self.load()
            new = other.append("k", [turn("x")], scope=self.scope, expected=revision)
            assert self.ids() == ["t0", "x"]
            with refused(StaleStateError):
                self.append("k", ["y"], revision)
            with other.lease("k", scope=self.scope), refused(LeaseError):
                self.store.lease("k", scope=self.scope, wait=0).__enter__()
            self.append("k", ["y"], new)
