"""`Session`, which gives any DSPy program a conversation, and the functions that make one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dspy

from dspy_session._base import SessionBase
from dspy_session.memory import Isolation, Lifespan, NodePolicy


class Session(SessionBase):
    """Runs the program in `self.module` and gives each of its predictors the conversation so far.

    The predictors, their instructions and their demos are those of `self.module`: improve them there. Past turns
    reach each predictor as earlier messages of the same chat; they need not be mentioned in instructions.
    """


def sessionify(module: dspy.Module, **options: Any) -> Session:
    """Wrap a program in a session: `Session(module, **options)`.

    Args:
        module: any `dspy.Module`; it is copied, unless `copy_mode` says otherwise.
        **options: as for `Session`.
    """
    return Session(module, **options)


def with_memory(
    module: dspy.Module,
    *,
    recursive: bool | str = True,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    where: Callable[[str, Any], bool] | None = None,
    isolation: Isolation = "isolated",
    lifespan: Lifespan = "persistent",
    consolidator: Callable[..., Any] | None = None,
    child_configs: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Session:
    """An app: one program for many users, whose states are outside of it, with a memory for each of its nodes.

    Args:
        module: any `dspy.Module`; it is not copied unless `copy_mode` says so.
        recursive: False: no node has a memory of its own, all are shown the root conversation.
        include: paths of the nodes that take part; the others are bare predictors. A path stands for all under it.
        exclude: paths of nodes that are bare predictors.
        where: a function of path and node; where it is false the node is a bare predictor.
        isolation: `"isolated"`: nodes are shown their own earlier calls; `"shared"`: the root conversation.
        lifespan: `"persistent"`; `"episodic"`: a node forgets its calls with each root turn, but for what a
            consolidator makes of them; or `"stateless"`.
        consolidator: for episodic nodes, a module called with `past_memory` and `episode_transcript` whose
            `updated_memory` becomes the node's long-term memory.
        child_configs: by path: `isolation`, `lifespan`, `consolidator`, `enabled`, and options of `Session`.
        **options: as for `Session`. Servers should pass `unbound="error"`, so that no call can miss its state.

    Raises:
        UnknownPathError: a path leads to nothing; the error lists the nodes.
        ConfigurationError: an option does not exist, or has a value that is not allowed.
    """
    options.setdefault("copy_mode", "none")
    default = NodePolicy(isolation, lifespan, consolidator)
    app = Session(module, **options)
    app.use_nodes(
        default=default,
        child_configs=child_configs,
        include=include,
        exclude=exclude,
        where=where,
        recursive=recursive,
    )
    return app
