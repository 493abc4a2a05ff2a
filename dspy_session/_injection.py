"""Finding the predictors of a program, and handing each the conversation when it runs.

A predictor keeps its identity: only its class becomes a subclass of its own with a mixin in front, and its signature
gets a history input if it has none. What the mixin hands over is decided when the predictor runs, from the open turn
in DSPy's settings; without one the predictor sends what it sent before. Files and states hide the added input, so
they are the bare program's.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import dspy
from dspy.adapters.base import Adapter
from dspy.primitives.base_module import BaseModule
from dspy.signatures.signature import ensure_signature
from dspy.utils.callback import BaseCallback

from dspy_session import _context
from dspy_session._disguise import identity
from dspy_session._past_turns import view_of
from dspy_session._rendering import rendering
from dspy_session._signatures import facts, original, with_history
from dspy_session.history import EMPTY, SessionHistory

# Attributes that hold records of the past or whole other programs, not parts of this one.
_NOT_PARTS = frozenset(
    {"candidate_programs", "trial_logs", "demos", "traces", "train", "history", "callbacks", "lm"}
)

# Keywords of a predictor's call that are no inputs.
_SETTINGS = frozenset({"signature", "new_signature", "demos", "config", "lm", "prediction", "_trace"})

COPY_OF = "_dspy_session_copy_of"


_EXTENDED = "dspy_session_extended"


class _Swapped:
    """Base of the mixins: an object whose class was exchanged copies and pickles by its original class."""

    _swapped_base: type

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        mixin = type(self).__mro__[1]
        state = self.__getstate__()  # type: ignore[attr-defined]
        extended = original(state["signature"]) if "signature" in state else None
        if extended is not None:
            state = {**state, "signature": None, _EXTENDED: extended}
        frame = _context.frame()
        if frame is not None and (path := frame.session.path_of(self)) is not None:
            # A copy that is made in a turn, as by `BestOfN`, stands for its original there.
            state = {**state, COPY_OF: (frame.lineage, path)}
        return (_rebuild, (mixin, type(self)._swapped_base), state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        extended = state.get(_EXTENDED)
        if extended is not None:
            state = {name: value for name, value in state.items() if name != _EXTENDED}
            state["signature"] = with_history(*extended)
        super().__setstate__(state)  # type: ignore[misc]


def _rebuild(mixin: type, base: type) -> Any:
    cls = _swapped_class(mixin, base)
    return cls.__new__(cls)  # type: ignore[call-overload]


_swapped_classes: dict[tuple[type, type], type] = {}


def _swapped_class(mixin: type, base: type) -> type:
    known = _swapped_classes.get((mixin, base))
    if known is None:
        body = {**identity(base), "_swapped_base": base}
        known = _swapped_classes.setdefault((mixin, base), type(base)(base.__name__, (mixin, base), body))
    return known


class SessionPredict(_Swapped):
    """The mixin for predictors."""

    signature: Any

    def forward(self, **kwargs: Any) -> Any:
        call = _PredictorCall(self, kwargs)
        with call.settings():
            prediction = super().forward(**call.kwargs)  # type: ignore[misc]
        call.answered(prediction)
        return prediction

    async def aforward(self, **kwargs: Any) -> Any:
        call = _PredictorCall(self, kwargs)
        with call.settings():
            prediction = await super().aforward(**call.kwargs)  # type: ignore[misc]
        call.answered(prediction)
        return prediction

    def dump_state(self, json_mode: bool = True) -> Any:
        state = super().dump_state(json_mode=json_mode)  # type: ignore[misc]
        known = facts(self.signature)
        if known.added:
            names = list(self.signature.fields)
            fields = state["signature"]["fields"]
            kept = [field for name, field in zip(names, fields, strict=True) if name != known.history]
            state["signature"] = {**state["signature"], "fields": kept}
        return state

    def load_state(self, state: Any, **options: Any) -> Any:
        # DSPy matches saved fields by their place: the added input needs its own.
        known = facts(self.signature)
        fields = state["signature"]["fields"]
        names = list(self.signature.fields)
        if known.added and len(fields) == len(names) - 1:
            info = self.signature.fields[known.history].json_schema_extra
            place = names.index(str(known.history))
            own = {"prefix": info["prefix"], "description": info["desc"]}
            fields = [*fields[:place], own, *fields[place:]]
            state = {**state, "signature": {**state["signature"], "fields": fields}}
        return super().load_state(state, **options)  # type: ignore[misc]


class SessionReAct(_Swapped):
    """The mixin for `dspy.ReActV2`, which keeps a history of its own and needs the conversation to begin it with."""

    react: Any

    def forward(self, **kwargs: Any) -> Any:
        loop = _Loop(self.react, kwargs)
        prediction = super().forward(**loop.kwargs)  # type: ignore[misc]
        loop.ended()
        return prediction

    async def aforward(self, **kwargs: Any) -> Any:
        loop = _Loop(self.react, kwargs)
        prediction = await super().aforward(**loop.kwargs)  # type: ignore[misc]
        loop.ended()
        return prediction


class _Loop:
    """One run of an agent that keeps a history of its own."""

    def __init__(self, predictor: Any, kwargs: dict[str, Any]) -> None:
        self._predictor = predictor
        self.kwargs = kwargs
        self._history: SessionHistory | None = None
        self._frame = frame = _context.frame()
        if frame is None or kwargs.get("history") is not None:
            return
        view = frame.view_for(predictor)
        if frame.nodes is not None:
            frame.nodes.loop_begins(predictor)
        self._history = (EMPTY if view is None else view).history()
        self.kwargs = {**kwargs, "history": self._history}

    def ended(self) -> None:
        if self._history is not None and self._frame is not None and self._frame.nodes is not None:
            self._frame.nodes.loop_ended(self._predictor, self._history.added(), self._history.view)


class _PredictorCall:
    """One run of a predictor: what it is handed, and who hears of its answer."""

    def __init__(self, predictor: Any, kwargs: dict[str, Any]) -> None:
        self._predictor = predictor
        self._frame = frame = _context.frame()
        self._name: str | None = None
        self.kwargs = kwargs = dict(kwargs)
        self.view = EMPTY
        self._started = time.perf_counter()
        signature = ensure_signature(kwargs.get("signature", predictor.signature))
        if frame is None:
            self._outside(signature)
            return
        if frame.rollout is not None and (lm := kwargs.get("lm") or predictor.lm or dspy.settings.lm):
            kwargs["lm"] = lm.copy(rollout_id=frame.rollout)
        known = facts(with_history(signature, frame.history_field))
        if known.exact is not predictor.signature:
            kwargs["signature"] = known.exact
        self._name = name = str(known.history)
        if kwargs.get(name) is not None:
            self.view = view_of(kwargs[name])
        elif (view := frame.view_for(predictor)) is not None:
            self.view = view
            kwargs[name] = view.history()
        elif known.added:
            kwargs[name] = EMPTY.history()

    def _outside(self, signature: Any) -> None:
        """Without a turn the predictor is the bare one, to the byte, unless it is given a session's history."""
        name = given_history(self.kwargs)
        if name is None:
            if facts(signature).added:
                self.kwargs["signature"] = facts(signature).bare
            return
        known = facts(with_history(signature, name))
        self._name = str(known.history)
        self.kwargs[self._name] = self.kwargs.pop(name)
        if known.exact is not self._predictor.signature:
            self.kwargs["signature"] = known.exact

    def settings(self) -> AbstractContextManager[Any]:
        if self._frame is None:
            if self._name is None:
                return nullcontext()
            return dspy.context(adapter=rendering(dspy.settings.adapter))  # type: ignore[no-any-return]
        node = _context.Node(self._frame.path_of(self._predictor), self.view)
        scope = replace(_context.scope(), node=node)
        return _context.entered(scope, adapter=rendering(dspy.settings.adapter))

    def answered(self, prediction: Any) -> None:
        if self._frame is not None and self._frame.listening:
            # What steers the call, such as the fresh model of a retry, is no input.
            fields = self._predictor.signature.input_fields
            steering = {self._name, *_SETTINGS} - {k for k in fields if k != self._name}
            given = {k: v for k, v in self.kwargs.items() if k not in steering}
            seconds = time.perf_counter() - self._started
            self._frame.heard(self._predictor, given, prediction, self.view, seconds)


def given_history(kwargs: Mapping[str, Any]) -> str | None:
    """The argument that is a session's history."""
    return next((name for name, value in kwargs.items() if isinstance(value, SessionHistory)), None)


def _teach_predict() -> None:
    """Let bare predictors read the histories of a session's examples.

    A program that is compiled on them before it is wrapped is called with histories for which its signature has no
    field. DSPy would leave them out, and train as if each question stood alone. Other calls are not touched.
    """
    plain, aplain = dspy.Predict.__dict__["forward"], dspy.Predict.__dict__["aforward"]
    if hasattr(plain, "__wrapped__"):
        return

    def unread(predictor: Any, kwargs: Mapping[str, Any]) -> bool:
        if isinstance(predictor, SessionPredict):
            return False
        name = given_history(kwargs)
        if name is None or "signature" in kwargs:
            return False
        return facts(predictor.signature).added or name not in predictor.signature.input_fields

    @functools.wraps(plain)
    def forward(self: Any, **kwargs: Any) -> Any:
        if not unread(self, kwargs):
            return plain(self, **kwargs)
        call = _PredictorCall(self, kwargs)
        with call.settings():
            return plain(self, **call.kwargs)

    @functools.wraps(aplain)
    async def aforward(self: Any, **kwargs: Any) -> Any:
        if not unread(self, kwargs):
            return await aplain(self, **kwargs)
        call = _PredictorCall(self, kwargs)
        with call.settings():
            return await aplain(self, **call.kwargs)

    dspy.Predict.forward, dspy.Predict.aforward = forward, aforward


_teach_predict()


def is_session(value: Any) -> bool:
    """Whether a value is a session, which looks after its own predictors."""
    return bool(getattr(type(value), "is_dspy_session", False))


def parts(root: Any) -> Iterator[tuple[str, BaseModule]]:
    """All modules of a program with their paths, frozen ones too; each once, sessions inside it not entered.

    Paths are those of `named_parameters()`: attributes, `name[0]` for lists, `name['key']` for dicts.
    """
    seen: set[int] = set()

    def visit(path: str, value: Any) -> Iterator[tuple[str, BaseModule]]:
        if not isinstance(value, (BaseModule, list, tuple, dict)) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, BaseModule):
            yield path, value
            if path and is_session(value):
                return
            for name, item in list(value.__dict__.items()):
                if name not in _NOT_PARTS:
                    yield from visit(f"{path}.{name}" if path else name, item)
        elif isinstance(value, dict):
            for key, item in list(value.items()):
                yield from visit(f"{path}[{key!r}]", item)
        else:
            for index, item in enumerate(value):
                yield from visit(f"{path}[{index}]", item)

    yield from visit("", root)


def keep_callbacks(source: Any, copied: Any) -> None:
    """Give the modules of a copy the callbacks of those they are copies of, which DSPy's copies lose."""
    for (_, ours), (_, theirs) in zip(parts(source), parts(copied), strict=False):
        if getattr(ours, "callbacks", None) and not getattr(theirs, "callbacks", None):
            theirs.callbacks = list(ours.callbacks)


def predictors(root: Any) -> list[tuple[str, Any]]:
    """The predictors of a program with their paths; a program that is one goes by `self`."""
    return [(path or "self", part) for path, part in parts(root) if isinstance(part, dspy.Predict)]


def _own_methods(part: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name in ("forward", "aforward")}


def node_annotations(root: Any) -> list[Any]:
    """The types of the fields of a program's predictors, those of sessions inside it included."""
    found = []
    for path, part in parts(root):
        if isinstance(part, dspy.Predict):
            found += [info.annotation for info in part.signature.fields.values()]
        elif path and is_session(part):
            found += node_annotations(part.module)
    return found


def _swap(part: Any, mixin: type) -> None:
    for name, value in _own_methods(part).items():
        # DSPy's tracing leaves the class's own method behind in the instance, where it would hide the mixin's.
        if getattr(value, "__func__", None) is getattr(type(part), name, None):
            del part.__dict__[name]
    if not isinstance(part, mixin):
        part.__class__ = _swapped_class(mixin, type(part))


_REACT_V2 = getattr(dspy, "ReActV2", None)


def adopt(root: Any, history_field: str) -> None:
    """Prepare every predictor of a program for conversations. Harmless if done before."""
    for _, part in parts(root):
        if isinstance(part, dspy.Predict):
            part.signature = with_history(part.signature, history_field)
            _adopt_predictor(part)
        elif _REACT_V2 is not None and isinstance(part, _REACT_V2):
            _swap(part, SessionReAct)


def _adopt_predictor(predictor: Any) -> None:
    _swap(predictor, SessionPredict)
    # A predictor class that puts its own adapter in force does so below the mixin.
    for name, value in list(predictor.__dict__.items()):
        if isinstance(value, Adapter):
            predictor.__dict__[name] = rendering(value)


class Adopter(BaseCallback):  # type: ignore[misc]
    """Prepares predictors that the program makes, or takes from elsewhere, while it runs."""

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if _context.frame() is None:
            return
        if isinstance(instance, dspy.Predict):
            if not isinstance(instance, SessionPredict):
                _adopt_predictor(instance)
        elif _REACT_V2 is not None and isinstance(instance, _REACT_V2):
            _swap(instance, SessionReAct)


ADOPTER = Adopter()

_CLOSED_TYPES = (dspy.Predict, dspy.ChainOfThought, dspy.MultiChainComparison)


def is_closed(root: Any) -> bool:
    """Whether a program can only run the predictors that it has, so that nothing need be watched."""
    return all(
        getattr(type(part), "_swapped_base", type(part)) in _CLOSED_TYPES and not _own_methods(part)
        for _, part in parts(root)
    )


def is_adopted(root: Any) -> bool:
    """Whether a closed program still has the predictor that was prepared, and not one that was put in its place."""
    return isinstance(getattr(root, "predict", root), SessionPredict)
