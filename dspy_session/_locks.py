"""One lock for threads and tasks alike, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, contextmanager

from dspy_session.errors import BusyError

BUSY = (
    'another call holds this conversation, and the session was built with busy="fail": '
    'try again when it is done, or build the session with busy="wait"'
)

OWN_LOOP = (
    "a task of this event loop holds this conversation, and a sync call that waited for it here would keep the loop "
    "from ever running that task: await session.acall(...) instead"
)


class CallLock:
    """Held by one call at a time, whether it waits in a thread or in a task of whatever loop.

    A waiter is a future that the lock's holder resolves when it hands the lock over. The lock is never free while
    somebody waits, so nobody can overtake.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiters: deque[Future[None]] = deque()
        # The loops whose tasks hold the lock or wait for it.
        self._loops: list[asyncio.AbstractEventLoop] = []

    def _take(self) -> Future[None] | None:
        with self._guard:
            if not self._held:
                self._held = True
                return None
            waiter: Future[None] = Future()
            self._waiters.append(waiter)
            return waiter

    def _take_now(self) -> None:
        with self._guard:
            if self._held:
                raise BusyError(BUSY)
            self._held = True

    def release(self) -> None:
        """Hand the lock to the next in line who still wants it."""
        with self._guard:
            while self._waiters:
                waiter = self._waiters.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)
                    return
            self._held = False

    def _give_up(self, waiter: Future[None]) -> None:
        # A waiter that gives up at the moment in which it gets the lock must pass it on.
        if not waiter.cancel() and not waiter.cancelled():
            self.release()

    @contextmanager
    def hold(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock from a thread. Raises `BusyError` if it is held, and `wait` is false or can never end."""
        if asyncio._get_running_loop() in self._loops:
            raise BusyError(OWN_LOOP)
        if not wait:
            self._take_now()
        elif (waiter := self._take()) is not None:
            try:
                waiter.result()
            except BaseException:
                self._give_up(waiter)
                raise
        try:
            yield
        finally:
            self.release()

    @asynccontextmanager
    async def ahold(self, *, wait: bool = True) -> AsyncIterator[None]:
        """Hold the lock from a task, without blocking its loop. Raises `BusyError` if it is held and not to wait."""
        loop = asyncio.get_running_loop()
        if not wait:
            self._take_now()
        self._loops.append(loop)
        try:
            if wait and (waiter := self._take()) is not None:
                try:
                    await asyncio.wrap_future(waiter)
                except (asyncio.CancelledError, CancelledError):
                    self._give_up(waiter)
                    raise
            try:
                yield
            finally:
                self.release()
        finally:
            self._loops.remove(loop)
