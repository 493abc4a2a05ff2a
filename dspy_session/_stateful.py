"""Which conversation a session works on: its own, one that is bound to it, or one from a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from dspy import History

from dspy_session import _context
from dspy_session._binding import BoundSession, Replay, UseState, bind
from dspy_session.conversation import Conversation
from dspy_session.state import SessionState

if TYPE_CHECKING:
    from dspy_session._base import SessionBase


class Stateful:
    """The part of a session that has a state."""

    def new_state(  # type: ignore[misc]
        self: SessionBase, *, initial_history: History | None = None, l2_memory: str = ""
    ) -> SessionState:
        """An empty state for this session.

        Args:
            initial_history: messages in front of the turns; the session's own by default.
            l2_memory: long-term memory to begin with.
        """
        state = SessionState(l2_memory=l2_memory)
        head = self._options.initial_history if initial_history is None else initial_history
        if head is not None:
            state.set_head(head, self._program.known_inputs())
        return state

    def use_state(self: SessionBase, state: SessionState) -> UseState:  # type: ignore[misc]
        """Bind a state for a `with` or `async with` block: calls inside it are turns of that state.

        Whatever DSPy runs in the block lands there too: nested calls, tasks, `dspy.Parallel`, `batch`, `Evaluate`,
        streams. Into raw threads and executors, or a stream that is consumed elsewhere, `bind` carries it.

        Raises:
            BindingError: the block is inside a generator, whose driver would get the binding too.
        """
        return UseState(self, state)

    def bind(self: SessionBase, state: SessionState) -> BoundSession:  # type: ignore[misc]
        """A module whose calls are this session's calls with the state bound, wherever they are made."""
        return bind(self, state)

    def conversation(  # type: ignore[misc]
        self: SessionBase,
        key: str,
        *,
        store: Any,
        scope: str = "",
        lease: Literal["wait", "fail"] | None = "wait",
        ttl: float = 30.0,
        on_conflict: Literal["raise", "fork", "append"] = "raise",
        last: int | None = None,
        types: Iterable[type] = (),
    ) -> Conversation:
        """A user's conversation from a store, for a `with` or `async with` block.

        The block loads it, or begins it; binds its state; and appends each turn to the store before the call that
        made it returns. The block's value has the state, see `dspy_session.conversation`.

        Args:
            key: the conversation's key.
            store: where it is kept, see `dspy_session.stores.open_store`.
            scope: the tenant.
            lease: hold the conversation for the block: `"wait"` for another request that does, or `"fail"` with
                `LeaseError`. None: hold nothing; then conflicts are found when a turn is committed.
            ttl: seconds after which another request may take over from one that gave no sign of life.
            on_conflict: what becomes of a turn when somebody else has changed the conversation: `"raise"`
                `StaleStateError`, which carries it; `"fork"` the conversation and go on there; or `"append"` it.
            last: how many turns to load; by default what the window needs, or all.
            types: classes of your own that stored values may have.
        """
        return Conversation(
            self,
            key,
            store,
            scope=scope,
            lease=lease,
            ttl=ttl,
            on_conflict=on_conflict,
            last=last,
            types=types,
        )

    def replay(self: SessionBase) -> Replay:  # type: ignore[misc]
        """A `with` block in which calls are stateless: they are shown the history that they are given or none,
        and become no turns."""
        return Replay(self)

    @property
    def state(self: SessionBase) -> SessionState:  # type: ignore[misc]
        """The state that a call made here would extend: the bound one, or the session's own."""
        if self._attempts is not None:
            return self._state
        return _context.scope().bindings.get(self._lineage, self._state)

    @property
    def own_state(self: SessionBase) -> SessionState:  # type: ignore[misc]
        """The session's own state, whatever is bound."""
        return self._state

    def is_bound(self: SessionBase) -> bool:  # type: ignore[misc]
        """Whether a state is bound here by `use_state` or `bind`."""
        return self._attempts is None and self._lineage in _context.scope().bindings
