"""Metrics for programs trained on coding conversations; they take DSPy's examples and predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

logger = logging.getLogger("dspy_session.opencode")


def evaluate_solution(example: Any, pred: Any, trace: Any = None) -> bool:
    """True if the response has at least 50 characters and at least one action (or tool) is named."""
    return len(_response(pred)) >= 50 and bool(_actions(pred))


def compute_success_rate(agent: Callable[..., Any], test_examples: Sequence[Any]) -> float:
    """The share of examples for which the agent gives a valid solution; 0 for no examples.

    Valid is a response of more than 50 characters, without the word `Error`, with at least one action. An
    agent that raises has failed; the error is logged.
    """
    successes = 0
    for example in test_examples:
        try:
            pred = agent(**example.inputs())
        except Exception as error:
            logger.warning("the agent failed on an example: %s: %s", type(error).__name__, error)
            continue
        response = _response(pred)
        successes += len(response) > 50 and "Error" not in response and bool(_actions(pred))
    return successes / len(test_examples) if test_examples else 0.0


def quality_score(example: Any, prediction: Any, trace: Any = None) -> float:
    """The mean of three marks, 0 to 1.

    Response: 1 above 100 characters, 0.5 above 50, else 0. Actions: 1 for one to five, 0.5 for more, else 0.
    Errors: 0 if the response speaks of an error, else 1.
    """
    response, count = _response(prediction), len(_actions(prediction))
    length = 1.0 if len(response) > 100 else 0.5 if len(response) > 50 else 0.0
    tools = 0.0 if not count else 1.0 if count <= 5 else 0.5
    errors = 0.0 if "error" in response.lower() else 1.0
    return (length + tools + errors) / 3


def _response(pred: Any) -> str:
    response = getattr(pred, "response", "")
    return response if isinstance(response, str) else ""


def _actions(pred: Any) -> list[Any]:
    """The predicted actions, or the tools of a planning agent; none if they cannot be read."""
    named = getattr(pred, "actions", None)
    if named is None:
        named = getattr(pred, "tools", None)
    if isinstance(named, str):
        try:
            named = json.loads(named)
        except (ValueError, RecursionError):
            return []
    return list(named) if isinstance(named, (list, dict)) else []
