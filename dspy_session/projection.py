"""What running code may ask about the conversation around it: for templates, tools, and programs that introspect.

Everything here answers for the place where it is called: anywhere under a session's call, in whatever thread DSPy
carries its settings to. Outside of any call there is nothing to tell: None, or empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dspy import History

from dspy_session import _context
from dspy_session._folding import transcript
from dspy_session._open_turns import Frame
from dspy_session.errors import UnknownPathError
from dspy_session.history import Position

_ROOT = ("", "root", ".")


def get_current_history() -> History | None:
    """The history of the innermost running node: what its predictor is shown.

    In a program's own code, between its predictors, it is the session's.
    """
    scope = _context.scope()
    if scope.frame is None:
        return None
    return scope.frame.view.history() if scope.node is None else scope.node.view.history()


def get_outer_history() -> History | None:
    """The history of what is around: for a predictor its session's, for a session inside another the other's.

    In the code of the outermost program it is that program's own.
    """
    scope = _context.scope()
    if scope.frame is None:
        return None
    if scope.node is not None or scope.frame.parent is None:
        return scope.frame.view.history()
    return scope.frame.parent.view.history()


def get_node_memory() -> str:
    """The long-term memory of the innermost running node; empty if it has none."""
    scope = _context.scope()
    if scope.frame is None:
        return ""
    path = None if scope.node is None else scope.node.path
    if path is None or scope.frame.nodes is None:
        return scope.frame.state.l2_memory
    return scope.frame.nodes.memory(path)


def get_child_l1_ledger(path: str) -> str:
    """The turns of a node as text, with those of the turn that is running.

    Args:
        path: the node's path, exactly; `""`, `"root"` or `"."` for the root conversation.

    Returns:
        One block a turn: `- turn: 0`, then `inputs` and `outputs` as JSON. Empty outside of a call.

    Raises:
        UnknownPathError: the program has no such node; the error lists those that it has.
    """
    frame = _root(_context.frame())
    if frame is None:
        return ""
    if path in _ROOT:
        return transcript(frame.state.position.records())
    return transcript(_position(frame, path).records())


def _root(frame: Frame | None) -> Frame | None:
    return None if frame is None else list(frame.around())[-1]


def _position(frame: Frame, path: str) -> Position:
    known = [] if frame.nodes is None else frame.nodes.paths()
    if frame.nodes is None or path not in known:
        raise UnknownPathError(
            f"the program has no node {path!r}; its nodes are {', '.join(known) or 'none'}"
        )
    return frame.nodes.position(path)


def get_execution_trace() -> str:
    """What is running, as text: a line for each node that has something, and the stack of open calls."""
    scope = _context.scope()
    root = _root(scope.frame)
    if root is None or scope.frame is None:
        return ""
    lines = [f"root: turns={len(root.state)} l2_chars={len(root.state.l2_memory)}", *_node_lines(root)]
    names = [type(frame.session.module).__name__ for frame in scope.frame.around()][:-1]
    stack = ["root", *reversed(names)]
    if scope.node is not None:
        stack.append(scope.node.path or "(unnamed)")
    return "\n".join([*lines, f"active_stack={' > '.join(stack)}"])


def _node_lines(root: Frame) -> Iterator[str]:
    if root.nodes is None:
        return
    for path in root.nodes.paths():
        turns, memory = len(root.nodes.position(path)), root.nodes.memory(path)
        if turns or memory:
            yield f"{path}: turns={turns} l2_chars={len(memory)}"


def _history_text(history: History | None) -> str:
    if history is None:
        return ""
    return "\n\n".join(
        "\n".join(f"{name}: {value}" for name, value in message.items()) for message in history.messages
    )


HELPERS: dict[str, Callable[..., str]] = {
    "current_history": lambda **_: _history_text(get_current_history()),
    "outer_history": lambda **_: _history_text(get_outer_history()),
    "node_memory": lambda **_: get_node_memory(),
    "child_l1_ledger": lambda path="", **_: get_child_l1_ledger(path),
    "execution_trace": lambda **_: get_execution_trace(),
}


def register_helpers(adapter: Any) -> None:
    """Make the helpers known to a template adapter, as `{outer_history()}`, `{child_l1_ledger(path='…')}` and so on.

    Args:
        adapter: a `TemplateAdapter` of `dspy-template-adapter`, or anything with `register_helper(name, function)`.
    """
    for name, helper in HELPERS.items():
        adapter.register_helper(name, helper)
