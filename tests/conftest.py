"""What every test gets: a scripted model, freshly configured."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest

from dspy_session.testing.lm import ScriptedLM


@pytest.fixture
def lm() -> Iterator[ScriptedLM]:
    """A scripted model, in force for the test."""
    model = ScriptedLM()
    with dspy.context(lm=model, adapter=None, trace=[]):
        yield model
