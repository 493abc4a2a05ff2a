"""What every test gets: a scripted model, freshly configured."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest
from hypothesis import HealthCheck, settings

from dspy_session.testing.lm import ScriptedLM

# A busy machine must not fail a test: none of them asserts on a clock.
settings.register_profile("dspy-session", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dspy-session")


@pytest.fixture
def lm() -> Iterator[ScriptedLM]:
    """A scripted model, in force for the test."""
    model = ScriptedLM()
    with dspy.context(lm=model, adapter=None, trace=[]):
        yield model
