"""What would be sent, without sending it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import dspy

from dspy_session._calls import TurnCall
from dspy_session._rendering import Captured
from dspy_session.errors import ConfigurationError

if TYPE_CHECKING:
    from dspy_session._base import SessionBase


def preview(session: SessionBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of the first request that a call would make."""
    call = TurnCall(session, args, kwargs)
    call.preview()
    settings = {} if dspy.settings.lm is not None else {"lm": dspy.utils.DummyLM([])}
    with dspy.context(**settings), call.opened() as inputs:
        try:
            _run(session.module, call.args, inputs)
        except Captured as captured:
            return captured.messages
    raise ConfigurationError("the program answered without asking a model: there is nothing to preview")


def _run(program: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
    if hasattr(type(program), "forward") or not hasattr(type(program), "aforward"):
        program(*args, **inputs)
        return
    # An async program needs a loop, and one may be running in this thread already.
    raised: list[BaseException] = []

    def apart() -> None:
        try:
            asyncio.run(program.acall(*args, **inputs))
        except BaseException as error:
            raised.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(apart))
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
