"""A session as DSPy treats any module: reads and sets its parameters, patches its `forward`, copies and pickles it.

Parameters and files are the wrapped program's. DSPy copies programs for many reasons and tells none of them: a copy
that an optimizer makes must not be shown the live conversation; of the copies that `BestOfN` and `Refine` make, one
gives the answer, and its turn is the conversation's; any other copy goes on from here in its own way.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from dspy_session import _context, _training
from dspy_session._attempts import attempts_for, sampling_call
from dspy_session._calls import tell
from dspy_session._injection import keep_callbacks
from dspy_session._open_turns import Frame, hosted
from dspy_session.errors import ConfigurationError
from dspy_session.state import SessionState
from dspy_session.turns import Turn

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

Own = TypeVar("Own", bound="SessionBase")

lineages = itertools.count()
"""A number for each session; its copies have the same one."""

_NOT_PICKLED = ("_lineage", "_born_in", "_birth", "_attempts", "_paths", "_table")


class AsModule:
    """The part of a session that DSPy knows of any module."""

    def named_parameters(self: SessionBase) -> list[tuple[str, Any]]:  # type: ignore[misc]
        """The wrapped program's parameters under its own names, so that states and files are the program's."""
        return self.module.named_parameters()  # type: ignore[no-any-return]

    def dump_state(self: SessionBase, json_mode: bool = True) -> Any:  # type: ignore[misc]
        """The wrapped program's state: a `Predict` writes its own without a name in front."""
        return self.module.dump_state(json_mode=json_mode)

    def load_state(self: SessionBase, state: Any, **options: Any) -> None:  # type: ignore[misc]
        """Take a state that the program or a session of it wrote."""
        self.module.load_state(state, **options)

    def map_named_predictors(self: SessionBase, func: Callable[[Any], Any]) -> SessionBase:  # type: ignore[misc]
        """Replace each predictor of the program by what a function makes of it."""
        self.module.map_named_predictors(func)
        self._install(self.module)
        return self

    def __setattr__(self: SessionBase, name: str, value: Any) -> None:  # type: ignore[misc]
        if name == "forward":
            # Optimizers patch `forward` on the instance. What they set runs inside the turn, and setting the
            # class's own method back ends it: kept in the instance, it would be the original's in every copy.
            own = getattr(value, "__func__", None) is type(self).forward
            object.__setattr__(self, "_instead_of_forward", None if own else value)
            return
        dspy.Module.__setattr__(self, name, value)

    def __delattr__(self: SessionBase, name: str) -> None:  # type: ignore[misc]
        if name == "forward":
            object.__setattr__(self, "_instead_of_forward", None)
            return
        dspy.Module.__delattr__(self, name)

    def _fork_with(self: Own, state: SessionState) -> Own:  # type: ignore[misc]
        fork = self._copied(cloned(self.module, self.options.copy_mode), state)
        fork._lineage, fork._born_in = next(lineages), None
        return fork

    def _copied(self: Own, module: dspy.Module, state: SessionState) -> Own:  # type: ignore[misc]
        """A session with everything as here, but the given program and state."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__.update(
            module=module,
            callbacks=list(self.callbacks),
            history=[],
            _options=copy.copy(self._options),
            _state=state,
            _paths=None,
            _table=None,
        )
        return new

    def __copy__(self: SessionBase) -> SessionBase:  # type: ignore[misc]
        return self._copied(self.module, self._state.fork())

    def __deepcopy__(self: SessionBase, memo: dict[int, Any]) -> SessionBase:  # type: ignore[misc]
        new = self._copied(self.module, self._state)
        memo[id(self)] = new
        new.__dict__["module"] = copy.deepcopy(self.module, memo)
        keep_callbacks(self.module, new.module)
        new.__dict__["_instead_of_forward"] = copy.deepcopy(self._instead_of_forward, memo)
        new._born_in = self._frame_here()
        if self.training() is not None:
            # The live conversation must not enter a training call.
            new._state = self.new_state()
            for predictor in new.predictors():
                # Some optimizers set instructions on the signature in place, which copies share with the original.
                signature = predictor.signature
                predictor.signature = signature.with_instructions(signature.instructions)
            new._birth = self._birth or _training.Birth()
        elif (call := sampling_call()) is not None and new._born_in is None:
            host = hosted(self)
            state = self.state if host is None else host[1]
            new._attempts = self._attempts or attempts_for(state, call, self._tell_of_chosen)
            # All attempts of a call begin where it began: other threads may have moved the state since.
            new._state = new._attempts.base.fork() if self._attempts is None else state.fork()
        else:
            new._state = self._state.fork()
        return new

    def _tell_of_chosen(self: SessionBase, state: SessionState) -> None:  # type: ignore[misc]
        last = state.position.last()
        if self._options.on_turn is not None and last is not None:
            tell([(self._options.on_turn, self, Turn.of(last, state))])

    def _frame_here(self: SessionBase) -> Frame | None:  # type: ignore[misc]
        innermost = _context.frame()
        if innermost is None:
            return None
        return next((frame for frame in innermost.around() if frame.lineage == self._lineage), None)

    def __getstate__(self: SessionBase) -> dict[str, Any]:  # type: ignore[misc]
        state = dspy.Module.__getstate__(self)
        return {k: v for k, v in state.items() if k not in _NOT_PICKLED}

    def __setstate__(self: SessionBase, state: Mapping[str, Any]) -> None:  # type: ignore[misc]
        dspy.Module.__setstate__(self, dict(state))
        self.__dict__.update(dict.fromkeys(_NOT_PICKLED), _lineage=next(lineages))


def cloned(module: dspy.Module, copy_mode: str) -> dspy.Module:
    """A program for a session: itself or a copy, as `copy_mode` says."""
    if copy_mode == "none":
        return module
    if copy_mode == "shallow":
        return copy.copy(module)
    try:
        copied = copy.deepcopy(module)
        keep_callbacks(module, copied)
        return copied
    except Exception as error:
        raise ConfigurationError(
            f"{type(module).__name__} cannot be deep-copied ({type(error).__name__}: {error}): build the session "
            'with copy_mode="shallow" or copy_mode="none"'
        ) from error
