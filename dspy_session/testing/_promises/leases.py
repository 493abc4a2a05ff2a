"""Promises of stores: one holder at a time."""

from __future__ import annotations

import secrets

from ...errors import ConfigurationError, LeaseError
from .case import StoreCase, refused


class Leases(StoreCase):
    """Leases and their fences."""

    def test_a_lease_excludes_others(self) -> None:
        with self.store.lease("k", scope=self.scope, wait=0) as lease:
            assert (lease.key, lease.scope) == ("k", self.scope)
            for wait in (0, 0.05):
                with refused(LeaseError), self.store.lease("k", scope=self.scope, wait=wait):
                    raise AssertionError("two holders at once")
            with self.store.lease("other", scope=self.scope, wait=0):
                pass
        with self.store.lease("k", scope=self.scope, wait=0) as again:
            assert again.token > lease.token

    def test_a_lease_is_given_back_after_an_error(self) -> None:
        with refused(KeyError), self.store.lease("k", scope=self.scope, wait=0):
            raise KeyError
        with self.store.lease("k", scope=self.scope, wait=0):
            pass

    def test_waiting_for_a_lease(self) -> None:
        self.begin()
        inside: list[int] = []

        def work() -> None:
            for _ in range(5):
                with self.store.lease("k", scope=self.scope) as lease:
                    inside.append(1)
                    assert len(inside) == 1
                    revision = self.load(last=0).revision
                    self.append("k", [secrets.token_hex(8)], revision, fence=lease.token)
                    inside.clear()

        self.together(work, 4)
        assert self.load().total == 20

    def test_a_commit_needs_its_fence(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope) as lease:
            revision = self.append("k", ["a"], revision, fence=lease.token)
            with refused(LeaseError):
                self.append("k", ["b"], revision, fence=lease.token - 1)
        with refused(LeaseError):
            self.append("k", ["b"], revision, fence=lease.token)
        revision = self.append("k", ["b"], revision)
        assert self.append("k", ["b"], self.load().revision) == revision
        assert self.ids() == ["a", "b"]

    def test_a_held_lease_is_renewed(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope, ttl=0.3) as lease:
            with refused(LeaseError), self.store.lease("k", scope=self.scope, wait=1.0):
                raise AssertionError("taken over although it was held")
            self.append("k", ["a"], revision, fence=lease.token)

    def test_a_crashed_holders_lease_is_taken_over(self) -> None:
        revision = self.begin()
        crashed = self.store.lease("k", scope=self.scope, ttl=0.2)
        old = crashed.__enter__()
        self.store.close()
        self.store = self.reopen()
        with self.store.lease("k", scope=self.scope, wait=60) as lease:
            assert lease.token > old.token
            with refused(LeaseError):
                self.append("k", ["late"], revision, fence=old.token)
            crashed.__exit__(None, None, None)
            self.append("k", ["good"], revision, fence=lease.token)
        assert self.ids() == ["good"]

    def test_a_repetition_needs_no_fence(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope) as lease:
            after = self.append("k", ["a"], revision, fence=lease.token)
        assert self.append("k", ["a"], revision, fence=lease.token) == after

    def test_lease_times_that_are_not_allowed(self) -> None:
        for more in ({"wait": -1}, {"ttl": 0}, {"ttl": float("nan")}):
            with refused(ConfigurationError), self.store.lease("k", scope=self.scope, **more):
                raise AssertionError("entered")
