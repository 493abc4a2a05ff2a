"""Whether a call is made for training or evaluation, where a live conversation must neither be read nor extended.

DSPy marks a running `compile` in a context variable that its thread pools do not carry, and an `Evaluate` not at all.
What is certain everywhere is the call stack: DSPy's own function for one example is on it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import dspy
import dspy.utils.callback_context as callback_context

from dspy_session._injection import is_session, parts

Training = Literal["compile", "evaluate"]

# Programs that these make run inside them when they serve, too.
_SERVING = frozenset({"dspy.teleprompt.knn_fewshot", "dspy.teleprompt.ensemble"})
_COMPILES = getattr(callback_context, "_ACTIVE_COMPILES", None)


def _of_compile(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith("dspy.teleprompt.") and module not in _SERVING


def _walk(frame: FrameType | None) -> Training | None:
    found: Training | None = None
    while frame is not None:
        if _of_compile(frame):
            return "compile"
        if frame.f_globals.get("__name__") == "dspy.evaluate.evaluate":
            found = "evaluate"
        frame = frame.f_back
    return found


def compiling() -> bool:
    """Whether an optimizer's `compile` is running in this context."""
    return bool(_COMPILES is not None and _COMPILES.get())


def training() -> Training | None:
    """What the present call is made for, if it is not a user's."""
    return "compile" if compiling() else _walk(sys._getframe(1))


def holder(copy: Any) -> Any:
    """The session that the user holds, of which a `dspy.KNNFewShot` program made a copy for one call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != "dspy.teleprompt.knn_fewshot":
        frame = frame.f_back
    if frame is None:
        return None
    for caller in dspy.settings.caller_modules or ():
        found = [part for _, part in parts(caller) if is_session(part) and part.lineage == copy.lineage]
        if found:
            return None if copy in found else found[0]
    return None


class Birth:
    """Where a copy of a session was made while an optimizer compiled.

    Such a copy answers training calls, from whatever threads, until that compile is over.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        # The thread may compile something else later: this compile is over when its own frame is gone.
        self._frame = _outermost_compile()

    def compile_is_over(self) -> bool:
        """Whether the compile that the copy was made in has ended. Once it has, it stays so."""
        if self._frame is not None:
            here = threading.get_ident() == self._thread
            frame = sys._getframe() if here else sys._current_frames().get(self._thread)
            while frame is not None and frame is not self._frame:
                frame = frame.f_back
            if frame is None:
                self._frame = None
        return self._frame is None

    def __deepcopy__(self, memo: dict[int, Any]) -> Birth:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_over, ())


def _over() -> Birth:
    birth = Birth()
    birth._frame = None
    return birth


def _outermost_compile() -> FrameType | None:
    found: FrameType | None = None
    here: FrameType | None = sys._getframe(1)
    while here is not None:
        if _of_compile(here):
            found = here
        here = here.f_back
    return found


@dataclass(frozen=True)
class Item:
    """One run of one item of a `dspy.Parallel`.

    Attributes:
        executor: the executor that runs it.
        index: which item it is.
        run: which of the item's runs.
    """

    executor: Any
    index: int
    run: int


def parallel_item() -> Item | None:
    """The item of a `dspy.Parallel` that this call is made for.

    DSPy runs an item a second time when the first run seems to hang.
    """
    if threading.current_thread() is threading.main_thread():
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "worker" and frame.f_globals.get("__name__") == "dspy.utils.parallelizer":
            here = frame.f_locals
            # From Python 3.13 on this is a view of the frame whose keys() is a list.
            if all(name in here for name in ("self", "index", "submission_id")):
                return Item(here["self"], here["index"], here["submission_id"])
        frame = frame.f_back
    return None


class FirstRuns:
    """Which run of each item was the first to finish: only its turns are recorded."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._winners: weakref.WeakKeyDictionary[Any, dict[int, int]] = weakref.WeakKeyDictionary()

    def wins(self, item: Item) -> bool:
        """Whether a run is the first of its item to finish, or the one that was."""
        with self._guard:
            return self._winners.setdefault(item.executor, {}).setdefault(item.index, item.run) == item.run


FIRST_RUNS = FirstRuns()
