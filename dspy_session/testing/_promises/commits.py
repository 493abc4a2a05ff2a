"""Promises of stores: a commit is written once, whole, and on what its writer has seen."""

from __future__ import annotations

import secrets
from typing import Any

from ...errors import ConfigurationError, StaleStateError, StoreError
from ...stores.base import MAX_KEY_BYTES
from .case import StoreCase, refused, turn


class Commits(StoreCase):
    """Commits and their revisions."""

    def test_every_commit_replaces_the_revision(self) -> None:
        seen = [self.begin()]
        seen.append(self.append("k", ["a"], seen[-1]))
        seen.append(self.append("k", ["b", "c"], seen[-1]))
        seen.append(self.append("k", [], seen[-1], annotations=[{"kind": "m"}]))
        seen.append(self.append("k", [], seen[-1], keep=2))
        seen.append(self.append("k", [], seen[-1], title="t"))
        seen.append(self.append("k", [], seen[-1], cost=0.5))
        assert len(set(seen)) == len(seen)
        assert self.load().revision == seen[-1]
        assert self.append("k", [], seen[-1]) == seen[-1]

    def test_an_outdated_commit_writes_nothing(self) -> None:
        old = self.begin(turns=1)
        new = self.append("k", ["theirs"], old)
        before = self.load()
        for more in ({}, {"keep": 0}, {"annotations": [{"kind": "m"}]}, {"title": "x"}):
            with refused(StaleStateError) as caught:
                self.append("k", ["mine"], old, **more)
            assert (caught[0].expected, caught[0].found) == (old, new)
            assert caught[0].turn == turn("mine")
        with refused(StaleStateError):
            self.append("k", [], old, keep=0)
        with refused(StaleStateError):
            self.append("k", ["x"], "made up")
        with refused(StaleStateError):
            self.append("k", [], old)
        assert self.load() == before

    def test_repeating_the_latest_commit_is_harmless(self) -> None:
        start = self.begin(turns=2)
        commits: list[dict[str, Any]] = [
            {"turns": [turn("a")]},
            {"turns": [turn("b"), turn("c")], "annotations": [{"kind": "m", "v": 1}]},
            {"annotations": [{"kind": "m", "v": 2}, {"kind": "s", "turn": "a"}]},
            {"keep": 3},
            {"turns": [turn("d")], "keep": 1, "cost": 1.5},
            {"title": "a title", "tags": ["x"]},
        ]
        for commit in commits:
            after = self.store.append("k", scope=self.scope, expected=start, **commit)
            found, [row] = self.load(), self.store.list(scope=self.scope)
            assert self.store.append("k", scope=self.scope, expected=start, **commit) == after
            assert self.load() == found
            assert self.store.list(scope=self.scope) == (row,)
            start = after

    def test_repeating_a_commit_after_others_returns_its_own_revision(self) -> None:
        start = self.begin(turns=1)
        mine = self.append("k", ["a", "b"], start)
        theirs = self.append("k", ["c"], mine)
        assert self.append("k", ["a", "b"], start) == mine
        with refused(StaleStateError):
            self.append("k", ["d"], mine)
        assert self.ids() == ["t0", "a", "b", "c"]
        assert self.load().revision == theirs

    def test_a_repetition_returns_the_revision_of_its_last_turn(self) -> None:
        start = revision = self.begin()
        after = {}
        for name in "abcde":
            after[name] = revision = self.append("k", [name], revision)
        for ids in ("a", "ab", "bc", "abcd"):
            assert self.append("k", [*ids], start) == after[ids[-1]]
        assert self.ids() == [*"abcde"]

    def test_a_repetition_is_recognised_after_pruning(self) -> None:
        start = self.begin(turns=5)
        mine = self.append("k", ["a", "b"], start)
        latest = self.append("k", ["c"], mine)
        self.store.prune(key="k", keep=4, scope=self.scope)
        assert self.append("k", ["a", "b"], start) == mine
        assert self.append("k", ["a", "b"], latest) == latest
        assert self.ids() == ["t4", "a", "b", "c"]

    def test_a_fork_recognises_repetitions_of_what_it_inherited(self) -> None:
        self.begin(turns=3)
        forked = self.store.fork("k", "f", scope=self.scope)
        mine = self.append("f", ["x"], forked)
        latest = self.append("f", ["y"], mine)
        assert self.append("f", ["t1", "t2"], forked) == forked
        assert self.append("f", ["t2", "x"], forked) == mine
        assert self.append("f", ["t0"], latest) == latest
        assert self.ids("f") == ["t0", "t1", "t2", "x", "y"]

    def test_a_turn_that_stands_there_is_not_written_again(self) -> None:
        revision = self.append("k", ["a"], self.begin())
        assert self.append("k", ["a"], revision) == revision
        revision = self.append("k", ["b"], revision)
        assert self.append("k", ["a"], revision) == revision
        assert self.append("k", ["a", "b"], revision) == revision
        assert self.ids() == ["a", "b"]

    def test_an_id_stands_for_one_content(self) -> None:
        start = self.begin()
        revision = self.append("k", ["a"], start)
        for turns in ([turn("a", other=1)], [turn("b"), turn("a")], [turn("a"), turn("b")]):
            with refused(StoreError) as caught:
                self.store.append("k", turns, scope=self.scope, expected=revision)
            assert not isinstance(caught[0], StaleStateError)
        with refused(StaleStateError):
            self.store.append("k", [turn("a", other=1)], scope=self.scope, expected=start)
        with refused(ConfigurationError):
            self.append("k", ["x", "x"], revision)
        assert self.ids() == ["a"]

    def test_a_repetition_elsewhere_is_none(self) -> None:
        start = self.begin(turns=3)
        self.append("k", ["a"], start)
        with refused(StaleStateError):
            self.append("k", ["a"], start, keep=1)
        assert self.ids() == ["t0", "t1", "t2", "a"]

    def test_a_commit_that_was_undone_is_not_repeated(self) -> None:
        start = self.begin(turns=2)
        mine = self.append("k", ["a"], start)
        self.append("k", [], mine, keep=2)
        with refused(StaleStateError):
            self.append("k", ["a"], start)
        assert self.ids() == ["t0", "t1"]

    def test_a_repetition_that_moves_back_is_one_at_its_position(self) -> None:
        start = self.begin(turns=3)
        mine = self.append("k", ["a", "b"], start, keep=1)
        self.append("k", ["c"], mine)
        assert self.append("k", ["a", "b"], start, keep=1) == mine
        for keep in (0, 2, 3, 4, 5):
            with refused(StaleStateError):
                self.append("k", ["a", "b"], start, keep=keep)
        assert self.ids() == ["t0", "a", "b", "c"]

    def test_parameters_that_are_not_allowed(self) -> None:
        revision = self.begin(turns=1)
        bad: list[dict[str, Any]] = [
            {"turns": [{"no": "id"}]},
            {"turns": [{"id": 5}]},
            {"turns": [turn("x" * (MAX_KEY_BYTES + 1))]},
            {"annotations": [{"no": "kind"}]},
            {"annotations": [{"kind": "m", "path": 3}]},
            {"annotations": [{"kind": "m", "turn": 3}]},
            {"keep": -1},
            {"keep": True},
            {"cost": float("nan")},
            {"tags": "no list"},
            {"title": 3},
            {"expected": None},
        ]
        for more in bad:
            with refused(ConfigurationError):
                self.store.append("k", **{"scope": self.scope, "expected": revision, **more})
        for last in (-1, 1.5):
            wrong: Any = last
            with refused(ConfigurationError):
                self.load(last=wrong)
        assert self.load().revision == revision

    def test_concurrent_writers_lose_nothing(self) -> None:
        self.begin()
        done: list[str] = []

        def write() -> None:
            for _ in range(10):
                name = secrets.token_hex(8)
                while True:
                    try:
                        self.append("k", [name], self.load(last=0).revision)
                        break
                    except StaleStateError:
                        continue
                done.append(name)

        self.together(write, 4)
        assert len(done) == 40
        assert sorted(self.ids()) == sorted(done)
        assert [stored.index for stored in self.load().turns] == list(range(40))
