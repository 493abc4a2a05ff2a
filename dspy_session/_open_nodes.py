"""The memories of a program's nodes during one root turn.

What nodes record while the turn runs is staged here, where every call of that turn sees it; it becomes part of the
state with the root turn, or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspy_session._exchange import Exchange, keep
from dspy_session._injection import predictors
from dspy_session._marks import Episode, NodeMark
from dspy_session._options import stored_turns
from dspy_session._signatures import facts
from dspy_session.history import HistoryView, Position
from dspy_session.memory import NodePolicy, NodeTable, memory_message
from dspy_session.state import SessionState
from dspy_session.turns import Turn, TurnRecord
from dspy_session.windows import seen

if TYPE_CHECKING:
    from dspy_session._open_turns import Frame


class _Staged:
    """What one node has and adds in a root turn."""

    def __init__(self, before: SessionState, *, episodic: bool) -> None:
        self.base = before.position
        self.before = before
        # An episode begins empty: what came before it is in the long-term memory.
        self.position = Position() if episodic else self.base
        self.summary = None if episodic else before.summary_at(self.base.stop)
        self.added: list[TurnRecord] = []

    def add(self, exchange: Exchange, view: HistoryView) -> None:
        record = TurnRecord(self.position.stop, exchange, view)
        self.position = self.position.append(record)
        self.added.append(record)

    def view(self, policy: NodePolicy) -> HistoryView:
        return node_view(policy, self.position, self.before.l2_memory, self.summary)


def node_view(policy: NodePolicy, position: Position, memory: str, summary: Any = None) -> HistoryView:
    """What an isolated node is shown: its long-term memory, then its own calls through its window."""
    head = HistoryView.of(policy.options.initial_history).head
    view = HistoryView.at(position, head, policy.options.projection, summary)
    shown = seen(policy.options.window, view)
    return replace(shown, head=memory_message(memory) + shown.head)


@dataclass(frozen=True)
class _Attempted:
    """A call of a copy, such as `BestOfN` makes: it counts if DSPy takes its prediction over."""

    path: str
    policy: NodePolicy
    exchange: Exchange
    view: HistoryView
    prediction: Any


class OpenNodes:
    """The nodes' memories as one open root turn sees and extends them."""

    def __init__(self, frame: Frame, table: NodeTable) -> None:
        self._frame, self._table = frame, table
        self._guard = threading.RLock()
        self._staged: dict[str, _Staged] = {}
        self._attempted: list[_Attempted] = []
        # The state of each part that is a session, and what it was when the turn began.
        self._sessions: dict[str, tuple[SessionState, SessionState]] = {}
        self._loops: set[int] = set()

    def policy_of(self, predictor: Any) -> tuple[str | None, NodePolicy]:
        """A predictor's path and policy."""
        path = self._frame.path_of(predictor)
        return path, self._table.policy(path)

    def _stage(self, path: str, policy: NodePolicy) -> _Staged:
        with self._guard:
            if path not in self._staged:
                self._staged[path] = _Staged(self._begin(path), episodic=policy.lifespan == "episodic")
            return self._staged[path]

    def _begin(self, path: str) -> SessionState:
        """What a node had when the turn began, or when the turn began that is repeated."""
        frame = self._frame
        known = frame.state.node_states.get(path)
        if frame.marks is None:
            if known is None or not frame.reads:
                return SessionState()
            node = known.fork()
            if frame.renewed:
                node.reset()
            return node
        mark = frame.marks.get(path)
        if mark is None:
            return SessionState()
        node = SessionState() if known is None else known.fork()
        node.move(mark.before)
        node.l2_memory = mark.memory
        return node

    def view(self, predictor: Any) -> HistoryView | None:
        """What a predictor is shown; None: it is the bare predictor."""
        path, policy = self.policy_of(predictor)
        if not policy.enabled:
            return None
        if policy.isolation == "shared":
            return self._frame.view
        if policy.lifespan == "stateless" or path is None:
            return None
        with self._guard:
            self._settle()
            return self._stage(path, policy).view(policy)

    def memory(self, path: str) -> str:
        """A node's long-term memory as it is in this turn."""
        with self._guard:
            if path in self._sessions:
                return self._sessions[path][0].l2_memory
            policy = self._table.policy(path)
            return self._stage(path, policy).before.l2_memory if policy.records else ""

    def position(self, path: str) -> Position:
        """A node's place, with what it has added in this turn so far."""
        with self._guard:
            self._settle()
            if path in self._sessions:
                return self._sessions[path][0].position
            policy = self._table.policy(path)
            return self._stage(path, policy).position if policy.records else self._begin(path).position

    def paths(self) -> list[str]:
        """The nodes that there are."""
        return list(self._table.policies)

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, predictor: Any, inputs: Mapping[str, Any], prediction: Any, view: HistoryView) -> None:
        """Stage a predictor's call."""
        path, policy = self.policy_of(predictor)
        if not policy.records or path is None or id(predictor) in self._loops:
            return
        exchange = Exchange(keep(inputs, "the input"), keep(dict(prediction.items()), "the output"))
        with self._guard:
            if self._frame.session.is_copy(predictor):
                self._attempted.append(_Attempted(path, policy, exchange, view, prediction))
            else:
                self._settle()
                self._stage(path, policy).add(exchange, view)

    def _settle(self) -> None:
        """Stage the calls of copies whose predictions have come into the turn's trace."""
        if not self._attempted:
            return
        taken = {id(step[2]) for step in self._frame.trace or ()}
        for call in [call for call in self._attempted if id(call.prediction) in taken]:
            self._attempted.remove(call)
            self._stage(call.path, call.policy).add(call.exchange, call.view)

    def loop_begins(self, predictor: Any) -> None:
        """An agent keeps its predictor's history itself: its single steps are not calls to remember."""
        self._loops.add(id(predictor))

    def loop_ended(self, predictor: Any, events: Iterable[Mapping[str, Any]], view: HistoryView) -> None:
        """Stage what an agent added to its history."""
        path, policy = self.policy_of(predictor)
        if not policy.records or path is None:
            return
        names = set(predictor.signature.input_fields)
        with self._guard:
            for event in events:
                inputs = {k: v for k, v in event.items() if k in names}
                outputs = {k: v for k, v in event.items() if k not in names}
                exchange = Exchange(keep(inputs, "the input"), keep(outputs, "the output"))
                self._stage(path, policy).add(exchange, view)

    def session_state(self, session: Any) -> tuple[SessionState, NodePolicy] | None:
        """The state of a session that is a part of the program, for this turn; None if it is no part of it."""
        path = self._table.session_path(session)
        if path is None:
            return None
        with self._guard:
            policy = self._table.session_policy(path, session)
            if path not in self._sessions:
                state = self._part_state(path, session, policy)
                if policy.lifespan == "episodic":
                    state.move(Position())
                self._sessions[path] = state, state.fork()
            return self._sessions[path][0], policy

    def _part_state(self, path: str, session: Any, policy: NodePolicy) -> SessionState:
        frame = self._frame
        known = frame.state.node_states.get(path)
        mark = None if frame.marks is None else frame.marks.get(path)
        new: SessionState = session.new_state(initial_history=policy.options.initial_history)
        if mark is not None:
            state = new if known is None else known.fork()
            state.rewind(mark, "")
            return state
        if known is not None and frame.reads:
            state = known.fork()
            if frame.renewed:
                state.reset()
            return state
        # A part brings its own past into the session that holds it, but not into other users' states.
        own = frame.state is frame.session.own_state and frame.reads and not frame.renewed
        return session.own_state.fork() if own else new

    # ── committing ───────────────────────────────────────────────────────────────────────────────────────

    def commit(self, record: TurnRecord) -> dict[str, NodeMark]:
        """Make what was staged part of the state. Called with the state's mutex held; cannot fail half-way.

        Returns:
            What each node had and has, for the root turn's record.
        """
        state = self._frame.state
        with self._guard:
            self._settle()
            for path, (_, base) in self._sessions.items():
                if path not in state.node_states:
                    # What a part brought with it is the state's from its first turn on.
                    state.node(path).absorb(base.fork())
            marks = {path: _mark(node) for path, node in state.node_states.items()}
            staged = {path: node for path, node in self._staged.items() if node.added}
            for path in staged:
                marks.setdefault(path, _mark(state.node(path)))
            for path, (part, base) in self._sessions.items():
                self._commit_part(path, part, base, record)
            for path, node in staged.items():
                self._commit_node(path, node, record)
        return {path: replace(mark, after=state.node(path).position) for path, mark in marks.items()}

    def _commit_part(self, path: str, part: SessionState, base: SessionState, record: TurnRecord) -> None:
        node, policy = self._frame.state.node(path), self._table.policy(path)
        if policy.lifespan == "episodic":
            _remember(node, policy, record, part.position.records())
        else:
            added = part.position.stop - base.position.stop
            node.merge(base, part, stored_turns(policy.options, node, added))

    def _commit_node(self, path: str, staged: _Staged, record: TurnRecord) -> None:
        node, policy = self._frame.state.node(path), self._table.policy(path)
        if policy.lifespan == "episodic":
            _remember(node, policy, record, staged.added)
        else:
            limit = stored_turns(policy.options, node, len(staged.added))
            node.extend(staged.base, staged.position, staged.added, limit)
        if policy.options.on_turn is not None:
            turns = [Turn.of(added, node) for added in staged.added]
            self._frame.deferred += [(policy.options.on_turn, self._frame.session, turn) for turn in turns]


def _mark(node: SessionState) -> NodeMark:
    return NodeMark(node.position, node.position, node.l2_memory, tuple(node.pending))


def _remember(
    node: SessionState, policy: NodePolicy, record: TurnRecord, added: Iterable[TurnRecord]
) -> None:
    # Without a consolidator an episode is forgotten with its turn.
    if policy.consolidator is not None and (episode := tuple(added)):
        node.pending = [*node.pending, Episode(record.id, episode)]


def add_to_nodes(
    table: NodeTable, session: Any, state: SessionState, exchange: Exchange
) -> dict[str, NodeMark]:
    """A turn that was added by hand is a call of those nodes that take and give just its fields.

    Returns:
        What each node had and has.
    """
    marks = {path: _mark(node) for path, node in state.node_states.items()}
    for path, predictor in predictors(session.module):
        policy = table.policy(path)
        known = facts(predictor.signature)
        fits = known.inputs <= exchange.inputs.keys() and known.outputs & exchange.outputs.keys()
        if not policy.records or policy.lifespan != "persistent" or not fits:
            continue
        node = state.node(path)
        before = _mark(node)
        inputs = {name: exchange.inputs[name] for name in known.inputs}
        outputs = {name: value for name, value in exchange.outputs.items() if name in known.outputs}
        view = node_view(policy, node.position, node.l2_memory, node.summary_at(node.position.stop))
        added = TurnRecord(node.next_index(), Exchange(inputs, outputs), view)
        limit = stored_turns(policy.options, node)
        node.extend(before.before, before.before.append(added), [added], limit)
        marks[path] = replace(before, after=node.position)
    return marks
