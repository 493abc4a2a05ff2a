"""The list of explained survivors: reading `survivors.md`, and holding it against the code.

The list has a heading for each module. Under it stand paragraphs that say why no test can, or need, tell the mutants
after them from the code, each mutant as a block of its own:

    ```diff
    @@ Class.method
    -    the line as it is
    +    the line as it was mutated
    ```
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dspy_session

PACKAGE = Path(dspy_session.__file__).parent
LIST = Path(__file__).with_name("survivors.md")
PART = re.compile(
    r"^## `(?P<module>[^`]+)`$|^```diff\n@@ (?P<function>\S+)\n(?P<diff>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Mutant:
    """A small change of a function: lines taken out and put in, without their indentation."""

    module: str
    function: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        lines = [*(f"-{line}" for line in self.removed), *(f"+{line}" for line in self.added)]
        return "\n".join(["```diff", f"@@ {self.function}", *lines, "```"])


def explained(text: str) -> Iterator[Mutant]:
    """The mutants of a list, each with the paragraphs before it."""
    module, why, end = "", "", 0
    for part in PART.finditer(text):
        between = text[end : part.start()].strip()
        end = part.end()
        if part["module"]:
            module, why = part["module"], ""
            continue
        why = between or why
        lines = part["diff"].splitlines()
        removed = tuple(line[1:].strip() for line in lines if line.startswith("-"))
        added = tuple(line[1:].strip() for line in lines if line.startswith("+"))
        yield Mutant(module, part["function"], removed, added, why)


def source_of(module: str, function: str) -> list[str] | None:
    """The lines of a function or method, without their indentation; None if there is no such function."""
    path = PACKAGE / module
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    scope: ast.AST = ast.parse(text)
    for name in function.split("."):
        found = [
            node
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        if not found:
            return None
        scope = found[0]
    assert isinstance(scope, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return [line.strip() for line in text.splitlines()[scope.lineno - 1 : scope.end_lineno]]


def outdated(mutant: Mutant) -> str | None:
    """What is wrong with an entry, if it does not speak of the code as it is, or does not say why."""
    lines = source_of(mutant.module, mutant.function)
    if lines is None:
        return f"{mutant.module} has no function {mutant.function}"
    gone = [line for line in mutant.removed if line not in lines]
    if gone:
        return f"{mutant.module}, {mutant.function}: the code has no line {gone[0]!r}"
    if mutant.removed == mutant.added or not mutant.removed:
        return f"{mutant.module}, {mutant.function}: the mutant changes nothing"
    if len(mutant.why.split()) < 5:
        return f"{mutant.module}, {mutant.function}: it is not said why the mutant may live"
    return None
