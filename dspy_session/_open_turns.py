"""Open turns: what predictors, nodes and parts see of the call that they run in, and what is noted of theirs.

The innermost open turn travels in the call context (`_context`), and knows those around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import dspy

from dspy_session import _context
from dspy_session._exchange import keep
from dspy_session._open_nodes import OpenNodes
from dspy_session.history import HistoryView
from dspy_session.memory import NodePolicy
from dspy_session.state import SessionState
from dspy_session.turns import Call, Turn, TurnRecord, Usage

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

Told = tuple[Callable[..., Any], Any, Turn]
"""A callback that is to hear of a turn, the session that it is told of, and the turn."""


class _Recorder:
    """Stands among DSPy's calling modules, and so gets an entry for each model call of the turn."""

    callbacks: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.history: list[Mapping[str, Any]] = []

    def usage(self) -> tuple[str | None, Usage | None]:
        """The models that answered, and what they took."""
        entries = list(self.history)
        if not entries:
            return None, None
        models = list(dict.fromkeys(str(entry["model"]) for entry in entries if entry.get("model")))
        costs = [entry.get("cost") for entry in entries]
        total = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
        for entry in entries:
            for name in total:
                total[name] += int((entry.get("usage") or {}).get(name) or 0)
        known = [float(cost) for cost in costs if cost is not None]
        return ", ".join(models) or None, Usage(
            **total, cost=sum(known) if known else None, calls=len(entries)
        )


class Frame:
    """An open turn, as the predictors inside it see it.

    Attributes:
        session: whose turn it is.
        state: the state that the turn will be added to.
        view: the conversation that the turn is given.
        live: whether the turn will be recorded.
        reads: whether nodes begin with what they have in the state.
        renewed: whether the conversation begins anew with this turn.
        trace: DSPy's trace around the turn.
        parent: the open turn around this one.
    """

    def __init__(
        self,
        session: SessionBase,
        state: SessionState,
        view: HistoryView,
        *,
        live: bool,
        parent: Frame | None,
        replayed: TurnRecord | None = None,
    ) -> None:
        self.session, self.state, self.view, self.live, self.parent = session, state, view, live, parent
        # What the nodes had in the turn that this one repeats.
        self.marks = None if replayed is None else replayed.nodes
        self.bare = False
        self.lineage = session.lineage
        self.history_field = session.history_field
        self.input_names = session.program.known_inputs()
        self.recorder = _Recorder()
        self.calls: list[Call] = []
        self.deferred: list[Told] = []
        # Copies of the session that answer inside this turn.
        self.copies: list[SessionBase] = []
        table = session.node_table
        self.nodes = None if table is None else OpenNodes(self, table)
        self.closed = False
        self.preview = False
        self.reads = live
        self.renewed = False
        self.trace = dspy.settings.trace
        # Each time that a turn is asked again, the model must not answer from DSPy's cache.
        self.rollout: int | None = None

    @property
    def listening(self) -> bool:
        """Whether predictors' answers are kept."""
        return not self.closed and (self.session.options.record == "calls" or self.nodes is not None)

    def path_of(self, predictor: Any) -> str | None:
        """A predictor's path in the program; its copies that answer inside this turn have the same paths."""
        paths = (session.path_of(predictor) for session in (self.session, *self.copies))
        return next((path for path in paths if path is not None), None)

    def view_for(self, predictor: Any) -> HistoryView | None:
        """What a predictor is shown; None: it is the bare predictor."""
        if self.bare:
            return None
        return self.view if self.nodes is None else self.nodes.view(predictor)

    def heard(
        self, predictor: Any, inputs: Mapping[str, Any], prediction: Any, view: HistoryView, seconds: float
    ) -> None:
        """Take note of a predictor's answer, for which it took some seconds."""
        if self.nodes is not None:
            self.nodes.heard(predictor, inputs, prediction, view)
        if self.session.options.record == "calls":
            path = self.path_of(predictor)
            outputs = keep(dict(prediction.items()), "the output")
            name = predictor.signature.__name__
            self.calls.append(Call(path, keep(inputs, "the input"), outputs, view, name, seconds))

    def around(self) -> Iterator[Frame]:
        """This open turn and those around it, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent


def open_turn(session: SessionBase, state: SessionState) -> Frame | None:
    """The open turn that a call of a session belongs to, if there is one.

    It does if the turn is of the same state, or if the session is a copy that was made inside the turn.
    """
    innermost = _context.frame()
    if innermost is None:
        return None
    for frame in innermost.around():
        # A task that outlives the turn belongs to it no more.
        ours = frame.lineage == session.lineage and not frame.closed
        if ours and (frame.state is state or session.born_in is frame):
            return frame
    return None


def hosted(session: SessionBase) -> tuple[Frame, SessionState, NodePolicy] | None:
    """The open turn of the session that this one is a part of, and what that makes of a call here."""
    innermost = _context.frame()
    if innermost is None or session.is_bound():
        return None
    for frame in innermost.around():
        found = None if frame.nodes is None else frame.nodes.session_state(session)
        if found is not None:
            return frame, *found
    return None
