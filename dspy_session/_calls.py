"""One call of a session: begin, call, commit. Sync and async calls differ in nothing but the call itself.

`TurnCall` decides when it is made what kind of call this is: a turn of the conversation; a replay, which is shown
a history of its own and leaves no trace; or a call inside an open turn of the same state, which belongs to that turn.
Nothing is written before the program has answered, so an error or a cancellation leaves everything as it was.
"""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dspy
from dspy import History

from dspy_session import _context, _training
from dspy_session._attempts import Attempt
from dspy_session._exchange import Exchange, has_stand_in, keep
from dspy_session._folding import Fold, afold, due, fold, run_apart
from dspy_session._injection import ADOPTER
from dspy_session._locks import CallLock
from dspy_session._marks import replaced
from dspy_session._open_turns import Frame, Told, hosted, open_turn
from dspy_session._options import stored_turns
from dspy_session._program import bound
from dspy_session._rendering import rendering
from dspy_session.errors import HistoryTypeError, StoreError, UnboundStateError
from dspy_session.history import HistoryView
from dspy_session.memory import NodePolicy, memory_message
from dspy_session.state import SessionState
from dspy_session.turns import Turn, TurnRecord
from dspy_session.windows import seen

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

logger = logging.getLogger("dspy_session")


class TurnCall:
    """One call of a session, from its arguments to its commit."""

    def __init__(
        self,
        session: SessionBase,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        instead_of: TurnRecord | None = None,
    ) -> None:
        self.session = session
        self.instead_of = instead_of
        self.options = session.options
        self.program = session.program
        self.scope = _context.scope()
        given = bound(session.module, args, kwargs)
        self.args = args if given is None else ()
        self.kwargs = dict(kwargs if given is None else given)
        self.explicit = self._take_history()
        self.host, part_state, self.policy = self._hosted()
        if self.host is not None:
            self.options = self.policy.options
        self.training = self._trained_by()
        self.state = self._state() if part_state is None else part_state
        self.outer = open_turn(session, self.state)
        replay = session.lineage in self.scope.replaying or self.training is not None
        override = self.explicit is not None and self.options.history_policy == "override"
        self.live = self.policy.records and not (replay or override or self.outer is not None)
        self._warn_of_evaluation()
        self._inputs = keep(self.program.recorded(self.kwargs), "the input") if self.live else {}
        self._head_after: History | None = None
        self._item = _training.parallel_item() if self.live and self.host is None else None
        self.frame: Frame | None = None
        self.turn: Turn | None = None

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────

    def _take_history(self) -> History | None:
        name = self.program.history_field
        history = self.kwargs.pop(name, None)
        if history is None or isinstance(history, History):
            return history
        if self.program.passes_history:
            self.kwargs[name] = history
            return None
        raise HistoryTypeError(f"Expected {name} to be dspy.History, got {type(history).__name__}")

    def _trained_by(self) -> _training.Training | None:
        """What the call is made for, if not for a user. `Evaluate` inside `use_state` is: it was asked for there."""
        if self.host is not None:
            return None
        training = self.session.training()
        return None if training == "evaluate" and self.session.is_bound() else training

    def _hosted(self) -> tuple[Frame | None, SessionState | None, NodePolicy]:
        """The open turn of the session that this one is a part of, and what that makes of this call.

        A part's turns belong to the state of the session around it, so that one part never serves two users.
        """
        found = hosted(self.session)
        if found is None:
            return None, None, NodePolicy()
        if self.session.attempts is not None:
            # One of several attempts, of which one will be taken over by the part's state.
            return found[0], self.session.own_state, found[2]
        return found

    def _state(self) -> SessionState:
        session = self.session
        bound = session.lineage in self.scope.bindings
        if self.options.unbound == "error" and not bound and self.training is None:
            overridden = self.explicit is not None and self.options.history_policy == "override"
            replay = overridden or session.lineage in self.scope.replaying
            if not replay and open_turn(session, session.state) is None:
                raise UnboundStateError(
                    "no state is bound: call the app inside `with app.use_state(state):`, or through "
                    '`app.bind(state)`; it was built with unbound="error"'
                )
        return session.state

    def _warn_of_evaluation(self) -> None:
        if self.training == "evaluate" and self.explicit is None and not self.scope.replaying:
            warnings.warn(
                "Evaluate calls a session with examples that carry no history: each is answered without the "
                "live conversation. Export examples with session.to_examples(), or say so with "
                "`with session.replay():`",
                stacklevel=4,
            )

    # ── beginning ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def locks(self) -> bool:
        """Whether the call waits for others of the same state."""
        return self.live and self.options.lock != "none"

    def _lock(self) -> CallLock:
        with self.state.mutex:
            if self.state._call_lock is None:
                self.state._call_lock = CallLock()
            return self.state._call_lock  # type: ignore[no-any-return]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the state's lock, if the session has one."""
        if not self.locks:
            yield
            return
        with self._lock().hold(wait=self.options.busy == "wait"):
            yield

    @asynccontextmanager
    async def aheld(self) -> AsyncIterator[None]:
        """Hold the state's lock from a task."""
        if not self.locks:
            yield
            return
        async with self._lock().ahold(wait=self.options.busy == "wait"):
            yield

    def _given_view(self) -> HistoryView:
        if self.explicit is not None:
            return HistoryView.of(self.explicit, self.program.known_inputs())
        if self.outer is not None:
            return self.outer.view
        if self.host is not None and self.policy.isolation == "shared":
            return self.host.view
        if not self.live:
            return HistoryView(head=self.session.own_state.head)
        view = self.state.view(self.options.projection)
        if self.instead_of is not None:
            before = self.instead_of.index
            view = replace(view, stop=before, summary=self.state.summary_at(before))
        shown = seen(self.options.window, view)
        return replace(shown, head=memory_message(self.state.l2_memory) + shown.head)

    def preview(self) -> None:
        """Open a turn that ends at its first request and is not recorded."""
        view, reads = self._given_view(), self.live
        self.live = False
        self.frame = self._frame(view)
        self.frame.preview, self.frame.reads = True, reads

    def begin(self) -> Frame:
        """Take the view that the turn is given."""
        if self.frame is not None:
            return self.frame
        if self.outer is not None and self.explicit is None:
            self.frame = self.outer
            if self.session is not self.outer.session and self.session not in self.outer.copies:
                self.outer.copies.append(self.session)
            return self.outer
        view = self._given_view()
        if self.live and self.explicit is not None and self.options.history_policy == "replace_session":
            self._head_after = self.explicit
            view = seen(self.options.window, view)
        self.frame = self._frame(view)
        return self.frame

    def _frame(self, view: HistoryView) -> Frame:
        replayed = self.instead_of
        if not self.live:
            replayed = self.session.replayed_record(self.explicit)
        frame = Frame(
            self.session, self.state, view, live=self.live, parent=self.scope.frame, replayed=replayed
        )
        frame.bare = not self.policy.enabled
        frame.renewed = self._head_after is not None
        if self.instead_of is not None:
            frame.rollout = len(self.state.branches) + 1
        return frame

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """Open the turn for all that runs in the block; gives the program's keyword arguments."""
        frame = self.frame or self.begin()
        settings: dict[str, Any] = {"adapter": rendering(dspy.settings.adapter)}
        if frame is not self.outer:
            callers = [*(dspy.settings.caller_modules or []), frame.recorder]
            settings["caller_modules"] = callers
        callbacks = dspy.settings.get("callbacks") or []
        if self.session.watches and ADOPTER not in callbacks:
            settings["callbacks"] = [*callbacks, ADOPTER]
        kwargs = dict(self.kwargs)
        if self.program.passes_history and self.program.history_field not in kwargs:
            kwargs[self.program.history_field] = frame.view.history()
        try:
            with _context.entered(replace(self.scope, frame=frame, node=None), **settings):
                yield kwargs
        finally:
            if frame is not self.outer:
                frame.closed = True

    def overflowed(self, error: BaseException) -> bool:
        """After the model refused a prompt for its length: whether a shorter history is worth a try."""
        frame = self.frame
        if self.options.on_overflow != "trim" or frame is None or frame is self.outer:
            return False
        if not isinstance(error, dspy.ContextWindowExceededError) or frame.view.stop == frame.view.start:
            return False
        shorter = frame.view.last((frame.view.stop - frame.view.start) // 2, keep_head=True)
        self.frame = self._frame(shorter)
        return True

    # ── committing ───────────────────────────────────────────────────────────────────────────────────────

    def commit(self, result: Any) -> None:
        """Record the finished turn, all of it or nothing."""
        frame = self.frame
        if frame is None or not self.live:
            return
        frame.closed = True
        outputs, extras = self.program.split(result)
        exchange = Exchange(self._inputs, keep(outputs, "the output"), keep(extras, "the extra"))
        model, usage = frame.recorder.usage()
        record = TurnRecord(
            index=0,
            exchange=exchange,
            view=frame.view,
            created=time.time(),
            model=model,
            usage=usage,
            exact=not has_stand_in(self._inputs),
            calls=tuple(frame.calls),
        )
        with self.state.mutex:
            if self._item is not None and not _training.FIRST_RUNS.wins(self._item):
                return
            if self._head_after is not None:
                self.state.reset()
                self.state.set_head(self._head_after, self.program.known_inputs())
            if self.instead_of is not None:
                replaced(self.state, self.instead_of)
            record.index = self.state.next_index()
            if frame.nodes is not None:
                record.nodes = frame.nodes.commit(record)
            self.state.append(record, stored_turns(self.options, self.state))
        attempts = self.session.attempts
        if attempts is not None:
            attempts.made.append(Attempt(self.state, dspy.settings.trace or []))
            return
        self.turn = Turn.of(record, self.state)

    def publish(self) -> None:
        """Hand the turn to where the state is kept; if that refuses it, it is no turn."""
        if self.turn is not None and self.state.sink is not None:
            self.state.sink.publish(self.turn)

    async def apublish(self) -> None:
        """`publish` from an async call."""
        if self.turn is not None and self.state.sink is not None:
            await self.state.sink.apublish(self.turn)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────

    def _to_tell(self) -> list[Told]:
        """Who is to hear of the turn. Turns of parts are told with the turn that they belong to."""
        if self.turn is None or self.frame is None:
            return []
        told = list(self.frame.deferred)
        if self.options.on_turn is not None:
            told.append((self.options.on_turn, self.session, self.turn))
        if self.host is not None:
            self.host.deferred += told
            return []
        return told

    def fold(self) -> None:
        """Fold finished episodes into memories, and old turns into summaries; from a sync call."""
        for wanted in self._due():
            try:
                with _context.entered(replace(self.scope, frame=None, node=None), trace=[]):
                    fold(wanted)
            except Exception as error:
                _failed(f"the module that folds {wanted.what}", error)
                continue
            try:
                self.publish()
            except StoreError as error:
                # The turn itself is stored; what was folded is written with the next one.
                _failed(f"storing {wanted.what}", error)

    async def afold(self) -> None:
        """`fold` from an async call."""
        for wanted in self._due():
            try:
                with _context.entered(replace(self.scope, frame=None, node=None), trace=[]):
                    await afold(wanted)
            except Exception as error:
                _failed(f"the module that folds {wanted.what}", error)
                continue
            try:
                await self.apublish()
            except StoreError as error:
                _failed(f"storing {wanted.what}", error)

    def tell(self) -> None:
        """Call `on_turn`, from a sync call."""
        tell(self._to_tell())

    async def atell(self) -> None:
        """`tell` from an async call."""
        for callback, session, turn in self._to_tell():
            try:
                answer = callback(session, turn)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:
                _failed("on_turn", error)

    def _due(self) -> list[Fold]:
        if self.turn is None or self.host is not None:
            return []
        return due(self.state, self.options, self.session.node_table)


def tell(told: Iterable[Told]) -> None:
    """Call `on_turn` callbacks from sync code; what they raise is logged."""
    for callback, session, turn in told:
        try:
            answer = callback(session, turn)
            if inspect.isawaitable(answer):
                run_apart(answer)
        except Exception as error:
            _failed("on_turn", error)


def _failed(who: str, error: BaseException) -> None:
    # The message of the error may quote the conversation, which is not for logs.
    logger.warning("%s raised %s; the turn is recorded", who, type(error).__name__)
    logger.debug("%s raised", who, exc_info=error)
