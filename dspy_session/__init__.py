"""Conversations for DSPy programs.

`sessionify(program)` gives a program the conversation so far on every call and records each exchange as a turn with
exactly the history that it was given. Read `session` first, then `state`, `history` and `turns` for what a
conversation is, `_calls` for what a call does, `_injection` and `_rendering` for how it reaches the model, and
`examples` for what becomes of it.

Importing this package is cheap: DSPy is imported with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_session import errors as errors
    from dspy_session import windows as windows
    from dspy_session.codec.stand_in import StandIn as StandIn
    from dspy_session.examples import kfold_examples as kfold_examples
    from dspy_session.examples import split_examples as split_examples
    from dspy_session.projection import get_child_l1_ledger as get_child_l1_ledger
    from dspy_session.projection import get_current_history as get_current_history
    from dspy_session.projection import get_execution_trace as get_execution_trace
    from dspy_session.projection import get_node_memory as get_node_memory
    from dspy_session.projection import get_outer_history as get_outer_history
    from dspy_session.projection import register_helpers as register_helpers
    from dspy_session.session import Session as Session
    from dspy_session.session import sessionify as sessionify
    from dspy_session.session import with_memory as with_memory
    from dspy_session.state import SessionState as SessionState
    from dspy_session.turns import Call as Call
    from dspy_session.turns import Turn as Turn
    from dspy_session.turns import Usage as Usage

_HOMES = {
    "Call": "turns",
    "Session": "session",
    "SessionState": "state",
    "StandIn": "codec.stand_in",
    "Turn": "turns",
    "Usage": "turns",
    "get_child_l1_ledger": "projection",
    "get_current_history": "projection",
    "get_execution_trace": "projection",
    "get_node_memory": "projection",
    "get_outer_history": "projection",
    "kfold_examples": "examples",
    "register_helpers": "projection",
    "sessionify": "session",
    "split_examples": "examples",
    "with_memory": "session",
}
_MODULES = ("errors", "opencode", "stores", "windows")

__all__ = [*_HOMES, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
