"""Binding a state to a session: for a block, or for a module that carries it anywhere."""

from __future__ import annotations

import contextlib
import inspect
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import dspy

from dspy_session import _context
from dspy_session.errors import BindingError, StateTypeError
from dspy_session.state import SessionState

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def checked_state(state: Any) -> SessionState:
    """Refuse anything but a state."""
    if not isinstance(state, SessionState):
        raise StateTypeError(
            f"expected a SessionState (session.new_state() makes one), got {type(state).__name__}"
        )
    return state


class _Scoped:
    """A block in which another scope is in force; can be entered again, also inside itself."""

    def __init__(self) -> None:
        self._entered: list[contextlib.AbstractContextManager[None]] = []

    def _scope(self) -> _context.Scope:
        raise AssertionError("subclasses say which scope")

    def _value(self) -> Any:
        return None

    def _enter(self, caller: FrameType | None) -> Any:
        refuse_generator(caller)
        block = _context.entered(self._scope())
        block.__enter__()
        self._entered.append(block)
        return self._value()

    def __enter__(self) -> Any:
        return self._enter(sys._getframe(1))

    def __exit__(self, *details: Any) -> None:
        self._entered.pop().__exit__(*details)

    async def __aenter__(self) -> Any:
        return self._enter(sys._getframe(1))

    async def __aexit__(self, *details: Any) -> None:
        self._entered.pop().__exit__(*details)


def _drives(generator: FrameType) -> bool:
    driver = generator.f_back
    return (
        bool(generator.f_code.co_flags & _GENERATORS)
        and driver is not None
        and driver.f_globals.get("__name__") == "contextlib"
    )


def refuse_generator(caller: FrameType | None) -> None:
    """Raise `BindingError` if a block is entered in the frame of a generator."""
    # ExitStack and the like enter on behalf of somebody else.
    while caller is not None and caller.f_globals.get("__name__") == "contextlib":
        caller = caller.f_back
    if caller is not None and _drives(caller):
        # A context manager made of a generator: the binding is for the block of whoever enters it.
        refuse_generator(caller.f_back)
        return
    if caller is not None and caller.f_code.co_flags & _GENERATORS:
        raise BindingError(
            f"a state cannot be bound inside the generator {caller.f_code.co_name!r}: between two yields the "
            "binding would be in force for whoever drives it. Use session.bind(state) and call what it returns"
        )


class UseState(_Scoped):
    """What `use_state` returns: `with` and `async with` bind the state, and give it."""

    def __init__(self, session: SessionBase, state: SessionState) -> None:
        super().__init__()
        self._session, self._state = session, checked_state(state)

    def _scope(self) -> _context.Scope:
        return _context.binding(self._session.lineage, self._state)

    def _value(self) -> SessionState:
        return self._state


class Replay(_Scoped):
    """What `replay` returns: inside the block, calls of the session are stateless."""

    def __init__(self, session: SessionBase) -> None:
        super().__init__()
        self._session = session

    def _scope(self) -> _context.Scope:
        return _context.replaying(self._session.lineage)

    def _value(self) -> SessionBase:
        return self._session


class BoundSession(dspy.Module):  # type: ignore[misc]
    """A session together with a state: calling it is calling the session with the state bound.

    It carries the binding where Python itself cannot: into raw threads and executors, and into streams that are
    consumed elsewhere.
    """

    def __init__(self, session: SessionBase, state: SessionState) -> None:
        super().__init__()
        self.session = session
        self._state = checked_state(state)

    @property
    def state(self) -> SessionState:
        """The state that it carries."""
        return self._state

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _context.entered(_context.binding(self.session.lineage, self._state)):
            return self.session(*args, **kwargs)

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        with _context.entered(_context.binding(self.session.lineage, self._state)):
            return await self.session.acall(*args, **kwargs)

    def named_parameters(self) -> Any:
        return self.session.named_parameters()

    def __deepcopy__(self, memo: dict[int, Any]) -> BoundSession:
        import copy

        return BoundSession(copy.deepcopy(self.session, memo), copy.deepcopy(self._state, memo))

    def __repr__(self) -> str:
        return f"BoundSession({self.session!r}, {self._state!r})"


def bind(session: SessionBase, state: SessionState) -> BoundSession:
    """A module that carries a state."""
    return BoundSession(session, state)
