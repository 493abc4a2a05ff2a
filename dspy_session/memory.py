"""Memories of the nodes of a program: which predictors have one, what it shows them, and what becomes of it.

A node is a predictor under an app made by `with_memory`, or a session that is a part of a program. Its policy says
what it is shown and what it records:

| policy | is shown | records |
|---|---|---|
| isolated, persistent | its own earlier calls, in its own fields | each call |
| isolated, episodic | its own calls of this root turn, and its long-term memory | until the turn ends, then consolidated |
| isolated, stateless | nothing | nothing |
| shared | the root conversation | nothing |
| not enabled | nothing: it is the bare predictor | nothing |

What nodes record during a root turn is staged in an `OpenNodes`, which every call of that turn sees; it becomes part
of the state with the root turn, or not at all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import dspy

from dspy_session._injection import is_session, parts, predictors
from dspy_session._options import Options, one_of
from dspy_session._signatures import facts
from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.history import HistoryView, Position
from dspy_session.state import Episode, NodeMark, SessionState
from dspy_session.turns import Exchange, Message, Turn, TurnRecord, keep

if TYPE_CHECKING:
    from dspy_session._calls import Frame

Isolation = Literal["isolated", "shared"]
Lifespan = Literal["persistent", "episodic", "stateless"]

MEMORY_FIELD = "long_term_memory"


@dataclass(frozen=True)
class NodePolicy:
    """What a node is shown and what it records.

    Attributes:
        isolation: `"isolated"`: a memory of its own; `"shared"`: it is shown the root conversation.
        lifespan: `"persistent"`, `"episodic"` or `"stateless"`.
        consolidator: for episodic nodes: takes `past_memory` and `episode_transcript`, gives `updated_memory`.
        enabled: False: the bare predictor.
        options: session options for the node's own memory, such as its window.
    """

    isolation: Isolation = "isolated"
    lifespan: Lifespan = "persistent"
    consolidator: Callable[..., Any] | None = None
    enabled: bool = True
    options: Options = field(default_factory=Options, compare=False)

    def __post_init__(self) -> None:
        one_of("isolation", self.isolation, get_args(Isolation))
        one_of("lifespan", self.lifespan, get_args(Lifespan))
        if not isinstance(self.enabled, bool):
            raise ConfigurationError(f"enabled must be True or False, not {self.enabled!r}")
        if self.consolidator is not None and not callable(self.consolidator):
            raise ConfigurationError("consolidator must be a dspy.Module or a function")

    @property
    def records(self) -> bool:
        """Whether the node's calls are kept."""
        return self.enabled and self.isolation == "isolated" and self.lifespan != "stateless"


BARE = NodePolicy(enabled=False)
SHARED = NodePolicy(isolation="shared")
_POLICY_KEYS = ("isolation", "lifespan", "consolidator", "enabled")


@lru_cache(maxsize=1_024)
def memory_message(memory: str) -> tuple[Message, ...]:
    """Long-term memory as the first user message of a history; nothing if there is none."""
    return (Message({MEMORY_FIELD: memory}, {MEMORY_FIELD}),) if memory else ()


class NodeTable:
    """Which node of a program has which policy.

    Args:
        module: the program.
        options: the root's options, which nodes inherit.
        default: the policy of nodes that are not named.
        child_configs: by path of a node or of what it is under: policy keys and session options.
        include: paths; others are the bare predictor.
        exclude: paths that are the bare predictor.
        where: a function of path and node; where it is false the node is the bare predictor.
        recursive: False: nodes have no memories, all are shown the root conversation.
        nested_sessions: what sessions inside the program do: `"keep"` a memory of their own, or `"inherit"` the
            conversation of the session around them.
    """

    def __init__(
        self,
        module: dspy.Module,
        options: Options,
        default: NodePolicy,
        child_configs: Mapping[str, Mapping[str, Any]] | None = None,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        where: Callable[[str, Any], bool] | None = None,
        recursive: bool | str = True,
        nested_sessions: str = "keep",
    ) -> None:
        if recursive not in (True, False, "predictors"):
            raise ConfigurationError(f'recursive must be True, False or "predictors", not {recursive!r}')
        if where is not None and not callable(where):
            raise ConfigurationError("where must be a function of a path and a node")
        nodes = _nodes(module)
        known = [path for path, _ in nodes]
        chosen, left_out = _paths("include", include), _paths("exclude", exclude)
        for path in (*(chosen or ()), *(left_out or ()), *(child_configs or {})):
            _check_path(module, path, known)
        self.default = default if recursive else SHARED
        self.policies: dict[str, NodePolicy] = {}
        self.sessions: dict[int, str] = {id(node): path for path, node in nodes if is_session(node)}
        configs = {path: _config(path, given) for path, given in (child_configs or {}).items()}
        for path, node in nodes:
            wanted = (
                (chosen is None or any(_under(path, name) for name in chosen))
                and not any(_under(path, name) for name in left_out or ())
                and (where is None or where(path, node))
            )
            if is_session(node):
                base = SHARED if nested_sessions == "inherit" else NodePolicy()
                own = node.options
            else:
                base, own = self.default, replace(options, on_turn=None, initial_history=None)
            policy = _configured(replace(base, options=own), path, configs) if wanted else BARE
            self.policies[path] = _root_policy(policy) if path == "self" else policy

    def policy(self, path: str | None) -> NodePolicy:
        """The policy of a node. A predictor that the program made while it ran can have no memory of its own."""
        if path is None:
            return SHARED if self.default.isolation == "shared" else BARE
        return self.policies.get(path, BARE)


def _root_policy(policy: NodePolicy) -> NodePolicy:
    # A program that is one predictor: its own earlier calls are the root conversation.
    plain = policy.enabled and (policy.isolation, policy.lifespan) == ("isolated", "persistent")
    return replace(policy, isolation="shared") if plain else policy


def _nodes(module: dspy.Module) -> list[tuple[str, Any]]:
    return [
        (path or "self", part)
        for path, part in parts(module)
        if isinstance(part, dspy.Predict) or (path and is_session(part))
    ]


def _under(path: str, name: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _paths(parameter: str, value: Any) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{parameter} must be a list of paths, not {value!r}")
    return list(value)


def _check_path(module: dspy.Module, path: str, known: list[str]) -> None:
    if any(_under(name, path) for name in known) or _exists(module, path):
        return
    raise UnknownPathError(f"the program has no node {path!r}; its nodes are {', '.join(known) or 'none'}")


def _exists(module: Any, path: str) -> bool:
    """Whether a path of attributes leads to something, such as a retriever without predictors."""
    found = module
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _config(path: str, given: Any) -> dict[str, Any]:
    allowed = (*_POLICY_KEYS, "input_field_override", *Options.__dataclass_fields__)
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"child_configs[{path!r}] must be a dict of options, not {given!r}")
    for name in given:
        if name not in allowed:
            raise ConfigurationError(
                f"child_configs[{path!r}] has no option {name!r}; there are {', '.join(sorted(allowed))}"
            )
    config = dict(given)
    if "input_field_override" in config:
        config.setdefault("history_input_fields", config.pop("input_field_override"))
    return config


def _configured(base: NodePolicy, path: str, configs: Mapping[str, Mapping[str, Any]]) -> NodePolicy:
    """The policy after what was said of the node and of what it is under; the longest path speaks last."""
    policy = base
    for name in sorted((name for name in configs if _under(path, name)), key=len):
        config = configs[name]
        options = {k: v for k, v in config.items() if k not in _POLICY_KEYS}
        if "max_turns" in options:
            options.setdefault("window", None)
        elif "window" in options:
            options["max_turns"] = None
        policy = replace(
            policy,
            **{k: v for k, v in config.items() if k in _POLICY_KEYS},
            options=replace(policy.options, **options),
        )
    return policy


# ── one root turn ────────────────────────────────────────────────────────────────────────────────────────────


class _Staged:
    """What one node has and adds in a root turn."""

    def __init__(self, base: Position, memory: str, *, episodic: bool) -> None:
        self.base = base
        self.memory = memory
        # An episode begins empty: what came before it is in the long-term memory.
        self.position = Position() if episodic else base
        self.added: list[TurnRecord] = []

    def add(self, exchange: Exchange, view: HistoryView) -> None:
        record = TurnRecord(self.position.stop, exchange, view)
        self.position = self.position.append(record)
        self.added.append(record)


class OpenNodes:
    """The nodes' memories as one open root turn sees and extends them."""

    def __init__(self, frame: Frame, table: NodeTable) -> None:
        self._frame, self._table = frame, table
        self._guard = threading.RLock()
        self._staged: dict[str, _Staged] = {}
        self._sessions: dict[str, tuple[SessionState, Position]] = {}
        self._loops: set[int] = set()

    def policy_of(self, predictor: Any) -> tuple[str | None, NodePolicy]:
        """A predictor's path and policy."""
        path = self._frame.path_of(predictor)
        return path, self._table.policy(path)

    def _stage(self, path: str, policy: NodePolicy) -> _Staged:
        with self._guard:
            if path not in self._staged:
                base, memory = self._begin(path)
                self._staged[path] = _Staged(base, memory, episodic=policy.lifespan == "episodic")
            return self._staged[path]

    def _begin(self, path: str) -> tuple[Position, str]:
        """A node's place and memory at the beginning of the turn, or of the turn that is repeated."""
        frame = self._frame
        if frame.marks is not None:
            mark = frame.marks.get(path)
            return (Position(), "") if mark is None else (mark.before, mark.memory)
        if not frame.live:
            return Position(), ""
        node = frame.state.node_states.get(path)
        return (Position(), "") if node is None else (node.position, node.l2_memory)

    def view(self, predictor: Any) -> HistoryView | None:
        """What a predictor is shown; None: it is the bare predictor."""
        path, policy = self.policy_of(predictor)
        if not policy.enabled:
            return None
        if policy.isolation == "shared":
            return self._frame.view
        if policy.lifespan == "stateless" or path is None:
            return None
        staged = self._stage(path, policy)
        head = HistoryView.of(policy.options.initial_history).head
        view = HistoryView.at(staged.position, head, policy.options.projection)
        window = policy.options.window
        shown = view if window is None else window(view)
        return replace(shown, head=memory_message(staged.memory) + shown.head)

    def memory(self, path: str) -> str:
        """A node's long-term memory as it is in this turn."""
        policy = self._table.policy(path)
        return self._stage(path, policy).memory if policy.records else ""

    def position(self, path: str) -> Position:
        """A node's place, with what it has added in this turn so far."""
        if path in self._sessions:
            return self._sessions[path][0].position
        policy = self._table.policy(path)
        if policy.records:
            return self._stage(path, policy).position
        return self._begin(path)[0]

    def paths(self) -> list[str]:
        """The nodes that there are."""
        return list(self._table.policies)

    def heard(self, predictor: Any, inputs: Mapping[str, Any], prediction: Any, view: HistoryView) -> None:
        """Stage a predictor's call."""
        path, policy = self.policy_of(predictor)
        if not policy.records or path is None or id(predictor) in self._loops:
            return
        exchange = Exchange(keep(inputs, "the input"), keep(dict(prediction.items()), "the output"))
        with self._guard:
            self._stage(path, policy).add(exchange, view)

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
        path = self._table.sessions.get(id(session))
        if path is None:
            return None
        with self._guard:
            policy = self._table.policy(path)
            if path not in self._sessions:
                state = self._part_state(path, session)
                if policy.lifespan == "episodic":
                    state.move(Position())
                self._sessions[path] = state, state.position
            return self._sessions[path][0], policy

    def _part_state(self, path: str, session: Any) -> SessionState:
        frame = self._frame
        known = frame.state.node_states.get(path)
        if frame.marks is not None and path in frame.marks:
            state: SessionState = session.new_state(l2_memory=frame.marks[path].memory)
            state.move(frame.marks[path].before)
            return state
        if known is not None and frame.live:
            return known.fork()
        # A part brings its own past into the session that holds it, but not into other users' states.
        own = frame.state is frame.session.own_state and frame.live
        return session.own_state.fork() if own else session.new_state()  # type: ignore[no-any-return]

    # ── committing ───────────────────────────────────────────────────────────────────────────────────────

    def commit(self, record: TurnRecord) -> dict[str, NodeMark]:
        """Make what was staged part of the state. Called with the state's mutex held; cannot fail half-way.

        Returns:
            What each node had and has, for the root turn's record.
        """
        state = self._frame.state
        touched: dict[str, NodeMark] = {}
        for path, (part, base) in self._sessions.items():
            added = part.position.records()[base.stop - part.position.start :]
            node = state.node(path)
            before, memory = node.position, node.l2_memory
            if self._table.policy(path).lifespan == "episodic":
                _remember(node, record, added)
            elif before == base or not before:
                node.absorb(part)
            else:
                node.extend(base, part.position, added)
            touched[path] = NodeMark(before, node.position, memory)
        for path, staged in self._staged.items():
            if staged.added:
                touched[path] = self._commit_node(path, staged, record)
        for path, node in state.node_states.items():
            touched.setdefault(path, NodeMark(node.position, node.position, node.l2_memory))
        return touched

    def _commit_node(self, path: str, staged: _Staged, record: TurnRecord) -> NodeMark:
        node, policy = self._frame.state.node(path), self._table.policy(path)
        before, memory = node.position, node.l2_memory
        if policy.lifespan == "episodic":
            _remember(node, record, staged.added)
        else:
            node.extend(staged.base, staged.position, staged.added, policy.options.max_stored_turns)
        if policy.options.on_turn is not None:
            turns = [Turn.of(added, node) for added in staged.added]
            self._frame.deferred += [(policy.options.on_turn, self._frame.session, turn) for turn in turns]
        return NodeMark(before, node.position, memory)


def _remember(node: SessionState, record: TurnRecord, added: Iterable[TurnRecord]) -> None:
    if episode := tuple(added):
        node.pending.append(Episode(record.id, episode))


def add_to_nodes(table: NodeTable, session: Any, state: SessionState, exchange: Exchange) -> dict[str, NodeMark]:
    """A turn that was added by hand is a call of those nodes that take and give just its fields.

    Returns:
        What each node had and has.
    """
    marks = {path: NodeMark(n.position, n.position, n.l2_memory) for path, n in state.node_states.items()}
    for path, predictor in predictors(session.module):
        policy = table.policy(path)
        known = facts(predictor.signature)
        fits = known.inputs <= exchange.inputs.keys() and known.outputs & exchange.outputs.keys()
        if not policy.records or policy.lifespan != "persistent" or not fits:
            continue
        node = state.node(path)
        inputs = {name: exchange.inputs[name] for name in known.inputs}
        outputs = {name: value for name, value in exchange.outputs.items() if name in known.outputs}
        head = HistoryView.of(policy.options.initial_history).head
        view = HistoryView.at(node.position, head, policy.options.projection)
        before = node.position
        added = TurnRecord(node.next_index(), Exchange(inputs, outputs), view)
        node.extend(before, before.append(added), [added], policy.options.max_stored_turns)
        marks[path] = NodeMark(before, node.position, node.l2_memory)
    return marks


# ── consolidation ────────────────────────────────────────────────────────────────────────────────────────────


def transcript(records: Iterable[TurnRecord]) -> str:
    """Node turns as text: `- turn: 0`, then `inputs` and `outputs` as JSON."""
    lines = []
    for place, record in enumerate(records):
        lines += [
            f"- turn: {place}",
            f"  inputs: {json.dumps(record.exchange.inputs, ensure_ascii=False, default=str)}",
            f"  outputs: {json.dumps(record.exchange.outputs, ensure_ascii=False, default=str)}",
        ]
    return "\n".join(lines)


_MEMORY_NAMES = ("updated_memory", "memory", "l2_memory", "output")


def updated_memory(answer: Any) -> str:
    """The memory in a consolidator's answer: the field of that name, else the first that is not reasoning."""
    if isinstance(answer, str):
        return answer
    fields = dict(answer.items()) if hasattr(answer, "items") else {}
    for name in (*_MEMORY_NAMES, *(name for name in fields if name != "reasoning")):
        if fields.get(name) is not None:
            return str(fields[name])
    if fields:
        raise ConfigurationError(f"the consolidator answered {sorted(fields)}, but no updated_memory")
    return str(answer)


@dataclass(frozen=True)
class Consolidation:
    """Episodes of one node that are to be folded into its long-term memory."""

    path: str
    consolidator: Callable[..., Any]
    node: SessionState
    episodes: tuple[Episode, ...]
    past_memory: str

    def arguments(self) -> dict[str, str]:
        """What the consolidator is called with."""
        records = [record for episode in self.episodes for record in episode.records]
        return {"past_memory": self.past_memory, "episode_transcript": transcript(records)}

    def commit(self, memory: str) -> None:
        """Take over the new memory, unless the episodes were undone or consolidated meanwhile."""
        with self.node.mutex:
            if tuple(self.node.pending[: len(self.episodes)]) == self.episodes:
                self.node.l2_memory = memory
                self.node.pending = self.node.pending[len(self.episodes) :]


def due(state: SessionState, table: NodeTable) -> list[Consolidation]:
    """The consolidations that a state waits for. Episodes of nodes without a consolidator are let go."""
    found = []
    with state.mutex:
        for path, node in state.node_states.items():
            consolidator = table.policy(path).consolidator
            if not node.pending:
                continue
            if consolidator is None:
                node.pending = []
                continue
            found.append(Consolidation(path, consolidator, node, tuple(node.pending), node.l2_memory))
    return found
