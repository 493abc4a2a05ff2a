"""Windows: functions from the conversation to the part of it that the model is shown.

A window that slides with every turn changes the start of the prompt each time, and providers' prompt caches hold
only equal starts: prefer `blocks`, which moves rarely, over `turns` where long prompts are paid for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import dspy

from dspy_session.errors import ConfigurationError
from dspy_session.history import HistoryView


@runtime_checkable
class Window(Protocol):
    """What a session asks of a window."""

    def __call__(self, view: HistoryView) -> HistoryView:
        """The part of the conversation to show."""
        ...


def seen(window: Callable[[HistoryView], Any] | None, view: HistoryView) -> HistoryView:
    """What a window shows of a conversation; all of it if there is none."""
    if window is None:
        return view
    shown = window(view)
    if not isinstance(shown, HistoryView):
        raise ConfigurationError(f"the window {window!r} returned {type(shown).__name__}, not a view")
    return shown


def positive(name: str, value: Any) -> int:
    """Check that a parameter is a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


@dataclass(frozen=True)
class turns:
    """The newest `count` messages, strictly.

    Args:
        count: how many; the initial history's messages count too unless it is kept.
        keep_initial: always show the initial history, and count the turns alone.
    """

    count: int
    keep_initial: bool = False

    def __post_init__(self) -> None:
        positive("turns(count)", self.count)

    @property
    def needs(self) -> int:
        """The most turns that it ever shows."""
        return self.count

    def __call__(self, view: HistoryView) -> HistoryView:
        return view.last(self.count, keep_head=self.keep_initial)


@dataclass(frozen=True)
class blocks:
    """Up to `high` messages; when there are more, the oldest go at once, down to `low`.

    Between two cuts each request extends the one before it, so that providers can reuse it.

    Args:
        high: the most messages to show.
        low: how many to keep at a cut; less than `high`.
        keep_initial: always show the initial history, and count the turns alone.
    """

    high: int
    low: int
    keep_initial: bool = False

    def __post_init__(self) -> None:
        positive("blocks(high)", self.high)
        positive("blocks(low)", self.low)
        if self.low >= self.high:
            raise ConfigurationError(f"blocks(high={self.high}, low={self.low}): low must be less than high")

    @property
    def needs(self) -> int:
        """The most turns that it ever shows."""
        return self.high

    def __call__(self, view: HistoryView) -> HistoryView:
        # Counted from the first turn ever, so that trimming what is stored does not move the cuts.
        head = 0 if self.keep_initial else len(view.head)
        total = head + view.stop
        if total <= self.high:
            return view
        step = self.high + 1 - self.low
        dropped = -(-(total - self.high) // step) * step
        return view.last(max(0, total - dropped), keep_head=self.keep_initial)


def characters_over_four(message: Mapping[str, Any]) -> int:
    """A rough count of a message's tokens: its characters divided by four, and a few for its markers."""
    return sum(len(name) + len(str(value)) for name, value in message.items()) // 4 + 8


@dataclass(frozen=True)
class tokens:
    """The newest messages that fit a budget of tokens.

    Args:
        budget: the most tokens that the history may take.
        count: gives the tokens of one message, a mapping of field names to values. By default a quarter of the
            characters, which is rough: pass your model's tokenizer where it matters.
        keep_initial: always show the initial history; it takes its part of the budget.
    """

    budget: int
    count: Callable[[Mapping[str, Any]], int] = characters_over_four
    keep_initial: bool = False

    def __post_init__(self) -> None:
        positive("tokens(budget)", self.budget)
        if not callable(self.count):
            raise ConfigurationError("tokens(count) must be a function from a message to a number of tokens")

    def __call__(self, view: HistoryView) -> HistoryView:
        left, fitting = self.budget, 0
        if self.keep_initial:
            left -= sum(self.count(message) for message in view.head)
        in_log = view.stop - view.start
        for message in view.backwards():
            if self.keep_initial and fitting == in_log:
                break
            left -= self.count(message)
            if left < 0:
                break
            fitting += 1
        return view.last(fitting, keep_head=self.keep_initial)


@dataclass(frozen=True)
class summary:
    """A running summary of the old turns, and the newest turns as they were.

    It is a view: no turn is lost or rewritten. After a turn that leaves more than `keep` turns outside the summary,
    and before its call returns, `module` is asked to fold the oldest of them into it. If that fails the turns are
    shown as they are, and it is tried again after the next turn. The state keeps each summary with the turns that
    it covers, so forks and files have it, and undoing a turn undoes what was summarized after it.

    Args:
        module: any module or function that takes two texts, the summary so far and a transcript of what is to be
            folded into it, and gives the new summary, such as
            `dspy.Predict("past_summary, transcript -> summary")`. The modules that serve as consolidators do.
        keep: how many of the newest turns are always shown as they were.
        every: fold once so many turns are ready for it. A prompt begins as the one before it until then, so that
            providers can reuse it.
        keep_initial: show the initial history after the summary, instead of folding it.
    """

    module: Callable[..., Any]
    keep: int = 10
    every: int = 1
    keep_initial: bool = False

    def __post_init__(self) -> None:
        positive("summary(keep)", self.keep)
        positive("summary(every)", self.every)
        if not callable(self.module) or isinstance(self.module, type):
            raise ConfigurationError("summary(module) must be a dspy.Module, or a function of two texts")
        if len(self.inputs) != 2:
            raise ConfigurationError(
                "summary(module) must take two inputs, the summary so far and a transcript; it takes "
                f"{', '.join(self.inputs) or 'none'}"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the module's two inputs."""
        return _inputs_of(self.module)

    def __call__(self, view: HistoryView) -> HistoryView:
        latest = view.summary
        if latest is None:
            return view
        kept = view.head if self.keep_initial else ()
        return replace(view, head=latest.head + kept, start=max(view.start, latest.covers))


def _inputs_of(module: Any) -> tuple[str, ...]:
    inner = getattr(module, "predict", module)
    signature: Any = getattr(inner, "signature", None)
    if isinstance(signature, type) and issubclass(signature, dspy.Signature):
        return tuple(
            name
            for name, info in signature.input_fields.items()  # type: ignore[attr-defined]
            if info.annotation is not dspy.History
        )
    function = module
    if isinstance(module, dspy.Module):
        function = getattr(type(module), "forward", None) or getattr(type(module), "aforward", None)
        function = function and partial(function, module)
    taken = inspect.signature(function).parameters.values() if function is not None else ()
    names = tuple(p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return names or ("past_memory", "episode_transcript")
