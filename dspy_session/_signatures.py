"""What a signature says about its history, and signatures derived from it; each is computed once."""

from __future__ import annotations

import inspect
import itertools
import types
import typing
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import dspy
from dspy import History

# A class of signatures. DSPy is not typed, and `type[Any]` would not be hashable to a type checker.
Signature: TypeAlias = Any

ADDED = "dspy_session_added"
_originals: weakref.WeakKeyDictionary[Signature, tuple[Signature, str]] = weakref.WeakKeyDictionary()
_tokens = itertools.count()


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What injection and rendering need to know of a signature.

    Attributes:
        history: name of the input that takes the history, or None.
        added: whether that input was added by this library, so that the bare program does not show it.
        exact: the signature with the history annotated as exactly `dspy.History`, which adapters look for.
        bare: the signature without the history.
        inputs: names of the other inputs.
        outputs: names of the outputs.
        token: identifies the signature in caches.
    """

    history: str | None
    added: bool
    exact: Signature
    bare: Signature
    inputs: frozenset[str]
    outputs: frozenset[str]
    token: int


def is_history_type(annotation: Any, *, strict: bool = False) -> bool:
    """Whether an annotation means a `dspy.History`: itself, optional, annotated, or (unless strict) a subclass."""
    if annotation is History:
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_history_type(typing.get_args(annotation)[0], strict=strict)
    if origin in (typing.Union, types.UnionType):
        return any(is_history_type(arg, strict=strict) for arg in typing.get_args(annotation))
    return not strict and inspect.isclass(annotation) and issubclass(annotation, History)


def facts(signature: Signature) -> Facts:
    """The facts of a signature."""
    # Instructions can be set on a signature in place; what was derived from it before has the old ones.
    return _facts(signature, signature.__doc__)


@lru_cache(maxsize=1_024)
def _facts(signature: Signature, instructions: str) -> Facts:
    inputs, outputs = signature.input_fields, signature.output_fields
    name = next((n for n, info in inputs.items() if is_history_type(info.annotation)), None)
    others = frozenset(inputs) - {name}
    if name is None:
        return Facts(None, False, signature, signature, others, frozenset(outputs), next(_tokens))
    info = inputs[name]
    exact = signature if info.annotation is History else signature.with_updated_fields(name, type_=History)
    added = bool((info.json_schema_extra or {}).get(ADDED))
    return Facts(name, added, exact, signature.delete(name), others, frozenset(outputs), next(_tokens))


def with_history(signature: Signature, field_name: str) -> Signature:
    """The signature with a history input; the same one if it has it."""
    if facts(signature).history is not None:
        return signature
    return _with_history(signature, field_name, signature.__doc__)


@lru_cache(maxsize=1_024)
def _with_history(signature: Signature, field_name: str, instructions: str) -> Signature:
    info = dspy.InputField(desc="The conversation so far")
    info.json_schema_extra[ADDED] = True
    extended = signature.append(free_name(field_name, signature.fields), info, type_=History)
    _originals[extended] = signature, field_name
    return extended


def original(signature: Signature) -> tuple[Signature, str] | None:
    """The signature that `with_history` made this one of, and the wanted name; None if it is no unchanged product.

    A class that users wrote can be pickled by name; one that was derived from it cannot.
    """
    found = _originals.get(signature)
    return found if found is not None and found[0].__doc__ == signature.__doc__ else None


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """The wanted name, or one like it that is not taken."""
    names = set(taken)
    numbered = (f"session_{wanted}_{i}" for i in itertools.count(2))
    candidates = itertools.chain((wanted, f"session_{wanted}"), numbered)
    return next(candidate for candidate in candidates if candidate not in names)


@lru_cache(maxsize=4_096)
def showing(signature: Signature, names: frozenset[str]) -> Signature:
    """The signature with only the named fields, so that a past turn shows and mentions nothing else."""
    if names >= signature.fields.keys():
        return signature
    fields = {name: info for name, info in signature.fields.items() if name in names}
    return dspy.Signature(fields, signature.instructions)


def foreign(message: Mapping[str, Any], input_names: frozenset[str]) -> Signature:
    """A signature of a message's own fields, for a predictor that has none of them."""
    return _foreign(
        tuple((name, name in input_names, isinstance(value, str)) for name, value in message.items())
    )


@lru_cache(maxsize=1_024)
def _foreign(names: tuple[tuple[str, bool, bool], ...]) -> Signature:
    fields = {
        name: (str if text else Any, dspy.InputField() if is_input else dspy.OutputField())
        for name, is_input, text in names
    }
    return dspy.Signature(fields, "A turn of the conversation.")
