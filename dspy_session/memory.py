"""Memories of the nodes of a program: which predictors have one, what it shows them, and what becomes of it.

A node is a predictor under an app made by `with_memory`, or a session that is a part of a program. Its policy says
what it is shown and what it records:

====================  =====================================================  ======================================
policy                is shown                                               records
====================  =====================================================  ======================================
isolated, persistent  its own earlier calls, in its own fields               each call
isolated, episodic    its own calls of this root turn, its long-term memory  until the turn ends, then consolidated
isolated, stateless   nothing                                                nothing
shared                the root conversation                                  nothing
not enabled           nothing: it is the bare predictor                      nothing
====================  =====================================================  ======================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import dspy

from dspy_session._exchange import Message
from dspy_session._injection import is_session, parts
from dspy_session._options import Options, one_of
from dspy_session.errors import ConfigurationError, UnknownPathError

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
        self._module = module
        self._nested = SHARED if nested_sessions == "inherit" else NodePolicy()
        self._parts: dict[str, Any] = {path: node for path, node in nodes if is_session(node)}
        configs = {path: _config(path, given) for path, given in (child_configs or {}).items()}
        for path, node in nodes:
            wanted = (
                (chosen is None or any(_under(path, name) for name in chosen))
                and not any(_under(path, name) for name in left_out or ())
                and (where is None or where(path, node))
            )
            policy = _configured(self._unnamed(node, options), path, configs) if wanted else BARE
            self.policies[path] = _root_policy(policy) if path == "self" else policy

    def _unnamed(self, node: Any, options: Options) -> NodePolicy:
        """The policy of a node that `child_configs` does not name."""
        if is_session(node):
            return replace(self._nested, options=node.options)
        # What is stored is counted in root turns; nodes let go with them.
        own = replace(options, on_turn=None, initial_history=None, max_stored_turns=None)
        return replace(self.default, options=own)

    def policy(self, path: str | None) -> NodePolicy:
        """The policy of a node. A predictor that the program made while it ran can have no memory of its own."""
        if path is None:
            return SHARED if self.default.isolation == "shared" else BARE
        return self.policies.get(path, BARE)

    def part(self, path: str) -> Any:
        """The session that is the part with this path; None if it is no session."""
        return self._parts.get(path)

    def session_path(self, session: Any) -> str | None:
        """Where in the program a session, or the session that it is a copy of, is mounted; None: it is no part."""
        found = self._mounted(session)
        if found is None:
            # It may have been mounted since.
            self._parts = {path: part for path, part in parts(self._module) if path and is_session(part)}
            found = self._mounted(session)
        return found

    def _mounted(self, session: Any) -> str | None:
        copied = None
        for path, part in self._parts.items():
            if part is session:
                return path
            if part.lineage == session.lineage:
                copied = path
        return copied

    def session_policy(self, path: str, session: Any) -> NodePolicy:
        """The policy of a part that is a session. One that was mounted later has a memory of its own, too."""
        known = self.policies.get(path)
        return replace(self._nested, options=session.options) if known is None else known


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


_STEP = re.compile(
    r"\.?(?:(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[(?P<quote>['\"])(?P<key>.*?)(?P=quote)\])"
)


def _exists(module: Any, path: str) -> bool:
    """Whether a path leads to something that the program holds, such as a retriever without predictors."""
    found, at = module, 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return False
        try:
            if step["name"] is not None:
                # Methods and what the class brings along are no parts of the program.
                found = vars(found)[step["name"]]
            else:
                found = found[step["key"] if step["index"] is None else int(step["index"])]
        except (TypeError, LookupError):
            return False
        at = step.end()
    return bool(path)


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
