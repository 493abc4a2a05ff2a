"""Scores for turns, and turns as training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import dspy

from dspy_session import examples
from dspy_session._injection import predictors
from dspy_session._options import one_of
from dspy_session.errors import ConfigurationError
from dspy_session.turns import Note, Turn

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

By = Literal["turn", "predictor"]
Gold: TypeAlias = "dspy.Example | Sequence[dspy.Example] | None"


class Exporting:
    """The part of a session that makes training data of its conversation."""

    def score(  # type: ignore[misc]
        self: SessionBase,
        metric: examples.Metric,
        gold: Gold = None,
    ) -> list[float]:
        """Score every turn with a metric, which is called once for each.

        Args:
            metric: a DSPy metric: takes an example and a prediction, perhaps also `trace`, `pred_name` and
                `pred_trace`; returns a number, a bool, or `dspy.Prediction(score=…, feedback=…)`.
            gold: the example to compare with: one for all turns or one for each. By default the turn itself.

        Returns:
            The scores in order; they and the feedback are also kept with the turns.

        Raises:
            ConfigurationError: the metric cannot be called so, or `gold` does not fit the turns.
            Exception: what the metric raised, if the session was built with `on_metric_error="raise"`.
        """
        state, turns = self.state, self.turns
        references = _references(gold, len(turns))
        judged = []
        for turn, reference in zip(turns, references, strict=True):
            own = examples.to_example(turn, self.history_field, conversation=state.conversation_id)
            given = own if reference is None else reference
            prediction = dspy.Prediction(**{**turn.extras, **turn.outputs})
            judged.append(examples.judge(metric, given, prediction, on_error=self.options.on_metric_error))
        for turn, (score, feedback) in zip(turns, judged, strict=True):
            state.set_note(turn.id, Note(score, feedback))
        return [score for score, _ in judged]

    def rate(  # type: ignore[misc]
        self: SessionBase,
        turn: Turn | int | str,
        score: float | None,
        feedback: str | None = None,
    ) -> None:
        """Give one turn a score, such as a human's late judgement.

        Args:
            turn: the turn, its index (negative from the end), or its id.
            score: a number, or None to take it back.
            feedback: why.
        """
        if feedback is not None and not isinstance(feedback, str):
            raise ConfigurationError(f"feedback must be text, not {feedback!r}")
        record = self.state.find(turn)
        self.state.set_note(record.id, Note(None if score is None else _number("score", score), feedback))

    def to_examples(  # type: ignore[misc]
        self: SessionBase,
        *,
        metric: examples.Metric | None = None,
        min_score: float | None = None,
        include_history: bool = True,
        strict_trajectory: bool = False,
        require_outputs: bool = True,
        extras: Iterable[str] | bool = False,
        where: Callable[[Turn], bool] | None = None,
        by: By = "turn",
    ) -> Any:
        """The turns as examples, each with the history that it was given as an input.

        Args:
            metric: score the turns with it first, see `score`.
            min_score: keep turns with at least this score; a turn without a score is dropped.
            include_history: whether the history is among the inputs, also where it is empty.
            strict_trajectory: stop at the first turn that is dropped: later ones may build on it.
            require_outputs: drop turns without outputs.
            extras: names of extras to export beside the outputs, or True for all.
            where: keep only turns for which it is true.
            by: `"predictor"` gives the calls of the kept turns instead: a dict of predictor paths to examples, each
                of which compiles that predictor alone. The session must have been built with `record="calls"`.
        """
        one_of("by", by, get_args(By))
        if min_score is not None:
            _number("min_score", min_score)
        if metric is not None:
            self.score(metric)
        kept = []
        for turn in self.turns:
            wanted = (
                (bool(turn.outputs) or not require_outputs)
                and (min_score is None or (turn.score is not None and turn.score >= min_score))
                and (where is None or where(turn))
            )
            if wanted:
                kept.append(turn)
            elif strict_trajectory:
                break
        conversation = self.state.conversation_id
        if by == "predictor":
            return _by_predictor(self, kept, conversation, include_history)
        return [
            examples.to_example(
                turn,
                self.history_field,
                conversation=conversation,
                include_history=include_history,
                extras=extras,
            )
            for turn in kept
        ]

    def to_trainset(self: SessionBase, **options: Any) -> list[dspy.Example]:  # type: ignore[misc]
        """Another name for `to_examples`."""
        return self.to_examples(**options)  # type: ignore[no-any-return]

    @staticmethod
    def merge_examples(*sessions: SessionBase, **options: Any) -> list[dspy.Example]:
        """The examples of several sessions, one after the other; options as for `to_examples`."""
        return [example for session in sessions for example in session.to_examples(**options)]

    def to_messages(self: SessionBase) -> list[dict[str, Any]]:  # type: ignore[misc]
        """The conversation in OpenAI's chat form, initial history included.

        One field is the content by itself; several are lines of `name: value`.
        """
        from dspy_session._chat import to_messages

        return to_messages(self.state.view(self.options.projection))


def _by_predictor(
    session: SessionBase, kept: Sequence[Turn], conversation: str, include_history: bool
) -> dict[str, list[dspy.Example]]:
    found: dict[str, list[dspy.Example]] = {path: [] for path, _ in predictors(session.module)}
    for turn in kept:
        if not turn.calls:
            raise ConfigurationError(
                f'turn {turn.index} does not hold its predictors\' calls: build the session with record="calls"'
            )
        for call in turn.calls:
            if call.path is not None:
                found.setdefault(call.path, []).append(
                    examples.call_example(call, session.history_field, turn, conversation, include_history)
                )
    return found


def _references(gold: Gold, count: int) -> Sequence[dspy.Example | None]:
    if gold is None or isinstance(gold, dspy.Example):
        return [gold] * count
    references = list(gold)
    if len(references) != count:
        raise ConfigurationError(f"gold has {len(references)} examples for {count} turns")
    return references


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return float(value)
