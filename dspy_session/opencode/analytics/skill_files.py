"""Which skills there are, by the files that OpenCode looks for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"^name:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_HEAD = 4096
"""Bytes of a file in which its name is looked for."""


def known_skills(
    project: str | os.PathLike[str] = ".", *, home: str | os.PathLike[str] | None = None
) -> tuple[str, ...]:
    """The names of the skills that OpenCode would find, sorted.

    They are the `SKILL.md` files at any depth below `.opencode/skill` and `.opencode/skills`, `.claude/skills`
    and `.agents/skills`, in the project's folder and in those above it up to the root of its git repository,
    and in the user's home folder; and below `skill` and `skills` in `~/.config/opencode` (or
    `XDG_CONFIG_HOME`). A skill's name is that in its file's head, else that of its folder. Skills that
    `opencode.json` names elsewhere, or that come from the network, are not found.

    Args:
        project: the folder that OpenCode is started in.
        home: the user's home folder.
    """
    found = {_name(file) for folder in _places(Path(project).absolute(), home) for file in _files(folder)}
    return tuple(sorted(found))


def _places(project: Path, home: str | os.PathLike[str] | None) -> Iterator[Path]:
    user = Path.home() if home is None else Path(home)
    for folder in (*_upwards(project), user):
        yield from (folder / ".opencode" / name for name in ("skill", "skills"))
        yield from (folder / name / "skills" for name in (".claude", ".agents"))
    given = os.environ.get("XDG_CONFIG_HOME") if home is None else None
    settings = Path(given) if given else user / ".config"
    yield from (settings / "opencode" / name for name in ("skill", "skills"))


def _upwards(project: Path) -> Iterator[Path]:
    """The folder and those above it, up to the repository's root; the folder alone outside of one."""
    above = [project, *project.parents]
    root = next((place for place, folder in enumerate(above) if (folder / ".git").exists()), 0)
    yield from above[: root + 1]


def _files(folder: Path) -> Iterator[Path]:
    for here, _, files in os.walk(folder, followlinks=False):
        if "SKILL.md" in files:
            yield Path(here) / "SKILL.md"


def _name(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(_HEAD).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return file.parent.name
    head = text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
    named = _NAME.search(head)
    return named.group(1) if named else file.parent.name
