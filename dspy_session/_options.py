"""What a session was asked to do, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from dspy import History

from dspy_session._exchange import Projection
from dspy_session.errors import ConfigurationError, HistoryTypeError
from dspy_session.state import SessionState
from dspy_session.windows import positive, summary, turns

HistoryPolicy = Literal["override", "use_if_provided", "replace_session"]
MetricErrors = Literal["zero", "raise"]
CopyMode = Literal["deep", "shallow", "none"]
LockMode = Literal["none", "thread", "async"]
Busy = Literal["wait", "fail"]
Overflow = Literal["raise", "trim"]
Record = Literal["turns", "calls"]
Unbound = Literal["default", "error"]
NestedSessions = Literal["keep", "inherit"]

_CHOICES: dict[str, Any] = {
    "history_policy": HistoryPolicy,
    "on_metric_error": MetricErrors,
    "copy_mode": CopyMode,
    "lock": LockMode,
    "busy": Busy,
    "on_overflow": Overflow,
    "record": Record,
    "unbound": Unbound,
    "nested_sessions": NestedSessions,
}


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Check that a parameter is one of the allowed words."""
    allowed = tuple(choices)
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(repr(choice) for choice in allowed)
        raise ConfigurationError(f"{name} must be one of {words}, not {value!r}")


def names(parameter: str, value: Any) -> frozenset[str] | None:
    """Check a collection of field names. A bare string is refused: it would be taken for its letters."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{parameter} must be a set or list of field names, not {value!r}")
    found = frozenset(value)
    if not all(isinstance(name, str) for name in found):
        raise ConfigurationError(f"{parameter} must contain field names, which are strings")
    return found


@dataclass
class Options:
    """The options of a session; the names and defaults are those of `Session`."""

    history_field: str = "history"
    max_turns: int | None = None
    max_stored_turns: int | None = None
    exclude_fields: frozenset[str] = frozenset()
    history_input_fields: frozenset[str] | None = None
    history_extras: frozenset[str] = frozenset()
    window: Callable[[Any], Any] | None = None
    history_policy: HistoryPolicy = "override"
    on_metric_error: MetricErrors = "zero"
    on_overflow: Overflow = "raise"
    strict_history_annotation: bool = False
    copy_mode: CopyMode = "deep"
    lock: LockMode = "none"
    busy: Busy = "wait"
    record: Record = "turns"
    unbound: Unbound = "default"
    nested_sessions: NestedSessions = "keep"
    on_turn: Callable[..., Any] | None = None
    initial_history: History | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.history_field, str) or not self.history_field.isidentifier():
            raise ConfigurationError(f"history_field must be a field name, not {self.history_field!r}")
        for name, choice in _CHOICES.items():
            one_of(name, getattr(self, name), get_args(choice))
        for name in ("max_turns", "max_stored_turns"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        self.exclude_fields = names("exclude_fields", self.exclude_fields) or frozenset()
        self.history_input_fields = names("history_input_fields", self.history_input_fields)
        self.history_extras = names("history_extras", self.history_extras) or frozenset()
        self._check_window()
        if not isinstance(self.strict_history_annotation, bool):
            raise ConfigurationError("strict_history_annotation must be True or False")
        if self.on_turn is not None and not callable(self.on_turn):
            raise ConfigurationError("on_turn must be a function of a session and a turn")
        if self.initial_history is not None and not isinstance(self.initial_history, History):
            raise HistoryTypeError(
                f"Expected initial_history to be dspy.History, got {type(self.initial_history).__name__}"
            )

    def _check_window(self) -> None:
        if self.max_turns is not None and self.window == turns(self.max_turns):
            return
        if self.window is None:
            self.window = None if self.max_turns is None else turns(self.max_turns)
            return
        if self.max_turns is not None:
            raise ConfigurationError("give either max_turns or window, not both")
        if not callable(self.window) or isinstance(self.window, type):
            raise ConfigurationError(
                "window must be a window of dspy_session.windows, such as blocks(high=20, low=10), "
                f"not {self.window!r}"
            )
        if isinstance(self.window, summary) and self.max_stored_turns is not None:
            least = self.window.keep + self.window.every
            if self.max_stored_turns < least:
                raise ConfigurationError(
                    f"max_stored_turns={self.max_stored_turns} would let turns go before they are summarized: "
                    f"it must be at least {least}"
                )

    @property
    def projection(self) -> Projection:
        """Which fields of a turn enter the history."""
        return _projection(
            self.exclude_fields | {self.history_field}, self.history_input_fields, self.history_extras
        )


@lru_cache(maxsize=256)
def _projection(exclude: frozenset[str], inputs: frozenset[str] | None, extras: frozenset[str]) -> Projection:
    # Every turn refers to one: shared, it costs a conversation nothing.
    return Projection(exclude, inputs, extras)


def stored_turns(options: Options, state: SessionState, added: int = 1) -> int | None:
    """How many turns of a log to keep once turns were added; None: all.

    Turns that a failing summary has not yet covered are kept beyond the limit.
    """
    limit = options.max_stored_turns
    if limit is None or not isinstance(options.window, summary):
        return limit
    stop = state.position.stop
    newest = state.summary_at(stop)
    covered = state.position.start if newest is None else newest.covers
    return max(limit, stop + added - covered)


def _option(name: str, meaning: str) -> Any:
    """A property that reads an option, and checks a new value before it is taken."""

    def read(self: Configured) -> Any:
        return getattr(self._options, name)

    def write(self: Configured, value: Any) -> None:
        changed = {name: value}
        if name == "max_turns":
            changed["window"] = None
        self._options = replace(self._options, **changed)

    return property(read, write, doc=meaning)


class Configured:
    """The part of a session that tells its options, and lets some be changed."""

    _options: Options

    history_field = _option("history_field", "The keyword of histories.")
    max_turns = _option("max_turns", "How many messages the model is shown; None: all.")
    max_stored_turns = _option("max_stored_turns", "How many turns are kept; None: all.")
    exclude_fields = _option("exclude_fields", "Fields that past turns are shown without.")
    history_input_fields = _option("history_input_fields", "The only inputs shown of past turns; None: all.")
    history_policy = _option("history_policy", "What an explicit history does.")
    window = _option("window", "What part of the conversation the model is shown.")
    on_turn = _option("on_turn", "Called after each recorded turn.")
    lock = _option("lock", "Whether calls of one state wait for each other.")

    @property
    def options(self) -> Options:
        """The session's options, as checked."""
        return self._options
