"""`dspy.BestOfN` and `dspy.Refine` around a session: several copies answer, and one answer is chosen.

The copies are thrown away, and DSPy does not tell which was chosen; but it adds the chosen one's trace to the trace
around it. An attempt is therefore kept beside the state that it was made for, and its turn becomes part of that state
when the state is next looked at, if its trace is found there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from dspy_session.state import SessionState


@dataclass
class Attempt:
    """One copy's answer.

    Attributes:
        state: the copy's state after it.
        trace: the trace of the copy's call.
    """

    state: SessionState
    trace: list[Any]


@dataclass
class Attempts:
    """The attempts of one call of `BestOfN` or `Refine`.

    Attributes:
        call: what identifies the call: DSPy makes the list of calling modules anew for each.
        base: the state as it was when the call began.
        trace: the trace around the call.
        tell: called when an attempt was chosen.
        thread: the thread that the call was made in; a thread makes one call at a time.
    """

    call: Any
    base: SessionState
    trace: list[Any]
    tell: Callable[[SessionState], None]
    thread: int
    made: list[Attempt] = field(default_factory=list)

    def chosen(self) -> Attempt | None:
        """The attempt whose trace DSPy took over, if it has chosen."""
        taken = {id(step) for step in self.trace}
        return next((a for a in self.made if any(id(step) in taken for step in a.trace)), None)


def sampling_call() -> Any:
    """What identifies the call of `BestOfN` or `Refine` whose own code is running; None if there is none."""
    callers = dspy.settings.caller_modules
    if callers and isinstance(callers[-1], (dspy.BestOfN, dspy.Refine)):
        return callers
    return None


def attempts_for(state: SessionState, call: Any, tell: Callable[[SessionState], None]) -> Attempts:
    """The attempts of a call for a state; those of the thread's earlier calls, which chose nothing, are let go."""
    thread = threading.get_ident()
    with state.mutex:
        base = state.fork()
        for group in state.attempts:
            if group.call is call:
                return group
        group = Attempts(
            call, base, dspy.settings.trace if dspy.settings.trace is not None else [], tell, thread
        )
        state.attempts = [*(other for other in state.attempts if other.thread != thread), group]
        return group
