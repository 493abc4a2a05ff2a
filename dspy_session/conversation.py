"""One request of one user: load the conversation, bind its state, run, append each turn.

A `Conversation` knows a store by its contract alone. It holds the lease, if one is wanted, for the whole block; each
finished turn goes to the store in one commit before the call that made it returns, based on the revision that was
loaded. A turn that the store refuses is no turn of the state either.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, get_args

import anyio
import anyio.to_thread
import dspy

from dspy_session import _context, examples
from dspy_session._binding import refuse_generator
from dspy_session._options import one_of
from dspy_session._turn_documents import (
    episodes_annotation,
    head_document,
    memory_annotation,
    note_annotation,
    state_of,
    summaries_annotation,
    turn_document,
)
from dspy_session.errors import (
    ConfigurationError,
    ConversationExistsError,
    ConversationNotFoundError,
    StaleStateError,
    StoreUnavailableError,
)
from dspy_session.history import Position
from dspy_session.state import SessionState
from dspy_session.stores.aio import AsyncStore
from dspy_session.turns import Turn, TurnRecord, Usage

if TYPE_CHECKING:
    from dspy_session._base import SessionBase
    from dspy_session.stores.base import Store, StoredConversation

OnConflict = Literal["raise", "fork", "append"]
LeaseMode = Literal["wait", "fail"]

_PAUSES = (0.05, 0.3, 1.0)
"""Seconds between tries of a commit whose answer was lost; repeating one is harmless."""

_TITLE = 80


class Conversation:
    """A stored conversation, open for a block. Made by `session.conversation(key, store=…)`.

    Attributes:
        key: the conversation's key; that of the fork, after a conflict with `on_conflict="fork"`.
        scope: the tenant.
        state: the `SessionState`; inside the block it is bound to the session.
        revision: the store's revision; None while nothing is stored.
        first: the index of the oldest turn that is loaded.
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
        self._session = session
        self._store: Store = store.store if isinstance(store, AsyncStore) else store
        self._lease, self._ttl, self._on_conflict = lease, ttl, on_conflict
        self._last = needed_turns(session) if last is None else last
        self._types = tuple(types)
        self._fence: int | None = None
        self._blocks: contextlib.ExitStack | contextlib.AsyncExitStack | None = None
        self.key, self.scope = key, scope
        self.revision: str | None = None

    # ── the block ────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Conversation:
        refuse_generator(sys._getframe(1))
        with contextlib.ExitStack() as stack:
            if self._lease is not None:
                wait = None if self._lease == "wait" else 0.0
                held = self._store.lease(self.key, scope=self.scope, wait=wait, ttl=self._ttl)
                self._fence = stack.enter_context(held).token
            self._load()
            stack.enter_context(self._bound())
            self._blocks = stack.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        blocks, self._blocks = self._blocks, None
        assert isinstance(blocks, contextlib.ExitStack)
        with blocks:
            self.flush()

    async def __aenter__(self) -> Conversation:
        refuse_generator(sys._getframe(1))
        async with contextlib.AsyncExitStack() as stack:
            if self._lease is not None:
                wait = None if self._lease == "wait" else 0.0
                held = AsyncStore(self._store).lease(self.key, scope=self.scope, wait=wait, ttl=self._ttl)
                self._fence = (await stack.enter_async_context(held)).token
            await anyio.to_thread.run_sync(self._load)
            stack.enter_context(self._bound())
            self._blocks = stack.pop_all()
        return self

    async def __aexit__(self, *details: Any) -> None:
        blocks, self._blocks = self._blocks, None
        assert isinstance(blocks, contextlib.AsyncExitStack)
        async with blocks:
            await self.apublish()

    @contextlib.contextmanager
    def _bound(self) -> Any:
        self.state.sink = self
        try:
            with _context.entered(_context.binding(self._session.lineage, self.state)):
                yield
        finally:
            self.state.sink = None

    # ── loading ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def first(self) -> int:
        """The index of the oldest turn that is loaded."""
        return self.state.position.start

    def _load(self) -> None:
        try:
            stored = self._store.load(self.key, scope=self.scope, last=self._last)
        except ConversationNotFoundError:
            self.state, self.revision = self._session.new_state(), None
        else:
            self.state, self.revision = self._decoded(stored), stored.revision
        self._remember()

    def _decoded(self, stored: StoredConversation) -> SessionState:
        annotated = self._session.program.annotations.values()
        return state_of(stored.head, stored.turns, stored.annotations, types=self._types, annotated=annotated)

    def load_older(self, limit: int | None = None) -> list[Turn]:
        """Fetch turns before the loaded ones, and put them in front of the state.

        Args:
            limit: at most so many; None: all.

        Returns:
            The fetched turns, oldest first.
        """
        self.flush()
        if self.revision is None or self.first == 0:
            return []
        before = self.first
        wanted = len(self.state) + (before if limit is None else min(limit, before))
        stored = self._store.load(self.key, scope=self.scope, last=wanted)
        if stored.revision != self.revision:
            raise StaleStateError(self.revision, stored.revision)
        self.state.absorb(self._decoded(stored))
        self._remember()
        return [turn for turn in self.state.turns if turn.index < before]

    async def aload_older(self, limit: int | None = None) -> list[Turn]:
        """`load_older` for async code."""
        return await anyio.to_thread.run_sync(self.load_older, limit)

    # ── committing ───────────────────────────────────────────────────────────────────────────────────────

    def _remember(self) -> None:
        """Take note of what the store has."""
        self._kept: Position = self.state.position
        self._memories = _memories(self.state)
        self.state.dirty_notes.clear()

    def publish(self) -> None:
        """Write what is new; if the store refuses it, the state goes back to what the store has."""
        try:
            self.flush()
        except BaseException:
            self._take_back()
            raise

    async def apublish(self) -> None:
        """`publish` from async code: in a worker thread, and to its end even if the task is cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.publish)

    def _take_back(self) -> None:
        with self.state.mutex:
            surplus = self.state.position.stop - self._shared()
            if surplus > 0:
                self.state.undo(surplus)

    def _shared(self) -> int:
        """Up to which index the state's turns are those of the store."""
        kept, now = self._kept, self.state.position
        if now.log is kept.log:
            return min(now.stop, kept.stop)
        shared = max(kept.start, now.start)
        for ours, theirs in zip(
            now.records()[shared - now.start :], kept.records()[shared - kept.start :], strict=False
        ):
            if ours is not theirs:
                break
            shared += 1
        return shared

    def flush(self) -> None:
        """Write whatever was changed by other means than calls: edits, undone turns, scores, memories.

        The end of the block does it, too.

        Raises:
            StaleStateError: somebody else has changed the conversation.
        """
        with self.state.mutex:
            shared = self._shared()
            new = self.state.position.records()[shared - self.state.position.start :]
            annotations = self._annotations()
            back = shared < self._kept.stop
        if new or annotations or back:
            self._commit(new, annotations, shared if back else None)
            self._remember()

    def _annotations(self) -> list[dict[str, Any]]:
        on_line = {record.id for record in self.state.position.records()} if self.state.dirty_notes else set()
        noted = sorted(self.state.dirty_notes & on_line)
        changed = [note_annotation(turn_id, self.state.note(turn_id)) for turn_id in noted]
        for path, (memory, pending, summaries) in _memories(self.state).items():
            had_memory, had_pending, had_summaries = self._memories.get(path, ("", (), ()))
            if memory != had_memory:
                changed.append(memory_annotation(path, memory))
            if pending != had_pending:
                changed.append(episodes_annotation(path, pending))
            if summaries != had_summaries:
                changed.append(summaries_annotation(path, self.state.node(path) if path else self.state))
        return changed

    def _commit(self, new: list[TurnRecord], annotations: list[dict[str, Any]], keep: int | None) -> None:
        documents = [turn_document(self.state, record) for record in new]
        try:
            self._write(documents, annotations, keep, _cost(new))
        except (StaleStateError, ConversationExistsError) as error:
            found = getattr(error, "found", None)
            turn = Turn.of(new[-1], self.state) if new else None
            if not new or self._on_conflict == "raise":
                raise StaleStateError(self.revision, found, turn) from error
            if self._on_conflict == "fork":
                self._commit_to_fork(new, annotations, keep)
            else:
                self._commit_at_end(new, annotations, turn)

    def _write(self, documents: list[Any], annotations: list[Any], keep: int | None, cost: float) -> None:
        for pause in (*_PAUSES, None):
            try:
                if self.revision is None:
                    self.revision = self._store.create(
                        self.key,
                        head_document(self.state, self._session.history_field),
                        scope=self.scope,
                        turns=documents,
                        annotations=annotations,
                        title=_title(self.state),
                        cost=cost,
                    )
                else:
                    self.revision = self._store.append(
                        self.key,
                        documents,
                        scope=self.scope,
                        expected=self.revision,
                        annotations=annotations,
                        keep=keep,
                        fence=self._fence,
                        cost=cost,
                    )
                return
            except StoreUnavailableError:
                if pause is None:
                    raise
                time.sleep(pause)

    def _commit_to_fork(self, new: list[TurnRecord], annotations: list[Any], keep: int | None) -> None:
        """Go on in a conversation of its own, from where this one was loaded."""
        base = self._kept.stop if keep is None else keep
        key = f"{self.key}~{new[-1].id[:8]}"
        if base:
            # The line may have been moved back meanwhile: then its beginning is not what this turn builds on.
            there = self._store.turns(self.key, scope=self.scope, before=base, limit=1)
            ours = self._kept.records()[base - 1 - self._kept.start]
            if not there or there[0].id != ours.id:
                raise StaleStateError(self.revision, None, Turn.of(new[-1], self.state))
        self.revision = self._store.fork(self.key, key, scope=self.scope, at=base)
        self.key, self._fence = key, None
        self._write([turn_document(self.state, record) for record in new], annotations, None, _cost(new))

    def _commit_at_end(self, new: list[TurnRecord], annotations: list[Any], turn: Turn | None) -> None:
        """Add the turns behind what somebody else has added meanwhile."""
        for _ in range(20):
            stored = self._store.load(self.key, scope=self.scope, last=self._last)
            theirs = self._decoded(stored)
            for record in new:
                theirs.extend(Position(), Position(), [record])
            added = theirs.position.records()[-len(new) :]
            self.revision, state = stored.revision, theirs
            try:
                self._write([turn_document(state, record) for record in added], annotations, None, _cost(new))
            except StaleStateError:
                continue
            self.state.absorb(state)
            return
        raise StaleStateError(self.revision, None, turn)


def _memories(state: SessionState) -> dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    states = {"": state, **state.node_states}
    return {path: (s.l2_memory, tuple(s.pending), tuple(s.summaries)) for path, s in states.items()}


def _cost(records: Iterable[TurnRecord]) -> float:
    return sum((record.usage or Usage()).cost or 0.0 for record in records)


def _title(state: SessionState) -> str:
    first = next(iter(state.position.records()), None)
    said = next((v for v in first.exchange.inputs.values() if isinstance(v, str)), "") if first else ""
    return " ".join(said.split())[:_TITLE]


def needed_turns(session: SessionBase) -> int | None:
    """How many turns a program's windows can ever show; None: all of them."""
    windows = [session.options.window]
    if session.node_table is not None:
        windows += [
            policy.options.window for policy in session.node_table.policies.values() if policy.records
        ]
    needs = [getattr(window, "needs", None) for window in windows]
    return (
        None if any(need is None for need in needs) else max(int(need) for need in needs if need is not None)
    )


# ── stored conversations as training data ────────────────────────────────────────────────────────────────────


def stored_examples(
    store: Store,
    *,
    scope: str = "",
    metric: examples.Metric | None = None,
    min_score: float | None = None,
    since: str | datetime | None = None,
    where: Callable[[Turn], bool] | None = None,
    types: Iterable[type] = (),
    on_metric_error: str = "zero",
) -> list[dspy.Example]:
    """The turns of a scope's conversations as examples; `split_examples` keeps each conversation on one side.

    Args:
        store: where they are.
        scope: the tenant.
        metric: scores each turn, once; the scores are not stored.
        min_score: keep turns with at least this score, by the metric or as stored; others are dropped.
        since: only turns made at this time or later; a datetime, or text in ISO 8601, in UTC unless it says else.
        where: keep only turns for which it is true.
        types: classes of your own that values may have.
        on_metric_error: whether an error of the metric counts as 0.0 or is raised.
    """
    moment = _moment(since)
    found = []
    for summary in store.list(scope=scope, since=moment):
        stored = store.load(summary.key, scope=scope)
        state = state_of(stored.head, stored.turns, stored.annotations, types=types)
        for turn in state.turns:
            if moment is not None and (turn.created_at is None or turn.created_at < moment):
                continue
            field = stored.head.get("history_field", "history")
            example = examples.to_example(turn, field, conversation=state.conversation_id)
            score = turn.score
            if metric is not None:
                prediction = dspy.Prediction(**{**turn.extras, **turn.outputs})
                score, _ = examples.judge(metric, example, prediction, on_error=on_metric_error)
            good = min_score is None or (score is not None and score >= min_score)
            if turn.outputs and good and (where is None or where(turn)):
                found.append(example)
    return found


def _moment(since: str | datetime | None) -> datetime | None:
    if since is None:
        return None
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(since)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"since must be a time in ISO 8601, such as 2026-10-01, not {since!r}"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
