"""That the files `public_*.py` here, which the type checkers read, leave nothing public out."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import dspy
import pytest

import dspy_session
from docs._scripts.reference import BETWEEN_ROOMS
from dspy_session import Call, Session, SessionState, Turn, Usage, errors, opencode, stores, windows
from dspy_session.opencode import analytics
from dspy_session.stores import aio, copying, encryption, in_memory, postgres, redaction, redis, sqlite
from dspy_session.testing import store_suite
from dspy_session.testing.lm import ScriptedLM

HERE = Path(__file__).parent
NAMED: dict[type[ast.AST], str] = {
    ast.Attribute: "attr",
    ast.FunctionDef: "name",
    ast.keyword: "arg",
    ast.Name: "id",
}
USED = {
    getattr(node, NAMED[type(node)])
    for page in HERE.glob("public_*.py")
    for node in ast.walk(ast.parse(page.read_text(encoding="utf-8")))
    if type(node) in NAMED
}
STORE_MODULES = (stores, aio, copying, encryption, in_memory, postgres, redaction, redis, sqlite)
PROTOCOL = {name for name in dir(dspy.Module) if name not in ("batch", "load", "save")}


def is_a(owner: Any, base: type) -> bool:
    return isinstance(owner, type) and issubclass(owner, base)


def public(owner: Any) -> Iterable[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


def public_of_a_class(owner: Any) -> set[str]:
    """The public members of a class; an alias like `dict[str, Any]`, which Python 3.10 calls a class, has none."""
    return set(public(owner)) if isinstance(owner, type) and get_origin(owner) is None else set()


@pytest.mark.parametrize("owner", [Session, SessionState, Turn], ids=lambda owner: owner.__name__)
def test_every_public_member_is_used(owner: type) -> None:
    missing = set(public(owner)) - USED - BETWEEN_ROOMS[owner.__name__]
    missing -= PROTOCOL if owner is Session else set()
    assert missing == set()


@pytest.mark.parametrize("owner", [Call, Usage], ids=lambda owner: owner.__name__)
def test_every_field_is_used(owner: type) -> None:
    assert set(owner.__dataclass_fields__) - USED == set()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "module", [dspy_session, opencode, analytics, *STORE_MODULES], ids=lambda module: module.__name__
)
def test_every_public_name_is_used(module: ModuleType) -> None:
    assert set(module.__all__) - USED == set()


@pytest.mark.parametrize("name", opencode.__all__)
def test_every_public_member_of_opencode_is_used(name: str) -> None:
    owner = getattr(opencode, name)
    inherited = next(
        (set(dir(base)) for base in (dspy.Module, dspy.Signature, Warning) if is_a(owner, base)), set()
    )
    assert public_of_a_class(owner) - inherited - USED == set()


BETWEEN_TABLES = {"put", "settle", "name_fork_sources", "ask", "parameters"}


@pytest.mark.parametrize("name", analytics.__all__)
def test_every_public_member_of_the_analytics_is_used(name: str) -> None:
    owner = getattr(analytics, name)
    assert public_of_a_class(owner) - BETWEEN_TABLES - USED == set()


@pytest.mark.parametrize("name", [*stores.__all__, "AsyncStore"])
def test_every_public_member_of_stores_is_used(name: str) -> None:
    owner = getattr(stores, name, None) or getattr(aio, name)
    assert public_of_a_class(owner) - USED == set()


def test_the_test_kit_is_used() -> None:
    assert set(public(ScriptedLM)) - set(dir(dspy.BaseLM)) - USED == set()
    assert {"ScriptedLM", "delay", "requests", "options", "forward", "aforward", "copy"} <= USED
    assert {*store_suite.__all__, "divergences", "open_store", "reopen"} <= USED


def test_every_error_is_used() -> None:
    assert {name for name in public(errors) if name.endswith("Error")} - USED == set()


def test_every_window_is_used() -> None:
    own = {name for name in public(windows) if getattr(windows, name).__class__.__module__ != "typing"}
    defined = {name for name in own if getattr(getattr(windows, name), "__module__", "") == windows.__name__}
    assert defined - USED - {"positive", "seen"} == set()
