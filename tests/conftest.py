"""What every test gets: a scripted model, freshly configured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import dspy
import pytest
from dspy.primitives import module as dspy_module
from hypothesis import HealthCheck, settings

from dspy_session.testing.lm import ScriptedLM

# A busy machine must not fail a test: none of them asserts on a clock.
settings.register_profile("dspy-session", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dspy-session")


def _callers(context: int = 1) -> list[SimpleNamespace]:
    """The function that asks and its caller: what DSPy looks at of the stack."""
    asks = sys._getframe(1)
    frames = (asks, asks.f_back)
    return [SimpleNamespace(function=frame.f_code.co_name) for frame in frames if frame is not None]


if hasattr(dspy_module, "inspect"):
    # At each call of a module, DSPy 3.3 gathers the whole stack with its lines of source, to see who calls. Under
    # pytest that takes longer than all else together.
    dspy_module.inspect = SimpleNamespace(stack=_callers)


@pytest.fixture
def lm() -> Iterator[ScriptedLM]:
    """A scripted model, in force for the test."""
    model = ScriptedLM()
    with dspy.context(lm=model, adapter=None, trace=[]):
        yield model
