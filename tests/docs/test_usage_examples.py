"""The usage examples leave nothing out: their code uses every public name, member and keyword."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import dspy
import pytest

import dspy_session
from docs._scripts import pages
from dspy_session import Call, Session, SessionState, Turn, Usage, opencode, stores, windows, with_memory

DOCS = pages.ROOT / "docs"
INDEX = DOCS / "api-usage-examples.md"
# What is public is what the file for type checkers uses; that it uses everything is tested beside it.
TYPED = pages.ROOT / "tests" / "typing" / "public_api.py"
# DSPy's module protocol, which programs are not written with, and names that only the type checkers' file needs.
PROTOCOL = {name for name in dir(dspy.Module) if name not in ("batch", "load", "save")}
# Records are made by sources, and looked at through their attributes; nobody spells their classes.
RECORDS = {
    *("History", "Message", "SessionRecord", "Step", "Todo", "Turn", "Usage", "SkillUse"),
    *("Skip", "SkippedRecordWarning", "Failure", "Part", "ToolCall", "Quality", "StepFinish", "StepStart"),
}


def names_in(code: str) -> set[str]:
    """Names, attributes and keywords that a program uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(alias.name for alias in node.names)
    return found


@lru_cache
def used() -> frozenset[str]:
    """What the code of the usage examples uses."""
    texts = [page.read_text(encoding="utf-8") for page in (INDEX, *sorted((DOCS / "usage").glob("*.md")))]
    return frozenset().union(
        *(names_in(block["code"]) for text in texts for block in pages.BLOCK.finditer(text))
    )


def keywords(function: Any) -> Iterable[str]:
    """A function's parameters that are given by keyword."""
    taken = inspect.signature(function).parameters.values()
    return [
        p.name
        for p in taken
        if p.kind is p.KEYWORD_ONLY or (p.kind is not p.VAR_KEYWORD and p.default is not p.empty)
    ]


def members(owner: type) -> set[str]:
    public = {name for name in dir(owner) if not name.startswith("_")}
    return (public & names_in(TYPED.read_text(encoding="utf-8"))) - (PROTOCOL if owner is Session else set())


@pytest.mark.parametrize(
    "owner", [Session, SessionState, Turn, Call, Usage, stores.Store], ids=lambda o: o.__name__
)
def test_every_member_has_an_example(owner: type) -> None:
    assert members(owner) - used() == set()


@pytest.mark.parametrize("owner", [Session, SessionState, stores.Store], ids=lambda o: o.__name__)
def test_every_keyword_has_an_example(owner: type) -> None:
    methods = [
        getattr(owner, name) for name in (*members(owner), "__init__") if callable(getattr(owner, name))
    ]
    wanted = {name for method in methods if inspect.isfunction(method) for name in keywords(method)}
    assert wanted - used() == set()


def test_every_parameter_of_with_memory_has_an_example() -> None:
    assert set(keywords(with_memory)) - used() == set()


def test_every_public_name_has_an_example() -> None:
    assert set(dspy_session.__all__) - used() == set()


@pytest.mark.parametrize("name", ["turns", "blocks", "tokens", "summary"])
def test_every_window_and_its_parameters_have_examples(name: str) -> None:
    window = getattr(windows, name)
    assert {name, *keywords(window)} - {"module"} - used() == set()


def test_every_function_of_opencode_has_an_example() -> None:
    records = {name for name in opencode.__all__ if name.endswith("Part")} | RECORDS
    wanted = set(opencode.__all__) - records
    for name in wanted & {"export", "seed_session", "to_examples", "write_agent", "write_command", "quality"}:
        wanted |= set(keywords(getattr(opencode, name)))
    assert wanted - used() == set()


def test_the_thirteen_examples_stand_in_their_order() -> None:
    titles = re.findall(r"^## (\d+)\. ", INDEX.read_text(encoding="utf-8"), re.M)
    assert titles == [str(number) for number in range(1, 14)]
