"""Committing a conversation: what is new goes to the store, or the state goes back to what the store has.

`publish` is what a finished call does, `flush` what else writes. A commit that somebody else has come before is
refused, goes on in a fork, or is put behind theirs.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from dspy_session import telemetry
from dspy_session._kept import Kept, follow, merge_memories
from dspy_session._turn_documents import head_document, turn_document
from dspy_session.errors import (
    ConversationExistsError,
    LeaseError,
    StaleStateError,
    StoreError,
    StoreUnavailableError,
)
from dspy_session.history import Log, Position
from dspy_session.state import SessionState
from dspy_session.stores.aio import to_the_end
from dspy_session.stores.base import MAX_KEY_BYTES, Store
from dspy_session.stores.lease import pauses
from dspy_session.turns import Turn, TurnRecord, Usage

if TYPE_CHECKING:
    from dspy_session._base import SessionBase
    from dspy_session.stores.base import Document, StoredConversation

OnConflict = Literal["raise", "fork", "append"]
Result = TypeVar("Result")

_PAUSES = (0.05, 0.3, 1.0)
"""Seconds between tries of a commit whose answer was lost; repeating one is harmless."""

_TRIES_AT_END = 60
"""Each try that fails is a commit of somebody else; the pauses add up to a quarter of a minute."""

_TITLE = 80


@dataclass(frozen=True)
class _Change:
    """What is to be committed: what the store will have then, and what of it is new."""

    kept: Kept
    new: list[TurnRecord]
    annotations: list[Document]
    noted: frozenset[str]
    keep: int | None
    cost: float

    @property
    def empty(self) -> bool:
        return not self.new and not self.annotations and self.keep is None

    def turn(self) -> Turn | None:
        return Turn.of(self.new[-1], self.kept.state) if self.new else None


class Committing:
    """The part of a conversation that writes."""

    state: SessionState
    key: str
    scope: str
    revision: str | None

    def __init__(self, session: SessionBase, store: Store, on_conflict: OnConflict) -> None:
        self._session, self._store, self._on_conflict = session, store, on_conflict
        self._fence: int | None = None
        self._kept = Kept(SessionState())
        self._lowest = 0
        # Calls may run side by side in the block; their commits come one after the other.
        self._writing = threading.RLock()
        self._refused: dict[str, BaseException] = {}

    def _become(self, state: SessionState) -> None:
        state.branches = self.state.branches
        self.state.absorb(state)

    def _fetch(self) -> tuple[StoredConversation, SessionState]:
        """What the store has now, as far as the program needs it."""
        raise NotImplementedError

    def publish(self, turn: Turn | None = None) -> None:
        """Write what is new; if the store refuses it, the state goes back to what the store has.

        Args:
            turn: the turn that must be stored then.
        """
        with self._writing:
            self._raise_if_refused(turn)
            try:
                self.flush()
            except BaseException as error:
                self._take_back(error)
                raise

    async def apublish(self, turn: Turn | None = None) -> None:
        """`publish` from async code: in a worker thread, and to its end even if the task is cancelled."""
        await to_the_end(partial(self.publish, turn))

    def _raise_if_refused(self, turn: Turn | None) -> None:
        error = None if turn is None else self._refused.get(turn.id)
        if error is not None:
            refusal = StoreError(f"the turn was not stored, with another one beside it: {error}")
            refusal.turn = turn
            raise refusal from error

    def _take_back(self, error: BaseException) -> None:
        with self.state.mutex:
            position = self.state.position
            refused = position.records()[max(0, self._kept.shared(position) - position.start) :]
            self._refused.update({record.id: error for record in refused})
            self._kept.restore(self.state)
        telemetry.count("failures", len(refused))

    def flush(self) -> None:
        """Write whatever was changed by other means than calls: edits, undone turns, scores, memories.

        The end of the block does it, too, unless an exception ends it.

        Raises:
            StaleStateError: somebody else has changed the conversation.
        """
        with self._writing:
            with self.state.mutex:
                change = self._change()
            if change.empty:
                return
            self._commit(change)
            with self.state.mutex:
                written = change.kept.state
                same = {i for i in change.noted if self.state.note(i) == written.note(i)}
                self.state.dirty_notes -= same
            telemetry.count("turns", len(change.new))

    def _change(self) -> _Change:
        state, kept = self.state, self._kept
        if state.position.start < self._lowest:
            _renumber(state, self._lowest)
        if self.revision is not None:
            # After a reset it is the same conversation still, and its examples belong together.
            state.conversation_id = kept.state.conversation_id
        position = state.position
        shared = kept.shared(position)
        back = shared < kept.position.stop
        new = position.records()[shared - position.start :]
        annotations = kept.annotations(state, new, back=back)
        replaced = kept.position.records()[max(0, shared - kept.position.start) :] if back else []
        paid = {record.id for record in replaced}
        cost = sum(_cost(record) for record in new if record.id not in paid and record.replaces not in paid)
        noted = frozenset(state.dirty_notes)
        return _Change(Kept(state), new, annotations, noted, shared if back else None, cost)

    def _commit(self, change: _Change) -> None:
        try:
            self._write(self._documents(change), change)
        except (StaleStateError, ConversationExistsError, LeaseError) as error:
            telemetry.count("conflicts")
            if self._on_conflict == "append":
                self._append_behind(change)
            elif self._on_conflict == "fork" and change.new:
                self._go_on_in_fork(change)
            elif isinstance(error, LeaseError):
                error.turn = change.turn()
                raise
            else:
                found = getattr(error, "found", None)
                raise StaleStateError(self.revision, found, change.turn()) from error
        except StoreError as error:
            error.turn = change.turn()
            raise
        else:
            self._kept = change.kept

    def _documents(self, change: _Change) -> list[Document]:
        return [turn_document(record, change.kept.position) for record in change.new]

    def _write(self, documents: list[Document], change: _Change) -> None:
        if self.revision is not None:
            revision, fence = self.revision, self._fence
            self.revision = _patiently(
                lambda: self._store.append(
                    self.key,
                    documents,
                    scope=self.scope,
                    expected=revision,
                    annotations=change.annotations,
                    keep=change.keep,
                    fence=fence,
                    cost=change.cost,
                )
            )
            return
        state = change.kept.state
        head = head_document(state, self._session.history_field)
        self.revision = _patiently(
            lambda: self._store.create(
                self.key,
                head,
                scope=self.scope,
                turns=documents,
                annotations=change.annotations,
                title=_title(state),
                cost=change.cost,
            )
        )

    def _go_on_in_fork(self, change: _Change) -> None:
        """Go on in a conversation of its own, from where this one was loaded."""
        kept = self._kept.position
        base = kept.stop if change.keep is None else change.keep
        key = _fork_key(self.key, change.new[-1].id)
        if self.revision is not None:
            if base:
                # The line may have been moved back meanwhile: then its beginning is not what this turn
                # builds on.
                there = _patiently(
                    lambda: self._store.turns(self.key, scope=self.scope, before=base, limit=1)
                )
                ours = kept.records()[base - 1 - kept.start :][:1]
                if [turn.id for turn in there] != [record.id for record in ours]:
                    raise StaleStateError(self.revision, None, change.turn())
            try:
                self.revision = _patiently(lambda: self._fork(key, base))
            except StoreError as error:
                error.turn = change.turn()
                raise
        self.key, self._fence = key, None
        self._write(self._documents(change), change)
        self._kept = change.kept

    def _fork(self, key: str, at: int) -> str:
        try:
            return self._store.fork(self.key, key, scope=self.scope, at=at)
        except ConversationExistsError:
            # The key is made from the turn's id: it is ours, from a try whose answer was lost.
            return self._store.load(key, scope=self.scope, last=0).revision

    def _append_behind(self, change: _Change) -> None:
        """Add the turns, and what was said of turns, behind what somebody else has added meanwhile."""
        self._fence = None
        for pause in itertools.islice(pauses(), _TRIES_AT_END):
            stored, theirs = _patiently(self._fetch)
            found = Kept(theirs)
            self.revision, self._lowest = stored.revision, stored.first
            for record in change.new:
                follow(theirs, record)
            merge_memories(self._kept.state, change.kept.state, theirs)
            self._bring_notes(change, theirs)
            moved = _Change(
                Kept(theirs),
                change.new,
                found.annotations(theirs, change.new, back=False, head=False),
                change.noted,
                None,
                change.cost,
            )
            known = self._same_turns(found)
            documents = [turn_document(record, theirs.position, known) for record in change.new]
            try:
                self._write(documents, moved)
            except StaleStateError:
                time.sleep(pause)
                continue
            self._take_over(change, moved)
            return
        raise StaleStateError(self.revision, None, change.turn())

    def _bring_notes(self, change: _Change, theirs: SessionState) -> None:
        on_line = {record.id for record in theirs.position.records()}
        for turn_id in (change.noted | {record.id for record in change.new}) & on_line:
            theirs.set_note(turn_id, change.kept.state.note(turn_id))

    def _same_turns(self, found: Kept) -> list[TurnRecord]:
        """Of the turns that were loaded at first, those that are still where they were."""
        there = {record.id: record.index for record in found.position.records()}
        return [record for record in self._kept.position.records() if there.get(record.id) == record.index]

    def _take_over(self, change: _Change, moved: _Change) -> None:
        with self.state.mutex:
            position = self.state.position
            later = position.records()[change.kept.position.stop - position.start :]
            theirs = moved.kept.state.fork()
            for record in later:
                follow(theirs, record)
            for turn_id in self.state.dirty_notes - change.noted:
                theirs.set_note(turn_id, self.state.note(turn_id))
            self._become(theirs)
            self._kept = moved.kept


def _patiently(work: Callable[[], Result]) -> Result:
    """Do what is harmless to repeat, again if the store cannot be reached."""
    for pause in _PAUSES:
        try:
            return work()
        except StoreUnavailableError:
            telemetry.count("retries")
            time.sleep(pause)
    return work()


def _renumber(state: SessionState, start: int) -> None:
    """Let a line that was begun anew begin where the store's line does, whose older turns were pruned."""
    records = state.position.records()
    for index, record in enumerate(records, start):
        record.index = index
    state.move(Position(Log(records, start), start, start + len(records)))


def _cost(record: TurnRecord) -> float:
    return (record.usage or Usage()).cost or 0.0


def _fork_key(key: str, turn_id: str) -> str:
    end = f"~{turn_id[:8]}"
    return key.encode()[: MAX_KEY_BYTES - len(end)].decode(errors="ignore") + end


def _title(state: SessionState) -> str:
    first = next(iter(state.position.records()), None)
    said = next((v for v in first.exchange.inputs.values() if isinstance(v, str)), "") if first else ""
    return " ".join(said.split())[:_TITLE]
