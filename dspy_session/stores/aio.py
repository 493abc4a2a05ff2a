"""Any store, from an event loop, without blocking it.

Each operation runs in a worker thread. One that writes is shielded from cancellation: a commit that has begun
ends, and its outcome is what is stored. One that reads is abandoned when its task is cancelled.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..errors import LeaseError
from .base import ConversationSummary, Store, StoredConversation, StoredTurn, VerifyReport
from .lease import Lease, busy, check_times, pauses

__all__ = ["AsyncStore"]

Result = TypeVar("Result")


async def to_the_end(
    work: Callable[[], Result],
    *,
    must: bool = True,
    undo: Callable[[], Any] | None = None,
    limiter: anyio.CapacityLimiter | None = None,
) -> Result:
    """Run in a worker thread and wait until that is done, whatever cancels the task meanwhile.

    A shield keeps cancelled scopes away, but not asyncio's `Task.cancel()`, which ends an `await` at once
    and leaves the thread to itself. The cancellation is raised when the work is done.

    Args:
        work: what to do.
        must: do it even if the task is cancelled before it has begun.
        undo: takes the finished work back if the task was cancelled meanwhile.
        limiter: of the threads.
    """
    claim, outcome = threading.Lock(), Future[Result]()

    def run() -> None:
        if claim.acquire(blocking=False):
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

    cancelled: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not outcome.done():
            try:
                if cancelled is None:
                    await anyio.to_thread.run_sync(run, limiter=limiter)
                else:
                    await anyio.sleep(0.002)
            except anyio.get_cancelled_exc_class() as error:
                if not must and claim.acquire(blocking=False):
                    raise
                if cancelled is None:
                    # Whoever waits for this task may cancel it at every step: no further `await` would get
                    # it begun.
                    threading.Thread(target=contextvars.copy_context().run, args=(run,)).start()
                cancelled = error
        if cancelled is not None:
            if undo is not None and outcome.exception() is None:
                await to_the_end(undo, limiter=limiter)
            raise cancelled
    return outcome.result()


class AsyncStore:
    """The operations of `Store`, awaitable; their parameters, results and errors are the same.

    Args:
        store: the store to use.
        limiter: how many operations run at once; by default the 40 threads which anyio allows in all.
    """

    def __init__(self, store: Store, *, limiter: anyio.CapacityLimiter | None = None) -> None:
        self.store = store
        self._limiter = limiter

    async def _read(self, work: Callable[[], Result]) -> Result:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    async def _write(self, work: Callable[[], Result]) -> Result:
        # What was cancelled already must not begin to write.
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await to_the_end(work, must=False, limiter=self._limiter)

    async def create(self, key: str, head: Mapping[str, Any], **options: Any) -> str:
        """See `Store.create`."""
        return await self._write(partial(self.store.create, key, head, **options))

    async def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        """See `Store.load`."""
        return await self._read(partial(self.store.load, key, scope=scope, last=last))

    async def turns(
        self, key: str, *, scope: str = "", before: int | None = None, limit: int | None = None
    ) -> tuple[StoredTurn, ...]:
        """See `Store.turns`."""
        return await self._read(partial(self.store.turns, key, scope=scope, before=before, limit=limit))

    async def append(
        self, key: str, turns: Sequence[Mapping[str, Any]] = (), *, expected: str, **options: Any
    ) -> str:
        """See `Store.append`."""
        return await self._write(partial(self.store.append, key, turns, expected=expected, **options))

    async def fork(self, key: str, new_key: str, **options: Any) -> str:
        """See `Store.fork`."""
        return await self._write(partial(self.store.fork, key, new_key, **options))

    async def list(self, *, scope: str = "", **options: Any) -> tuple[ConversationSummary, ...]:
        """See `Store.list`."""
        return await self._read(partial(self.store.list, scope=scope, **options))

    async def scopes(self) -> tuple[str, ...]:
        """See `Store.scopes`."""
        return await self._read(self.store.scopes)

    async def erase(
        self, key: str, *, scope: str = "", forks: Literal["keep", "erase"] | None = None
    ) -> tuple[str, ...]:
        """See `Store.erase`."""
        return await self._write(partial(self.store.erase, key, scope=scope, forks=forks))

    async def expire(self, *, before: datetime, scope: str = "") -> tuple[str, ...]:
        """See `Store.expire`."""
        return await self._write(partial(self.store.expire, before=before, scope=scope))

    async def prune(self, *, keep: int, key: str | None = None, scope: str = "") -> int:
        """See `Store.prune`."""
        return await self._write(partial(self.store.prune, keep=keep, key=key, scope=scope))

    async def verify(self, key: str | None = None, *, scope: str | None = None) -> VerifyReport:
        """See `Store.verify`."""
        return await self._read(partial(self.store.verify, key, scope=scope))

    @asynccontextmanager
    async def lease(
        self, key: str, *, scope: str = "", wait: float | None = None, ttl: float = 30.0
    ) -> AsyncIterator[Lease]:
        """See `Store.lease`. Waiting keeps no thread, and a cancelled task gives its lease back."""
        check_times(wait, ttl)
        deadline, pause = (math.inf if wait is None else time.monotonic() + wait), pauses()
        while True:
            manager = self.store.lease(key, scope=scope, wait=0, ttl=ttl)
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                give_back = partial(manager.__exit__, None, None, None)
                lease = await to_the_end(manager.__enter__, must=False, undo=give_back, limiter=self._limiter)
                break
            except LeaseError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise busy(scope, key, wait) from None
            await anyio.sleep(min(next(pause), left))
        try:
            yield lease
        finally:
            await to_the_end(give_back, limiter=self._limiter)

    async def close(self) -> None:
        """See `Store.close`."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.store.close, limiter=self._limiter)

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
