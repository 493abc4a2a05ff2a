"""That `public_api.py`, which the type checkers read, leaves nothing public out."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspy_session
from dspy_session import Call, Session, SessionState, Turn, Usage, errors, stores, windows

USED = {
    node.attr if isinstance(node, ast.Attribute) else node.arg if isinstance(node, ast.keyword) else node.id
    for node in ast.walk(ast.parse(Path(__file__).with_name("public_api.py").read_text(encoding="utf-8")))
    if isinstance(node, (ast.Attribute, ast.Name, ast.keyword))
}
# What sessions and their parts need of each other, and what DSPy's module protocol asks for.
BETWEEN_ROOMS = {
    *("attempts", "born_in", "lineage", "node_table", "path_of", "replayed_record", "training", "use_nodes"),
    *("watches", "windowed", "is_dspy_session"),
    *("absorb", "append", "extend", "find", "head", "move", "mutex", "next_index", "node", "note", "notes"),
    *("is_copy", "merge", "of", "position", "rewind", "summary_at", "set_head", "set_note", "view"),
}
PROTOCOL = {name for name in dir(dspy.Module) if name not in ("batch", "load", "save")}


def public(owner: Any) -> Iterable[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


@pytest.mark.parametrize("owner", [Session, SessionState, Turn], ids=lambda owner: owner.__name__)
def test_every_public_member_is_used(owner: type) -> None:
    missing = set(public(owner)) - USED - BETWEEN_ROOMS - (PROTOCOL if owner is Session else set())
    assert missing == set()


@pytest.mark.parametrize("owner", [Call, Usage], ids=lambda owner: owner.__name__)
def test_every_field_is_used(owner: type) -> None:
    assert set(owner.__dataclass_fields__) - USED == set()  # type: ignore[attr-defined]


def test_every_public_name_is_used() -> None:
    assert set(dspy_session.__all__) - USED == set()
    assert set(stores.__all__) - USED == set()


def test_every_error_is_used() -> None:
    assert {name for name in public(errors) if name.endswith("Error")} - USED == set()


def test_every_window_is_used() -> None:
    own = {name for name in public(windows) if getattr(windows, name).__class__.__module__ != "typing"}
    defined = {name for name in own if getattr(getattr(windows, name), "__module__", "") == windows.__name__}
    assert defined - USED - {"positive", "seen"} == set()
