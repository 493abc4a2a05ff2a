"""One request of one user: load the conversation, bind its state, run, append each turn.

A `Conversation` knows a store by its contract alone. It holds the lease, if one is wanted, for the whole
block; each finished turn goes to the store in one commit before the call that made it returns, based on the
revision that was loaded. A turn that the store refuses is no turn of the state either.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import anyio.to_thread

from dspy_session import _context, telemetry
from dspy_session._binding import refuse_generator
from dspy_session._committing import Committing, OnConflict
from dspy_session._kept import Kept
from dspy_session._options import one_of
from dspy_session._stored_examples import stored_examples
from dspy_session._turn_documents import state_of
from dspy_session._windowed import keeps_few, needed_turns, shows_enough
from dspy_session.errors import (
    BindingError,
    ConfigurationError,
    ConversationNotFoundError,
    StaleStateError,
    StoreError,
)
from dspy_session.history import Log, Position
from dspy_session.state import SessionState
from dspy_session.stores.aio import AsyncStore
from dspy_session.stores.base import Store
from dspy_session.turns import Turn

if TYPE_CHECKING:
    from dspy_session._base import SessionBase
    from dspy_session.stores.base import StoredConversation

__all__ = ["Conversation", "LeaseMode", "OnConflict", "needed_turns", "stored_examples"]

LeaseMode = Literal["wait", "fail"]


class Conversation(Committing):
    """A stored conversation, open for a block. Made by `session.conversation(key, store=…)`.

    Attributes:
        key: the conversation's key; that of the fork, after a conflict with `on_conflict="fork"`.
        scope: the tenant.
        state: the `SessionState`; inside the block it is bound to the session.
        revision: the store's revision; None while nothing is stored.
    """

    state: SessionState

    def __init__(
        self,
        session: SessionBase,
        key: str,
        store: Store | AsyncStore,
        *,
        scope: str = "",
        lease: LeaseMode | None = "wait",
        ttl: float = 30.0,
        on_conflict: OnConflict = "raise",
        last: int | None = None,
        types: Iterable[type] = (),
    ) -> None:
        if lease is not None:
            one_of("lease", lease, get_args(LeaseMode))
        one_of("on_conflict", on_conflict, get_args(OnConflict))
        plain = store.store if isinstance(store, AsyncStore) else store
        if not isinstance(plain, Store):
            raise ConfigurationError(f"store must be a Store (open_store(url) makes one), not {store!r}")
        super().__init__(session, plain, on_conflict)
        self._lease, self._ttl = lease, ttl
        self._last, self._types = last, tuple(types)
        self._blocks: contextlib.ExitStack | contextlib.AsyncExitStack | None = None
        self.key, self.scope = key, scope
        self.revision: str | None = None

    # ── the block ────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Conversation:
        self._begin(sys._getframe(1))
        with contextlib.ExitStack() as stack:
            if self._lease is not None:
                wait = None if self._lease == "wait" else 0.0
                held = self._store.lease(self.key, scope=self.scope, wait=wait, ttl=self._ttl)
                self._fence = stack.enter_context(held).token
            self._load()
            stack.enter_context(self._bound())
            self._blocks = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        blocks, self._blocks = self._blocks, None
        assert isinstance(blocks, contextlib.ExitStack)
        with blocks:
            if kind is None:
                self.publish()

    async def __aenter__(self) -> Conversation:
        self._begin(sys._getframe(1))
        async with contextlib.AsyncExitStack() as stack:
            if self._lease is not None:
                wait = None if self._lease == "wait" else 0.0
                held = AsyncStore(self._store).lease(self.key, scope=self.scope, wait=wait, ttl=self._ttl)
                self._fence = (await stack.enter_async_context(held)).token
            await anyio.to_thread.run_sync(self._load)
            stack.enter_context(self._bound())
            self._blocks = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        blocks, self._blocks = self._blocks, None
        assert isinstance(blocks, contextlib.AsyncExitStack)
        async with blocks:
            if kind is None:
                await self.apublish()

    def _begin(self, caller: Any) -> None:
        refuse_generator(caller)
        if self._blocks is not None:
            raise BindingError("this conversation is open already: make one for each block")
        self._refused, self._fence = {}, None
        telemetry.opened(self.key)

    @contextlib.contextmanager
    def _bound(self) -> Iterator[None]:
        self.state.sink = self
        try:
            with _context.entered(_context.binding(self._session.lineage, self.state)):
                yield
        finally:
            self.state.sink = _Closed(self.key)

    # ── loading ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def first(self) -> int:
        """The index of the oldest turn that is loaded."""
        return self.state.position.start

    def _load(self) -> None:
        last = needed_turns(self._session) if self._last is None else self._last
        try:
            stored = self._store.load(self.key, scope=self.scope, last=last)
            while self._last is None and last is not None and not self._complete(stored):
                # A node that is seldom called has its newest turns further back.
                last = max(1, last) * 2
                stored = self._store.load(self.key, scope=self.scope, last=last)
        except ConversationNotFoundError:
            self.state, self.revision, self._lowest = self._session.new_state(), None, 0
        else:
            self.state, self.revision, self._lowest = self._decoded(stored), stored.revision, stored.first
        self._kept = Kept(self.state)

    def _complete(self, stored: StoredConversation) -> bool:
        if not stored.turns or stored.turns[0].index == stored.first:
            return True
        return shows_enough(self._session, self._decoded(stored))

    def _decoded(self, stored: StoredConversation) -> SessionState:
        annotated = self._session.program.annotations.values()
        state = state_of(
            stored.head, stored.turns, stored.annotations, types=self._types, annotated=annotated
        )
        if not stored.turns and stored.total:
            state.move(Position(Log((), stored.total), stored.total, stored.total))
        keeps_few(self._session, state)
        return state

    def _fetch(self) -> tuple[StoredConversation, SessionState]:
        last = needed_turns(self._session) if self._last is None else self._last
        stored = self._store.load(self.key, scope=self.scope, last=last)
        return stored, self._decoded(stored)

    def load_older(self, limit: int | None = None) -> list[Turn]:
        """Fetch turns before the loaded ones, and put them in front of the state.

        Args:
            limit: at most so many; None: all.

        Returns:
            The fetched turns, oldest first.

        Raises:
            StaleStateError: somebody else has changed the conversation.
        """
        with self._writing:
            self.flush()
            before = self.first
            if self.revision is None or before <= self._lowest:
                return []
            wanted = len(self.state) + (before if limit is None else min(limit, before))
            stored = self._store.load(self.key, scope=self.scope, last=wanted)
            if stored.revision != self.revision:
                raise StaleStateError(self.revision, stored.revision)
            self._become(self._decoded(stored))
            self._kept = Kept(self.state)
            return [turn for turn in self.state.turns if turn.index < before]

    async def aload_older(self, limit: int | None = None) -> list[Turn]:
        """`load_older` for async code."""
        return await anyio.to_thread.run_sync(self.load_older, limit)


class _Closed:
    """What is left of a conversation after its block: a call that ends now has nowhere to put its turn."""

    def __init__(self, key: str) -> None:
        self._key = key

    def publish(self, turn: Turn | None = None) -> None:
        error = StoreError(
            f"the block of the conversation {self._key!r} ended before this call did, so its turn is"
            " not stored: read streams to their end and await tasks inside the block, or work on"
            " talk.state.fork()"
        )
        error.turn = turn
        raise error

    async def apublish(self, turn: Turn | None = None) -> None:
        self.publish(turn)
