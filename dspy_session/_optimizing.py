"""A session under DSPy's optimizers, and its turns as fine-tuning data."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import dspy

from dspy_session._disguise import identity
from dspy_session._injection import is_session, predictors
from dspy_session._options import one_of
from dspy_session._rendering import rendering
from dspy_session._signatures import facts
from dspy_session.errors import ConfigurationError
from dspy_session.history import HistoryView

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

Own = TypeVar("Own", bound="SessionBase")

Conversation = Literal["keep", "fresh"]


class Optimizing:
    """The part of a session that is optimised."""

    def optimize(  # type: ignore[misc]
        self: Own,
        optimizer: Any,
        trainset: Sequence[dspy.Example] | None = None,
        *,
        conversation: Conversation = "keep",
        **compile_kwargs: Any,
    ) -> Own:
        """Compile the program with one of DSPy's optimizers.

        This session stays as it is: its turns, its weights, its live conversation. Training calls are shown the
        histories of their examples, and become no turns. Optimizers that read the program's source are shown the
        program's own.

        Args:
            optimizer: such as `dspy.BootstrapFewShot(metric=…)`.
            trainset: examples; by default the session's own, `to_examples()`.
            conversation: whether the new session goes on with this conversation (`"keep"`) or begins one (`"fresh"`).
            **compile_kwargs: whatever else the optimizer's `compile` takes, such as `valset` or `teacher`.

        Returns:
            A session with the compiled program.

        Raises:
            ConfigurationError: there is nothing to train on, or the optimizer does not give back a session.
        """
        one_of("conversation", conversation, get_args(Conversation))
        if isinstance(optimizer, type) or not callable(getattr(optimizer, "compile", None)):
            raise ConfigurationError(
                f"optimizer must be an instance with a compile method, not {optimizer!r}"
            )
        given = _given(optimizer, self, trainset)
        student = self._fork_with(self.new_state())
        student.__class__ = _as_program(type(self), type(self.module))
        compiled: Own = optimizer.compile(student, **given, **compile_kwargs)
        if not is_session(compiled):
            raise ConfigurationError(
                f"{type(optimizer).__name__} gave back a {type(compiled).__name__}, no session"
            )
        compiled.__class__ = type(self)
        compiled._birth = compiled._born_in = None
        compiled._state = self.state.fork() if conversation == "keep" else self.new_state()
        return compiled

    def to_finetune(  # type: ignore[misc]
        self: SessionBase,
        path: str | Path | None = None,
        *,
        adapter: Any = None,
        min_score: float | None = None,
    ) -> list[dict[str, Any]]:
        """The model calls of the conversation as chats to fine-tune on, past turns as real messages.

        They are what DSPy's own fine-tuning would train on: the request, and the answer in the adapter's format.
        A program of one predictor needs nothing else; others must have been built with `record="calls"`.

        Args:
            path: if given, a JSONL file that is written, one chat a line.
            adapter: the adapter whose format is wanted; by default the one in force.
            min_score: only turns with at least this score.

        Returns:
            `{"messages": [{"role": …, "content": …}, …]}` for each call.

        Raises:
            ConfigurationError: the turns do not hold their calls, and the program has several predictors.
        """
        writer = rendering(adapter or dspy.settings.adapter)
        chats = [
            _chat(writer, predictor, given, answered, view)
            for predictor, given, answered, view in _calls(self, min_score)
        ]
        if path is not None:
            lines = "".join(json.dumps(chat, ensure_ascii=False) + "\n" for chat in chats)
            Path(path).write_text(lines, encoding="utf-8")
        return chats


def _given(
    optimizer: Any, session: SessionBase, trainset: Sequence[dspy.Example] | None
) -> dict[str, list[dspy.Example]]:
    """The examples as the optimizer's `compile` takes them; none if it was given them when it was made."""
    taken = inspect.signature(optimizer.compile).parameters
    name = type(optimizer).__name__
    if "student" not in taken:
        raise ConfigurationError(f"{name} does not compile one program: call its compile with what it takes")
    if "trainset" not in taken:
        if trainset is not None:
            raise ConfigurationError(f"{name} takes its examples when it is made")
        return {}
    examples = session.to_examples() if trainset is None else list(trainset)
    if not examples:
        raise ConfigurationError("there is nothing to train on: the session has no turns with outputs")
    return {"trainset": examples}


def _as_program(session: type, program: type) -> type:
    """The session's class under the program's name, for optimizers that read the source."""
    return type(session)(program.__name__, (session,), identity(program))


def _calls(session: Any, min_score: float | None) -> Iterator[tuple[Any, Any, Any, HistoryView]]:
    found = dict(predictors(session.module))
    for turn in session.turns:
        if min_score is not None and (turn.score is None or turn.score < min_score):
            continue
        if turn.calls:
            for call in turn.calls:
                if call.path in found:
                    yield found[call.path], call.inputs, call.outputs, call.history or HistoryView()
        elif len(found) == 1:
            predictor = next(iter(found.values()))
            answered = {**turn.extras, **turn.outputs}
            if all(name in answered for name in predictor.signature.output_fields):
                yield predictor, turn.inputs, answered, turn.record.view
        else:
            raise ConfigurationError(
                f'turn {turn.index} does not hold its predictors\' calls: build the session with record="calls"'
            )


def _chat(writer: Any, predictor: Any, given: Any, answered: Any, view: HistoryView) -> dict[str, Any]:
    known = facts(predictor.signature)
    inputs = {**given, str(known.history): view.history()}
    messages = writer.format(known.exact, predictor.demos, inputs)
    content = writer.format_assistant_message_content(known.bare, answered)
    return {"messages": [*messages, {"role": "assistant", "content": content}]}
