"""Finding the predictors of a program, and handing each the conversation when it runs.

A predictor keeps its identity: only its class becomes a subclass of its own with a mixin in front, and its signature
gets a history input if it has none. What the mixin hands over is decided when the predictor runs, from the open turn
in DSPy's settings; without one the predictor sends what it sent before. Files and states hide the added input, so
they are the bare program's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dspy
from dspy.adapters.base import Adapter
from dspy.primitives.base_module import BaseModule
from dspy.signatures.signature import ensure_signature
from dspy.utils.callback import BaseCallback

from dspy_session import _context
from dspy_session._rendering import SessionRendering, rendering, view_of
from dspy_session._signatures import facts, with_history
from dspy_session.history import EMPTY

# Attributes that hold records of the past or whole other programs, not parts of this one.
_NOT_PARTS = frozenset(
    {"candidate_programs", "trial_logs", "demos", "traces", "train", "history", "callbacks", "lm"}
)

# What `dspy.Predict` takes beside input fields.
_SETTINGS = frozenset({"signature", "demos", "config", "lm"})


class _Swapped:
    """Base of the mixins: an object whose class was exchanged copies and pickles by its original class."""

    _swapped_base: type

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        mixin = type(self).__mro__[1]
        return (_rebuild, (mixin, type(self)._swapped_base), self.__getstate__())  # type: ignore[attr-defined]


def _rebuild(mixin: type, base: type) -> Any:
    cls = _swapped_class(mixin, base)
    return cls.__new__(cls)


_swapped_classes: dict[tuple[type, type], type] = {}


def _swapped_class(mixin: type, base: type) -> type:
    known = _swapped_classes.get((mixin, base))
    if known is None:
        # The class must go by the base's name: optimizers read its source and compare its name.
        body = {
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
            "_swapped_base": base,
        }
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

    def forward(self, **kwargs: Any) -> Any:
        return super().forward(**_with_conversation(kwargs))  # type: ignore[misc]

    async def aforward(self, **kwargs: Any) -> Any:
        return await super().aforward(**_with_conversation(kwargs))  # type: ignore[misc]


def _with_conversation(kwargs: dict[str, Any]) -> dict[str, Any]:
    frame = _context.frame()
    if frame is None or kwargs.get("history") is not None:
        return kwargs
    return {**kwargs, "history": frame.loop_view().history()}


class _PredictorCall:
    """One run of a predictor: what it is handed, and who hears of its answer."""

    def __init__(self, predictor: Any, kwargs: dict[str, Any]) -> None:
        self._predictor = predictor
        self._frame = frame = _context.frame()
        self._name: str | None = None
        self.kwargs = kwargs = dict(kwargs)
        self.view = EMPTY
        signature = ensure_signature(kwargs.get("signature", predictor.signature))
        if frame is None:
            # Outside of any turn the predictor is the bare one, to the byte.
            if facts(signature).added:
                kwargs["signature"] = facts(signature).bare
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

    def settings(self) -> AbstractContextManager[Any]:
        adapter = dspy.settings.adapter
        if self._name is None or isinstance(adapter, SessionRendering):
            return nullcontext()
        return dspy.context(adapter=rendering(adapter))  # type: ignore[no-any-return]

    def answered(self, prediction: Any) -> None:
        if self._frame is not None and self._frame.listening:
            given = {k: v for k, v in self.kwargs.items() if k != self._name and k not in _SETTINGS}
            self._frame.heard(self._predictor, given, prediction, self.view)


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


def predictors(root: Any) -> list[tuple[str, Any]]:
    """The predictors of a program with their paths; a program that is one goes by `self`."""
    return [(path or "self", part) for path, part in parts(root) if isinstance(part, dspy.Predict)]


def _swap(part: Any, mixin: type) -> None:
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
        getattr(type(part), "_swapped_base", type(part)) in _CLOSED_TYPES for _, part in parts(root)
    )


def is_adopted(root: Any) -> bool:
    """Whether a closed program still has the predictor that was prepared, and not one that was put in its place."""
    return isinstance(getattr(root, "predict", root), SessionPredict)
