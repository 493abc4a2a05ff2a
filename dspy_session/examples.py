"""Turns become examples (`dspy.Example`): scoring, filtering, and splits that do not leak.

An example remembers the conversation and the turn that it comes from under names that DSPy keeps to itself
(`dspy_…`), so that neither a model nor an optimizer's prompt is shown them.
"""

from __future__ import annotations

import inspect
import logging
import random
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import dspy

from dspy_session._exchange import output_name, private
from dspy_session.errors import ConfigurationError
from dspy_session.history import HistoryView
from dspy_session.turns import Call, Turn

logger = logging.getLogger("dspy_session")

CONVERSATION_KEY = "dspy_session_conversation"
TURN_KEY = "dspy_session_turn"

Metric = Callable[..., Any]


def to_example(
    turn: Turn,
    history_field: str,
    *,
    conversation: str = "",
    include_history: bool = True,
    extras: Iterable[str] | bool = False,
) -> dspy.Example:
    """One turn as an example whose inputs are the turn's inputs and its history.

    Args:
        turn: the turn.
        history_field: the key of the history.
        conversation: identifies the conversation, so that splits keep it together.
        include_history: whether the snapshot is an input of the example; also where it is empty.
        extras: names of extras to export beside the outputs, or True for all.
    """
    inputs = turn.inputs
    outputs = dict(turn.outputs)
    if extras:
        wanted = turn.extras if extras is True else set(extras)
        outputs.update({name: value for name, value in turn.extras.items() if name in wanted})
    taken = {*inputs, history_field}
    renamed = {name: output_name(name, taken) for name in outputs}
    for name, new in renamed.items():
        if name != new:
            warnings.warn(
                f"turn {turn.index}: output {name!r} is called like an input and exported as {new!r}",
                stacklevel=2,
            )
    values = dict(inputs)
    if include_history:
        values[history_field] = turn.history_snapshot
    keys = list(values)
    values.update({renamed[name]: value for name, value in outputs.items()})
    values[CONVERSATION_KEY], values[TURN_KEY] = conversation, turn.id
    return dspy.Example(values).with_inputs(*keys)


def call_example(
    call: Call, history_field: str, turn: Turn, conversation: str, include_history: bool = True
) -> dspy.Example:
    """One predictor's call as an example for that predictor, with the history that it was shown."""
    values = private(call.inputs)
    if include_history:
        values[history_field] = (call.history or HistoryView()).history()
    keys = list(values)
    values.update(private(call.outputs))
    values[CONVERSATION_KEY], values[TURN_KEY] = conversation, turn.id
    return dspy.Example(values).with_inputs(*keys)


# ── scoring ──────────────────────────────────────────────────────────────────────────────────────────────────


def arguments_taken(metric: Metric) -> int:
    """How many of (example, prediction, trace, pred_name, pred_trace) a metric takes."""
    if not callable(metric):
        raise ConfigurationError(f"a metric must be a function, not {metric!r}")
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 3
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in positional for p in parameters)
    if count < 2:
        raise ConfigurationError(
            "a metric must take an example and a prediction: metric(example, prediction)"
        )
    return min(count, 5)


def as_score(value: Any) -> tuple[float, str | None]:
    """What a metric returned, as a number and its feedback. None counts as 0."""
    if isinstance(value, dspy.Prediction) or (isinstance(value, dict) and "score" in value):
        if "score" not in value:
            raise ConfigurationError("a metric that returns a Prediction must give it a score")
        feedback = value.get("feedback")
        return as_score(value["score"])[0], None if feedback is None else str(feedback)
    if value is None:
        return 0.0, None
    try:
        return float(value), None
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"a metric must return a number, a bool or dspy.Prediction(score=…), not {type(value).__name__}"
        ) from None


def judge(
    metric: Metric, example: dspy.Example, prediction: dspy.Prediction, *, on_error: str = "zero"
) -> tuple[float, str | None]:
    """Call a metric once.

    Args:
        metric: takes 2, 3 or 5 arguments, as DSPy's do.
        example: what was asked, with the reference answer if there is one.
        prediction: what was answered.
        on_error: `"zero"` counts an error of the metric as 0.0, with a warning in the log; `"raise"` lets it go.
    """
    count = arguments_taken(metric)
    try:
        value = metric(example, prediction, *[None] * (count - 2))
        return as_score(value)
    except Exception as error:
        if on_error == "raise":
            raise
        # The message of the error may quote the conversation, which is not for logs.
        logger.warning("a metric raised %s; the turn counts 0.0", type(error).__name__)
        logger.debug("a metric raised", exc_info=error)
        return 0.0, None


# ── splitting ────────────────────────────────────────────────────────────────────────────────────────────────

GroupBy = Literal["session", "turn"] | Callable[[dspy.Example], Hashable]


def conversation_of(example: dspy.Example) -> str | None:
    """The conversation that an example comes from; forks of one conversation count as one."""
    return example.get(CONVERSATION_KEY) or None


def _groups(examples: Sequence[dspy.Example], by: GroupBy, seed: int) -> list[list[dspy.Example]]:
    groups: dict[Hashable, list[dspy.Example]] = {}
    for place, example in enumerate(examples):
        alone = ("alone", place)
        if callable(by):
            key: Hashable = by(example)
        elif by == "session":
            key = conversation_of(example) or alone
        elif by == "turn":
            key = alone
        else:
            raise ConfigurationError(f'by must be "session", "turn" or a function of an example, not {by!r}')
        groups.setdefault(key, []).append(example)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    return shuffled


def split_examples(
    examples: Sequence[dspy.Example], ratio: float = 0.8, by: GroupBy = "session", seed: int = 0
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Split examples into two parts that share no conversation.

    Args:
        examples: as `to_examples` gives them; those that come from no session count as a conversation each.
        ratio: the first part's share, between 0 and 1. Conversations are not divided, so it is met as nearly as
            they allow; with two conversations or more no part is empty.
        by: `"session"`, `"turn"` (which leaks: later turns quote earlier ones), or a function that gives the group.
        seed: decides the shuffle; the same seed gives the same parts.

    Returns:
        The two parts.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
        raise ConfigurationError(f"ratio must be between 0 and 1, not {ratio!r}")
    groups = _groups(examples, by, seed)
    first: list[dspy.Example] = []
    second: list[dspy.Example] = []
    target = ratio * len(examples)
    for place, group in enumerate(groups):
        remaining = len(groups) - place
        nearer = len(first) + len(group) / 2 <= target
        must_take = not first and place == 0
        must_leave = remaining == 1 and not second and len(groups) > 1
        (first if (nearer or must_take) and not must_leave else second).extend(group)
    return first, second


def kfold_examples(
    examples: Sequence[dspy.Example], k: int = 5, by: GroupBy = "session", seed: int = 0
) -> list[tuple[list[dspy.Example], list[dspy.Example]]]:
    """`k` pairs of (train, held out), in which every example is held out once and no conversation is divided.

    Args:
        examples: as `to_examples` gives them.
        k: number of folds; at most the number of conversations.
        by: as for `split_examples`.
        seed: decides the shuffle.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 2:
        raise ConfigurationError(f"k must be a whole number of at least 2, not {k!r}")
    groups = _groups(examples, by, seed)
    if len(groups) < k:
        raise ConfigurationError(f"{k} folds need at least {k} conversations; there are {len(groups)}")
    folds: list[list[dspy.Example]] = [[] for _ in range(k)]
    for group in sorted(groups, key=len, reverse=True):
        min(folds, key=len).extend(group)
    return [
        ([example for j, fold in enumerate(folds) if j != i for example in fold], folds[i]) for i in range(k)
    ]
