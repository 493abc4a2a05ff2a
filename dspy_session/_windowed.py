"""How much of a conversation a program can ever look at, and so has to be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy_session._injection import is_session, parts
from dspy_session.memory import NodePolicy
from dspy_session.state import SessionState

if TYPE_CHECKING:
    from dspy_session._base import SessionBase
    from dspy_session._options import Options


def _needs(options: Options) -> int | None:
    """How many turns of its own line a session or node can ever be shown; None: all."""
    known = [getattr(options.window, "needs", None), options.max_stored_turns]
    return min((int(need) for need in known if need is not None), default=None)


def needed_turns(session: SessionBase) -> int | None:
    """How many turns a program's windows can ever show; None: all of them.

    A node's turns may lie further back than these: `shows_enough` tells.
    """
    needs = [_needs(session.options)]
    needs += [_needs(policy.options) for policy in _recording(session).values()]
    if session.node_table is not None:
        inner = [part for path, part in parts(session.module) if path and is_session(part)]
        # The nodes of a part are turns of turns: where there are such, everything is loaded.
        needs += [None for part in inner if _recording(part)]
    limit = session.options.max_stored_turns
    most = None if any(need is None for need in needs) else max(need for need in needs if need is not None)
    return limit if most is None else most if limit is None else min(most, limit)


def _recording(session: SessionBase) -> dict[str, NodePolicy]:
    table = session.node_table
    return (
        {} if table is None else {path: policy for path, policy in table.policies.items() if policy.records}
    )


def shows_enough(session: SessionBase, state: SessionState) -> bool:
    """Whether each node of a state that was loaded in part has the turns that it can be shown."""
    limit = session.options.max_stored_turns
    if limit is not None and len(state) >= limit:
        return True
    for path, policy in _recording(session).items():
        node = state.node_states.get(path)
        need = _needs(policy.options)
        if node is not None and node.position.start > 0 and (need is None or len(node) < need):
            return False
    return True


def keeps_few(session: SessionBase, state: SessionState) -> None:
    """Let go of what `max_stored_turns` lets a state and its nodes let go of."""
    if session.options.max_stored_turns is not None:
        state.move(state.position.keep_last(session.options.max_stored_turns))
    for path, policy in _recording(session).items():
        limit = policy.options.max_stored_turns
        if limit is not None and path in state.node_states:
            node = state.node_states[path]
            node.move(node.position.keep_last(limit))
