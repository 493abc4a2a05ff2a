"""The turns of a store's conversations as examples for optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dspy

from dspy_session import examples
from dspy_session._turn_documents import state_of
from dspy_session.errors import ConfigurationError, ConversationNotFoundError
from dspy_session.turns import Turn

if TYPE_CHECKING:
    from dspy_session.state import SessionState
    from dspy_session.stores.base import Store


def stored_examples(
    store: Store,
    *,
    scope: str = "",
    metric: examples.Metric | None = None,
    min_score: float | None = None,
    since: str | datetime | None = None,
    where: Callable[[Turn], bool] | None = None,
    types: Iterable[type] = (),
    on_metric_error: str = "zero",
) -> list[dspy.Example]:
    """The turns of a scope's conversations as examples; `split_examples` keeps each conversation on one side.

    A conversation and its forks count as one, and a turn that they share gives one example.

    Args:
        store: where they are.
        scope: the tenant.
        metric: scores each turn, once; the scores are not stored.
        min_score: keep turns with at least this score, by the metric or as stored; others are dropped.
        since: only turns made at this time or later; a datetime, or text in ISO 8601, in UTC unless it says
        else.
        where: keep only turns for which it is true.
        types: classes of your own that values may have.
        on_metric_error: whether an error of the metric counts as 0.0 or is raised.
    """
    moment = _moment(since)
    seen: set[tuple[str, str]] = set()
    found = []
    for summary in store.list(scope=scope, since=moment):
        try:
            stored = store.load(summary.key, scope=scope)
        except ConversationNotFoundError:
            # Erased since it was listed.
            continue
        state = state_of(stored.head, stored.turns, stored.annotations, types=types)
        for turn in state.turns:
            if (state.conversation_id, turn.id) in seen or not turn.outputs or _too_old(turn, moment):
                continue
            example, score = _example(
                turn, state, stored.head.get("history_field", "history"), metric, on_metric_error
            )
            good = min_score is None or (score is not None and score >= min_score)
            if good and (where is None or where(turn)):
                seen.add((state.conversation_id, turn.id))
                found.append(example)
    return found


def _too_old(turn: Turn, moment: datetime | None) -> bool:
    return moment is not None and (turn.created_at is None or turn.created_at < moment)


def _example(
    turn: Turn, state: SessionState, field: str, metric: examples.Metric | None, on_error: str
) -> tuple[dspy.Example, float | None]:
    example = examples.to_example(turn, field, conversation=state.conversation_id)
    if metric is None:
        return example, turn.score
    prediction = dspy.Prediction(**{**turn.extras, **turn.outputs})
    return example, examples.judge(metric, example, prediction, on_error=on_error)[0]


def _moment(since: str | datetime | None) -> datetime | None:
    if since is None:
        return None
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(since)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"since must be a time in ISO 8601, such as 2026-10-01, not {since!r}"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
