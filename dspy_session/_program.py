"""What is known of a wrapped program: its inputs, its outputs, and whether it takes a history itself."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy

from dspy_session._injection import is_session
from dspy_session._signatures import facts, free_name, is_history_type
from dspy_session.history import SessionHistory

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Program:
    """What a session knows of the program that it wraps.

    Attributes:
        inputs: names of its inputs; None if it takes any keyword.
        outputs: names of its declared outputs; None if whatever it returns is its output.
        history_field: the keyword that carries an explicit history.
        passes_history: whether the program itself takes that keyword.
        renamed: the name that was asked for, if the program uses it for something else.
        defaults: inputs that DSPy fills in when they are not given.
        annotations: types of inputs and outputs, as far as declared.
    """

    inputs: frozenset[str] | None
    outputs: tuple[str, ...] | None
    history_field: str
    passes_history: bool
    renamed: str | None
    defaults: Mapping[str, Any]
    annotations: Mapping[str, Any]

    def known_inputs(self) -> frozenset[str]:
        """The inputs, as far as they are known by name."""
        return self.inputs or frozenset()

    def recorded(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of what a call was given, what belongs into its turn."""
        recorded = {k: v for k, v in given.items() if self.inputs is None or k in self.inputs}
        return {**recorded, **{k: v for k, v in self.defaults.items() if k not in recorded}}

    def split(self, result: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a call returned, as declared outputs and the rest."""
        fields = _fields(result)
        if fields is None:
            return {"output": result}, {}
        fields = {name: _own_part(value) for name, value in fields.items()}
        declared = self.outputs
        if declared is None or not any(name in fields for name in declared):
            return fields, {}
        return (
            {name: fields[name] for name in declared if name in fields},
            {name: value for name, value in fields.items() if name not in declared},
        )


def _fields(result: Any) -> dict[str, Any] | None:
    if isinstance(result, dspy.Example):
        return dict(result.items())
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    for method in ("model_dump", "dict"):
        if not isinstance(result, type) and callable(getattr(result, method, None)):
            dumped = getattr(result, method)()
            if isinstance(dumped, Mapping):
                return dict(dumped)
    return None


def _own_part(value: Any) -> Any:
    """Of a history that a program was given and returns longer, only what it added belongs to the turn."""
    return dspy.History(messages=value.added()) if isinstance(value, SessionHistory) else value


def signature_of(module: Any) -> Any:
    """The signature that declares what a program takes and gives, or None."""
    if isinstance(module, dspy.ChainOfThought):
        return module.predict.signature
    declared = getattr(module, "signature", None)
    if isinstance(declared, type) and issubclass(declared, dspy.Signature):
        return declared
    if isinstance(module, (dspy.BestOfN, dspy.Refine)) or is_session(module):
        return signature_of(module.module)
    return None


def bound(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Positional arguments by name, where the program takes them; None where it does not."""
    if not args:
        return kwargs
    parameters = list(_parameters(module).values())
    taking = [p.name for p in parameters if p.kind in _POSITIONAL]
    if len(args) > len(taking) or any(name in kwargs for name in taking[: len(args)]):
        return None
    return {**dict(zip(taking, args, strict=False)), **kwargs}


def _forward_of(owner: Any) -> str:
    """The name of the method that says what a program takes: some programs are async only."""
    return "forward" if hasattr(owner, "forward") or not hasattr(owner, "aforward") else "aforward"


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    # object.__getattribute__: DSPy warns of reading `forward`, and the program is not being run.
    try:
        method = object.__getattribute__(module, _forward_of(type(module)))
        return inspect.signature(method).parameters
    except (AttributeError, TypeError, ValueError):
        return {}


def _hints(module: Any) -> dict[str, Any]:
    forward = getattr(type(module), _forward_of(type(module)), None)
    try:
        return typing.get_type_hints(forward, include_extras=True)
    except Exception:
        return dict(getattr(forward, "__annotations__", {}))


def _means_history(annotation: Any, *, strict: bool) -> bool:
    if isinstance(annotation, str):
        # An annotation that cannot be resolved here, such as a name imported for type checkers only.
        bare = annotation.replace(" ", "").removeprefix("Optional[").removesuffix("]")
        return bare.removesuffix("|None").removeprefix("None|").rsplit(".", 1)[-1] == "History"
    return is_history_type(annotation, strict=strict)


def _history_parameter(module: Any, wanted: str, *, strict: bool) -> tuple[str | None, bool]:
    """The parameter of `forward` that takes a history, and whether the wanted name is taken by something else."""
    hints = _hints(module)
    named = {name: p for name, p in _parameters(module).items() if p.kind in _NAMED}
    for name in named:
        if name in hints and _means_history(hints[name], strict=strict):
            return name, False
    if wanted in named:
        free = hints.get(wanted, Any) is Any and named[wanted].default in (inspect.Parameter.empty, None)
        return (wanted, False) if free else (None, True)
    return None, False


def study(module: Any, history_field: str, *, strict: bool = False) -> Program:
    """Find out what a program takes and gives.

    Args:
        module: the program.
        history_field: the wanted name of the keyword that carries a history.
        strict: whether only `dspy.History` itself counts as an annotation of a history.
    """
    signature = signature_of(module)
    parameters = _parameters(module)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    parameter, taken = _history_parameter(module, history_field, strict=strict)
    own: set[str] | None = None if open_ended else {n for n, p in parameters.items() if p.kind in _NAMED}
    outputs: tuple[str, ...] | None = None
    declared: str | None = None
    annotations = {**_hints(module)}
    defaults: dict[str, Any] = {}
    if signature is not None:
        known = facts(signature)
        outputs = tuple(signature.output_fields)
        annotations = {name: info.annotation for name, info in signature.fields.items()}
        if open_ended:
            own = {*signature.input_fields} - {known.history}
        if parameter is None and known.history is not None and not known.added:
            declared = known.history
        taken = taken or history_field in known.inputs
        if isinstance(module, (dspy.Predict, dspy.ChainOfThought)):
            defaults = _defaults(signature, known.history)
    name = parameter or declared or history_field
    if taken and parameter is None and declared is None:
        name = free_name(history_field, {*(own or ()), *annotations})
    return Program(
        inputs=None if own is None else frozenset(own) - {name},
        outputs=outputs,
        history_field=name,
        passes_history=parameter is not None,
        renamed=history_field if name != history_field else None,
        defaults=defaults,
        annotations=annotations,
    )


def _defaults(signature: Any, history: str | None) -> dict[str, Any]:
    return {
        name: info.default
        for name, info in signature.input_fields.items()
        if not info.is_required() and info.default_factory is None and name != history
    }
