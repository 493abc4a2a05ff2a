"""Leases: one request at a time works on a conversation, and a crashed one does not block it for ever.

A lease has a *fencing token*, a number above that of every earlier lease of the same conversation. The
holder gives it to each commit; a commit whose token is not the current one is refused, so a holder that was
paused for longer than the lease lasts cannot write after somebody else took over. While it is held, a lease
is renewed by a thread of its own, which all leases of one store share.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import ConfigurationError, DspySessionError, LeaseError

__all__ = ["Lease", "LeaseKeeper"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25


@dataclass(frozen=True)
class Lease:
    """The right to work on a conversation, while it is not lost.

    Attributes:
        scope: of the conversation.
        key: of the conversation.
        token: the fencing token, for `Store.append(fence=...)`.
        ttl: for how many seconds it lasts without being renewed.
    """

    scope: str
    key: str
    token: int
    ttl: float


def check_times(wait: float | None, ttl: float) -> None:
    """Refuse times that no lease can have."""
    if wait is not None and not wait >= 0:
        raise ConfigurationError(f"wait must be None or a number of seconds from 0, not {wait!r}")
    if not 0.05 <= ttl <= 86_400:
        raise ConfigurationError(f"ttl must be between 0.05 seconds and a day, not {ttl!r}")


def busy(scope: str, key: str, wait: float | None) -> LeaseError:
    """The error for a lease that could not be had in time."""
    waited = "" if not wait else f" after waiting {wait:g} s"
    return LeaseError(f"another request holds {key!r} (scope {scope!r}){waited}; try again, or wait longer")


def pauses() -> Iterator[float]:
    """How long to pause between attempts, in seconds: longer each time, with jitter to spread waiters."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


class LeaseKeeper:
    """Takes, renews and gives back the leases of one store, by three functions of its backend."""

    def __init__(
        self,
        take: Callable[[str, str, float], int | None],
        renew: Callable[[str, str, int, float], bool],
        drop: Callable[[str, str, int], None],
    ) -> None:
        self._take, self._renew, self._drop = take, renew, drop
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._held: dict[Lease, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, scope: str, key: str, *, wait: float | None, ttl: float) -> Iterator[Lease]:
        """Hold a lease for a block; see `Store.lease`."""
        check_times(wait, ttl)
        deadline = None if wait is None else time.monotonic() + wait
        pause = pauses()
        while (lease := self.attempt(scope, key, ttl)) is None:
            left = math.inf if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise busy(scope, key, wait)
            time.sleep(min(next(pause), left))
        try:
            yield lease
        finally:
            self.release(lease)

    def attempt(self, scope: str, key: str, ttl: float) -> Lease | None:
        """A lease, which is renewed from now on, or None if somebody else has it."""
        if self._pid != os.getpid():
            # A forked child: its parent's leases are the parent's to renew, and threads do not cross a fork.
            self._begin()
        token = self._take(scope, key, ttl)
        if token is None:
            return None
        lease = Lease(scope, key, token, ttl)
        with self._changed:
            self._held[lease] = time.monotonic() + ttl / 3
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="dspy-session-leases", daemon=True)
                self._thread.start()
            self._changed.notify()
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back. If the store cannot be reached it is left to expire."""
        with self._changed:
            self._held.pop(lease, None)
            self._changed.notify()
        try:
            self._drop(lease.scope, lease.key, lease.token)
        except DspySessionError:
            # The block's own result or error matters more, and the lease expires by itself.
            return

    def abandon(self) -> None:
        """Stop renewing, as a crash would: what is held now expires by itself."""
        with self._changed:
            self._held.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._held:
                    self._changed.wait(timeout=5.0)
                    if not self._held:
                        self._thread = None
                        return
                lease, due = min(self._held.items(), key=lambda item: item[1])
                pause = due - time.monotonic()
                if pause > 0:
                    self._changed.wait(timeout=pause)
                    continue
            self._keep_alive(lease)

    def _keep_alive(self, lease: Lease) -> None:
        try:
            held = self._renew(lease.scope, lease.key, lease.token, lease.ttl)
        except DspySessionError:
            # Unreachable for now: the next attempt may come before the lease expires.
            held = True
        with self._changed:
            if lease in self._held:
                if held:
                    self._held[lease] = time.monotonic() + lease.ttl / 3
                else:
                    del self._held[lease]
