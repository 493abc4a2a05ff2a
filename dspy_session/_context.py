"""The context of a call, carried in DSPy's own settings.

`dspy.context` reaches wherever DSPy itself reaches: nested calls, tasks, `dspy.Parallel`, `Module.batch`, `Evaluate`,
`asyncify`. A context variable of our own would be lost in DSPy's thread pools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from dspy_session._open_turns import Frame
    from dspy_session.history import HistoryView
    from dspy_session.state import SessionState

KEY = "dspy_session"


@dataclass(frozen=True, slots=True)
class Node:
    """A predictor that is running.

    Attributes:
        path: its path in the program; None if the program made it while it ran.
        view: the conversation that it is shown.
    """

    path: str | None
    view: HistoryView


@dataclass(frozen=True, slots=True)
class Scope:
    """What is in force where a call is made.

    Attributes:
        frame: the innermost open turn.
        node: the predictor that is running in it.
        bindings: states bound by `use_state`, by the lineage of the session.
        replaying: lineages whose calls are stateless for now.
    """

    frame: Frame | None = None
    node: Node | None = None
    bindings: Mapping[int, SessionState] = field(default_factory=dict)
    replaying: frozenset[int] = frozenset()

    def __deepcopy__(self, memo: dict[int, Any]) -> Scope:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # dspy.settings.save() pickles all settings; an open call means nothing in another process.
        return (Scope, ())


NOWHERE = Scope()


def scope() -> Scope:
    """What is in force here."""
    return dspy.settings.get(KEY) or NOWHERE


def frame() -> Frame | None:
    """The innermost open turn."""
    return scope().frame


@contextmanager
def entered(new: Scope, **settings: Any) -> Iterator[None]:
    """Put a scope, and other settings of DSPy with it, in force for a block."""
    with dspy.context(**{KEY: new}, **settings):
        yield


def binding(lineage: int, state: SessionState) -> Scope:
    """The present scope, with a state bound for a session and its copies."""
    here = scope()
    return replace(here, bindings={**here.bindings, lineage: state})


def replaying(lineage: int) -> Scope:
    """The present scope, in which a session and its copies are stateless."""
    here = scope()
    return replace(here, replaying=here.replaying | {lineage})
