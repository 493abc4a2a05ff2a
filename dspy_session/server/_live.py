"""Keeping the answers fresh: the warehouse is synced when somebody asks, and never twice at once.

A request that finds the last sync older than the interval starts another one in a thread, waits for it for a
moment, and is answered from what there is then. So a server that nobody looks at costs nothing, and one that
is looked at is never behind by more than the interval and one sync.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any

import anyio
from anyio.abc import TaskGroup

from dspy_session.errors import DspySessionError

Progress = Callable[[int, int], None]
Sync = Callable[[Progress], Any]
"""Syncs the warehouse and tells how far it is: sessions done, sessions to do. What it returns may have `read`,
the number of sessions that had changed; without it, anything may have."""

PATIENCE = 1.5
"""Seconds that a request waits for a sync that it started or found."""

_log = logging.getLogger("dspy_session.server")


class Stopped(Exception):
    """The server ends while a sync runs; what was synced so far stays."""


class Live:
    """What is known of the syncs, and the one that runs.

    Args:
        sync: syncs the warehouse; None if somebody else does, or nobody.
        interval: seconds that must have passed since the last sync ended before the next one begins.
        state: names what the warehouse holds, which other processes may sync, too.
    """

    def __init__(self, sync: Sync | None, interval: float, state: Callable[[], str] = str) -> None:
        self.interval = interval
        self._sync = sync
        self._name_state, self._state = state, ""
        self._boot = secrets.token_hex(4)
        self._changes = 0
        self._tasks: TaskGroup | None = None
        self._running: anyio.Event | None = None
        self._ended: float | None = None
        self._stopping = False
        self._progress: tuple[int, int] | None = None
        self._told: dict[str, Any] = {"synced_at": None, "report": None, "error": None}

    @property
    def revision(self) -> str | None:
        """Names the state of the warehouse; None where it may change behind our back, or is changing."""
        return None if self._sync is None or self._running else self._revision

    @property
    def _revision(self) -> str:
        return f"{self._boot}.{self._changes}.{self._state}"

    def status(self) -> dict[str, Any]:
        """What a page shows of the syncs."""
        done, total = self._progress or (None, None)
        progress = None if done is None else {"done": done, "total": total}
        return {
            "revision": self._revision,
            "live": self._sync is not None,
            "interval": self.interval,
            "syncing": self._running is not None,
            "progress": progress,
            **self._told,
        }

    @asynccontextmanager
    async def kept_running(self) -> AsyncIterator[None]:
        """Inside, syncs go on beside the requests; at the end, one that runs is told to stop, and waited for.

        Without it, a request that starts a sync waits until it has ended.
        """
        self._stopping = False
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks, self._stopping = None, True

    async def freshen(self, patience: float = PATIENCE) -> None:
        """See to it that what is answered next is fresh, as far as that takes no more than a moment."""
        if self._sync is None or self._stopping:
            return
        if self._running is None and self._due():
            self._running = anyio.Event()
            if self._tasks is None:
                await self._run(self._sync, self._running)
            else:
                self._tasks.start_soon(self._run, self._sync, self._running)
        if self._running is not None:
            with anyio.move_on_after(patience):
                await self._running.wait()

    def _due(self) -> bool:
        return self._ended is None or time.monotonic() - self._ended >= self.interval

    async def _run(self, sync: Sync, running: anyio.Event) -> None:
        try:
            with anyio.CancelScope(shield=True):
                limiter = anyio.CapacityLimiter(1)
                report, state = await anyio.to_thread.run_sync(self._synced, sync, limiter=limiter)
            self._changes += bool(getattr(report, "read", True))
            self._state = state
            self._told = {"synced_at": _now(), "report": str(report), "error": None}
        except Exception as error:
            # What a sync wrote before it failed can be read.
            self._changes += self._progress is not None
            if not isinstance(error, Stopped):
                _log.exception("the sync failed")
            self._told = {**self._told, "error": _described(error)}
        finally:
            self._ended, self._progress, self._running = time.monotonic(), None, None
            running.set()

    def _synced(self, sync: Sync) -> tuple[Any, str]:
        return sync(self._tell), self._name_state()

    def _tell(self, done: int, total: int) -> None:
        """Called by the sync, in its thread."""
        if self._stopping:
            raise Stopped
        self._progress = (done, total)


def _described(error: Exception) -> str:
    """What went wrong, in our own words where they are; of other errors, no internals."""
    if isinstance(error, DspySessionError):
        return str(error)
    return (
        "the server is ending" if isinstance(error, Stopped) else f"the sync failed: {type(error).__name__}"
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
