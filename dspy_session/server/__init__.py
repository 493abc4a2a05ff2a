"""An HTTP API and a dashboard over OpenCode's history, for one user on one machine.

    from dspy_session.server import serve

    serve()

`create_app` gives the ASGI application alone, `running` serves in a thread. Needs the extras `server` and
`analytics`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_session.server.app import create_app, running, serve

__all__ = ["create_app", "running", "serve"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("dspy_session.server.app"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
