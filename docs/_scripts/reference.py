"""Writes one page for each public module, which Sphinx fills from the docstrings.

A module is public if no part of its name begins with an underscore. The pages stand in `docs/reference/api`, made anew
by each build; they are in no repository.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import get_origin

import dspy_session
from docs._scripts.pages import GENERATED

# What is documented is what is imported, be it installed or beside these pages.
PACKAGE = Path(dspy_session.__file__).parent

# Members without an underscore that the library's own parts need of each other, by class: they are not promised.
BETWEEN_ROOMS = {
    "Session": {
        *("attempts", "born_in", "is_copy", "is_dspy_session", "lineage", "node_table", "path_of"),
        *("replayed_record", "training", "use_nodes", "watches", "windowed"),
    },
    "SessionState": {
        *("absorb", "append", "extend", "find", "head", "merge", "move", "mutex", "next_index", "node"),
        *("note", "notes", "position", "rewind", "set_head", "set_note", "summary_at", "view"),
    },
    "Turn": {"of"},
}


def public_modules(package: Path = PACKAGE) -> list[str]:
    """The dotted names of a package's public modules, in alphabetical order."""
    found = []
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return sorted(found)


def page(module: str) -> str:
    """A module's page: its docstring and what it defines; for a package that gathers names, where they are."""
    gathered = _gathered(module)
    options = [] if gathered else ["   :members:", "   :inherited-members:"]
    lines = [f"# {module}", "", *_rst(f".. automodule:: {module}", *options)]
    links = [f"- {link}" for home, link, _ in gathered if not is_private(home)]
    if links:
        lines += ["## Names", "", *links, ""]
    for home, _, directive in gathered:
        if is_private(home):
            lines += _rst(directive)
    return "\n".join([*lines, *_contents(module)])


def _contents(package: str) -> list[str]:
    """A list of a package's modules, with what each says of itself in its first sentence."""
    modules = [name for name in public_modules() if name.rpartition(".")[0] == package]
    if not modules:
        return []
    entries = [f"- [`{name}`]({name}.md): {_said_of(name)}" for name in modules]
    return ["## Modules", "", *entries, "", "```{toctree}", ":hidden:", "", *modules, "```", ""]


def _said_of(module: str) -> str:
    path = PACKAGE.parent.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _first_sentence(ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))))


def _first_sentence(docstring: str | None) -> str:
    """The first paragraph, which is one sentence; one that ends with a colon introduces something that is left out."""
    words = " ".join((docstring or "").strip().partition("\n\n")[0].split())
    return words.rstrip(":") + "." if words.endswith(":") else words


def _rst(*lines: str) -> list[str]:
    return ["```{eval-rst}", *lines, "```", ""]


def is_private(module: str) -> bool:
    """Whether a part of a module's name begins with an underscore."""
    return any(part.startswith("_") for part in module.split("."))


def is_between_rooms(member: object) -> bool:
    """Whether a class has this member for the library's own parts alone."""
    owner, _, name = str(getattr(member, "__qualname__", "")).rpartition(".")
    return name in BETWEEN_ROOMS.get(owner.removesuffix("Base"), ())


def _gathered(module: str) -> list[tuple[str, str, str]]:
    """The names of a package's `__all__`: where each is defined, a link to it, and a directive that documents it."""
    path = PACKAGE.parent.joinpath(*module.split("."), "__init__.py")
    if not path.exists() or "__all__" not in path.read_text(encoding="utf-8"):
        return []
    package = importlib.import_module(module)
    homes = _homes(module, path)
    found = []
    for name in sorted(package.__all__):
        value = getattr(package, name)
        if isinstance(value, ModuleType):
            link = f"{{py:mod}}`{name} <{value.__name__}>`: {_first_sentence(value.__doc__)}"
            found.append((value.__name__, link, ""))
            continue
        home = homes[name]
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        said = f": {_first_sentence(value.__doc__)}" if callable(value) and not get_origin(value) else ""
        link = f"{{py:obj}}`{name} <{home}.{name}>`{said}"
        found.append((home, link, f".. {kind}:: {module}.{name}"))
    return found


def _homes(package: str, path: Path) -> dict[str, str]:
    """Where a package's source imports each name from; the imports are there for type checkers at least."""
    homes = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module}" if node.level else str(node.module)
            homes.update({alias.name: module for alias in node.names})
    return homes


def resolve_annotations() -> None:
    """Give every module the names that only type checkers import, so that what annotations mean can be told.

    They are imported late to keep circles out of the imports; once all modules are loaded there is none to fear.
    """
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    for name, path in zip(modules, paths, strict=True):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                _import_into(importlib.import_module(name), node)


def _import_into(module: ModuleType, block: ast.If) -> None:
    for node in ast.walk(block):
        if isinstance(node, ast.ImportFrom) and node.module:
            source = importlib.import_module("." * node.level + node.module, module.__package__)
            for alias in node.names:
                setattr(module, alias.asname or alias.name, getattr(source, alias.name))


def write(folder: Path = GENERATED) -> list[Path]:
    """Write the pages of all public modules, and remove those of modules that are gone.

    Pages that would not change are left alone, so that Sphinx reads only what is new.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for module in public_modules():
        path = folder / f"{module}.md"
        text = page(module)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        written.append(path)
    for old in set(folder.glob("*.md")) - set(written):
        old.unlink()
    return written
