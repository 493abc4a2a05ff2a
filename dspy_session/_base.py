"""What a session is made of: a program, options, a state, and the ways to call it.

The rest of its API is in `_stateful` (whose conversation it is), `_editing` (changing it), `_exporting` (scores and
examples), `_optimizing`, `_persistence` (files) and `_as_module` (what DSPy does to it). `Session` itself is a thin
class over all of it: optimizers paste its source into prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import dspy
from dspy import History

from dspy_session import _seams, _training, display
from dspy_session._as_module import AsModule, cloned, lineages
from dspy_session._attempts import Attempts
from dspy_session._calls import TurnCall
from dspy_session._editing import Editing
from dspy_session._exporting import Exporting
from dspy_session._injection import COPY_OF, adopt, is_adopted, is_closed, is_session, parts, predictors
from dspy_session._open_turns import Frame
from dspy_session._optimizing import Optimizing
from dspy_session._options import (
    Busy,
    Configured,
    CopyMode,
    HistoryPolicy,
    LockMode,
    MetricErrors,
    NestedSessions,
    Options,
    Overflow,
    Record,
    Unbound,
)
from dspy_session._persistence import Persistence
from dspy_session._program import Program, study
from dspy_session._stateful import Stateful
from dspy_session.errors import ConfigurationError
from dspy_session.history import HistoryView, SessionHistory
from dspy_session.memory import SHARED, NodeTable
from dspy_session.turns import Turn, TurnRecord
from dspy_session.windows import Window, seen

_seams.install()


class SessionBase(AsModule, Configured, Editing, Exporting, Optimizing, Persistence, Stateful, dspy.Module):  # type: ignore[misc]
    """The machinery of `Session`."""

    is_dspy_session = True

    def __init__(
        self,
        module: dspy.Module,
        *,
        history_field: str = "history",
        max_turns: int | None = None,
        max_stored_turns: int | None = None,
        exclude_fields: Collection[str] | None = None,
        history_input_fields: Collection[str] | None = None,
        input_field_override: Collection[str] | None = None,
        history_extras: Collection[str] | None = None,
        window: Window | None = None,
        initial_history: History | None = None,
        history_policy: HistoryPolicy = "override",
        on_metric_error: MetricErrors = "zero",
        on_overflow: Overflow = "raise",
        strict_history_annotation: bool = False,
        copy_mode: CopyMode = "deep",
        lock: LockMode = "none",
        busy: Busy = "wait",
        record: Record = "turns",
        unbound: Unbound = "default",
        nested_sessions: NestedSessions = "keep",
        on_turn: Callable[[Any, Turn], Any] | None = None,
    ) -> None:
        """Wrap a program.

        Args:
            module: any `dspy.Module`.
            history_field: the keyword that carries an explicit history, and its key in examples. If the program
                takes a `dspy.History` under another name, that name wins, with a warning.
            max_turns: the model is shown only the newest messages, this many, the initial history included.
            max_stored_turns: only this many turns are kept.
            exclude_fields: inputs and outputs that past turns are shown without.
            history_input_fields: if given, the only inputs that past turns are shown with.
            input_field_override: another name for `history_input_fields`.
            history_extras: what of a prediction beside its declared outputs past turns are shown with, too.
            window: what part of the conversation the model is shown, see `dspy_session.windows`.
            initial_history: messages in front of the first turn; they are no turns.
            history_policy: what an explicit history does. `"override"`: the call is shown it and leaves no trace.
                `"use_if_provided"`: the call is shown it and becomes a turn. `"replace_session"`: it becomes the
                initial history of a conversation that begins with this call.
            on_metric_error: whether an error of a metric counts as 0.0 or is raised.
            on_overflow: when the model refuses a prompt for its length: `"raise"` its error, or `"trim"` the
                history to its newer half, again and again, and run the program anew.
            strict_history_annotation: only `dspy.History` itself counts as a history, not its subclasses.
            copy_mode: whether the program is copied: `"deep"`, `"shallow"` or `"none"`.
            lock: `"thread"` or `"async"`: calls of one state, in threads and tasks alike, wait for each other.
            busy: what a call does that finds its state locked: `"wait"`, or `"fail"` with `BusyError`.
            record: `"calls"` keeps the predictors' calls with each turn.
            unbound: `"error"` refuses calls outside of `use_state` and `bind`; for servers.
            nested_sessions: what sessions inside the program do: `"keep"` a memory of their own, in the state of this
                session; or `"inherit"` this session's conversation and record nothing.
            on_turn: called with the session and the turn after each recorded turn; may be async. What it raises is
                logged and does not reach the caller.

        Raises:
            ConfigurationError: a parameter has a value that is not allowed.
            HistoryTypeError: `initial_history` is no `dspy.History`.
        """
        super().__init__()
        if not isinstance(module, dspy.Module):
            hint = "; make an instance of it first" if isinstance(module, type) else ""
            raise ConfigurationError(f"a session wraps a dspy.Module, not {module!r}{hint}")
        if input_field_override is not None and history_input_fields is not None:
            raise ConfigurationError("history_input_fields and input_field_override are the same: give one")
        shown_inputs = history_input_fields if input_field_override is None else input_field_override
        options = Options(
            history_field=history_field,
            max_turns=max_turns,
            max_stored_turns=max_stored_turns,
            exclude_fields=exclude_fields,  # type: ignore[arg-type]
            history_input_fields=shown_inputs,  # type: ignore[arg-type]
            history_extras=history_extras,  # type: ignore[arg-type]
            window=window,
            history_policy=history_policy,
            on_metric_error=on_metric_error,
            on_overflow=on_overflow,
            strict_history_annotation=strict_history_annotation,
            copy_mode=copy_mode,
            lock=lock,
            busy=busy,
            record=record,
            unbound=unbound,
            nested_sessions=nested_sessions,
            on_turn=on_turn,
            initial_history=initial_history,
        )
        self._options = options
        self._lineage = next(lineages)
        self._birth: _training.Birth | None = None
        self._attempts: Attempts | None = None
        self._born_in: Frame | None = None
        self._instead_of_forward: Callable[..., Any] | None = None
        self._node_arguments: dict[str, Any] | None = None
        self._table: NodeTable | None = None
        self._install(cloned(module, options.copy_mode))
        self._state = self.new_state()

    def _install(self, module: dspy.Module) -> None:
        """Take a program, prepared for conversations, in the place of the present one."""
        options = self._options
        program = study(module, options.history_field, strict=options.strict_history_annotation)
        if program.renamed is not None:
            warnings.warn(
                f"the program uses the name {program.renamed!r} itself or takes its history as "
                f"{program.history_field!r}: histories are passed, and exported, as {program.history_field!r}",
                stacklevel=4,
            )
        adopt(module, program.history_field)
        self._program = program
        self._options.history_field = program.history_field
        self.module = module
        self._watches = not is_closed(module)
        self._table = None
        if self._node_arguments is None and any(is_session(part) for path, part in parts(module) if path):
            self._node_arguments = {
                "default": SHARED,
                "recursive": False,
                "nested_sessions": options.nested_sessions,
            }
        self._paths: Mapping[int, tuple[str, Any]] | None = None

    if TYPE_CHECKING:
        # DSPy's own are not typed.
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        async def acall(self, *args: Any, **kwargs: Any) -> Any: ...

    # ── calling ──────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Answer, knowing the conversation so far, and record the exchange.

        Args:
            *args: positional inputs, where the program takes them.
            **kwargs: the program's inputs; and an explicit `dspy.History` under the name of the history field, of
                which `history_policy` decides what it does.

        Returns:
            What the program returned.

        Raises:
            HistoryTypeError: the explicit history is no `dspy.History`.
            BusyError, UnboundStateError: see `busy` and `unbound`.
        """
        return self._run(TurnCall(self, args, kwargs))

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        """`forward` for async code: awaits the program's `acall`, or runs a program without one in a thread."""
        return await self._arun(TurnCall(self, args, kwargs))

    def _run(self, call: TurnCall) -> Any:
        with call.held():
            while True:
                call.begin()
                try:
                    with call.opened() as inputs:
                        result = self._target(call)(*call.args, **inputs)
                    break
                except Exception as error:
                    if not call.overflowed(error):
                        raise
            call.commit(result)
            call.publish()
            call.fold()
        call.tell()
        return result

    async def _arun(self, call: TurnCall) -> Any:
        async with call.aheld():
            while True:
                call.begin()
                try:
                    with call.opened() as inputs:
                        result = await self._atarget(call)(*call.args, **inputs)
                    break
                except Exception as error:
                    if not call.overflowed(error):
                        raise
            call.commit(result)
            await call.apublish()
            await call.afold()
        await call.atell()
        return result

    def _target(self, call: TurnCall) -> Callable[..., Any]:
        replaced = self._instead_of_forward
        if replaced is not None and call.outer is None:
            return replaced
        return self.module  # type: ignore[no-any-return]

    def _atarget(self, call: TurnCall) -> Callable[..., Any]:
        if hasattr(type(self.module), "aforward"):
            return self.module.acall  # type: ignore[no-any-return]

        # A program that is sync alone runs in a worker thread, where DSPy's settings go with it.
        async def in_thread(*args: Any, **kwargs: Any) -> Any:
            return await anyio.to_thread.run_sync(partial(self._target(call), *args, **kwargs))

        return in_thread

    def batch(self, examples: Any, *args: Any, **kwargs: Any) -> Any:
        """`dspy.Module.batch`, as a replay: each example is answered by itself, and none becomes a turn.

        Inside `use_state` they are turns of the bound state.
        """
        if self.is_bound():
            return super().batch(examples, *args, **kwargs)
        with self.replay():
            return super().batch(examples, *args, **kwargs)

    def preview(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """The messages that the first predictor would send for these inputs, without asking the model.

        The program runs up to there: what it does before its first predictor is done. Nothing is recorded.
        """
        from dspy_session._preview import preview

        return preview(self, args, kwargs)

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def turns(self) -> list[Turn]:
        """The turns of the present state, oldest first; a new list."""
        return self.state.turns

    @property
    def session_history(self) -> History:
        """The history that the next call would be given."""
        return self.windowed(self.state.view(self._options.projection)).history()

    def windowed(self, view: HistoryView) -> HistoryView:
        """What the window shows of a conversation."""
        return seen(self._options.window, view)

    def __len__(self) -> int:
        return len(self.state)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        raise TypeError("a session is not iterable: iterate over session.turns")

    @property
    def program(self) -> Program:
        """What the session knows of the program that it wraps."""
        return self._program

    @property
    def lineage(self) -> int:
        """Identifies the session and its copies; a fork has its own."""
        return self._lineage

    @property
    def attempts(self) -> Attempts | None:
        """The attempts that this copy makes one of, for `BestOfN` or `Refine`."""
        return self._attempts

    @property
    def born_in(self) -> Frame | None:
        """The open turn in which this copy was made."""
        return self._born_in

    @property
    def watches(self) -> bool:
        """Whether predictors that the program makes while it runs must be looked for."""
        return self._watches or not is_adopted(self.module)

    def training(self) -> _training.Training | None:
        """Whether the present call is made by an optimizer or by `Evaluate`."""
        if self._birth is not None:
            if not self._birth.compile_is_over():
                return "compile"
            self._birth = None
            if self._born_in is None and (held := _training.holder(self)) is not None:
                self._state = held.own_state
        return _training.training()

    def path_of(self, predictor: Any) -> str | None:
        """A predictor's path in the program; None if the program made it while it ran."""
        if self._paths is None:
            found = {id(predictor): (path, predictor) for path, predictor in predictors(self.module)}
            # No dict: DSPy looks for sub-modules in those.
            self._paths = MappingProxyType(found)
        known = self._paths.get(id(predictor))
        if known is not None:
            return known[0]
        lineage, path = getattr(predictor, COPY_OF, (None, None))
        return path if lineage == self._lineage else None

    def is_copy(self, predictor: Any) -> bool:
        """Whether a predictor is a copy, made while the program ran, of one that has a path."""
        return self._paths is not None and id(predictor) not in self._paths

    def use_nodes(self, **arguments: Any) -> None:
        """Give the program's nodes memories; the arguments are those of `NodeTable`."""
        self._node_arguments = {**arguments, "nested_sessions": self._options.nested_sessions}
        self._table = NodeTable(self.module, self._options, **self._node_arguments)

    @property
    def node_table(self) -> NodeTable | None:
        """Which node has which memory; None: all are shown the conversation."""
        if self._table is None and self._node_arguments is not None:
            self._table = NodeTable(self.module, self._options, **self._node_arguments)
        return self._table

    def replayed_record(self, explicit: History | None) -> TurnRecord | None:
        """The recorded turn that a stateless call repeats, if its history is that of a turn."""
        return explicit.record if isinstance(explicit, SessionHistory) and explicit.unchanged else None

    def __repr__(self) -> str:
        return display.session_text(self)

    def _repr_html_(self) -> str:
        return display.session_html(self)
