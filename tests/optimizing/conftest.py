"""What every test of optimisation gets: a model that can learn, and quiet optimizers."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import dspy
import pytest

from dspy_session.testing.lm import ScriptedLM
from tests.optimizing.programs import learnt


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    random.seed(0)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def model() -> Iterator[ScriptedLM]:
    """A model that says kiwi once it has been told."""
    lm = ScriptedLM(learnt)
    with dspy.context(lm=lm, adapter=None, trace=[], callbacks=[]):
        yield lm
