"""OpenCode's history as records, sessions and trainsets.

    from dspy_session import opencode

    history = opencode.open_source()
    for record in history.sessions(project="."):
        for step in record.steps:
            seen, answered = record.prompt(step), step.completion

Read in this order: `records` and `parts` (what a conversation is), `parsing` and `sources` (where it comes
from), `history` (all of it), `chat` (what the model saw), `outcomes` (what came of it), `conversion` (the
bridge to DSPy), `exports`, `logger`. Nothing here imports DSPy but `conversion`, whose names are fetched when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PLACES = {
    "history": ("History", "open_source"),
    "records": ("Message", "SessionRecord", "Step", "Todo", "Turn"),
    "parts": ("Part", "TextPart", "ReasoningPart", "ToolCall", "FilePart"),
    "tokens": ("Prices", "Tokens", "Usage"),
}
_HOME = {name: module for module, names in _PLACES.items() for name in names}

if TYPE_CHECKING:
    from dspy_session.opencode.history import History as History
    from dspy_session.opencode.history import open_source as open_source

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
