"""Compares the public API with that of the last release: `python -m tests.packaging.public_api [REPOSITORY]`.

The last release is the newest tag `v*` that is not on the commit itself. What was taken away or changed so that a
caller of that release would break is an error, unless the changelog since that release names it in backquotes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

PACKAGE = "dspy_session"
# A candidate comes before its release, which plain ordering by name would turn around.
ORDER = [part for suffix in (".dev", "a", "b", "rc") for part in ("-c", f"versionsort.suffix={suffix}")]


def last_release(repository: Path) -> str | None:
    """The tag of the last release before this commit."""
    tags = subprocess.run(
        ["git", *ORDER, "tag", "--list", "v*", "--sort=-version:refname", "--no-contains", "HEAD"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return tags[0] if tags else None


def complete(package: griffe.Module) -> griffe.Module:
    """The package, with the names that it resolves lazily as exports: an `__all__` that is computed names none."""
    pending = [package]
    while pending:
        module = pending.pop()
        pending += [child for child in module.modules.values() if not child.is_alias]
        if any(not isinstance(name, str) for name in module.exports or ()):
            module.exports = {
                name
                for name, member in module.members.items()
                if isinstance(member, griffe.Alias) and member.target_path.startswith(f"{PACKAGE}.")
            }
    return package


def read(repository: Path, tag: str) -> tuple[griffe.Module, griffe.Module]:
    """The package as it was at a tag, and as it is."""
    old = griffe.load_git(PACKAGE, ref=tag, repo=repository, allow_inspection=False, resolve_aliases=False)
    new = griffe.load(
        PACKAGE,
        search_paths=[repository],
        try_relative_path=False,
        allow_inspection=False,
        resolve_aliases=False,
    )
    assert isinstance(old, griffe.Module)
    assert isinstance(new, griffe.Module)
    return complete(old), complete(new)


def since(changelog: str, tag: str) -> str:
    """What the changelog says of the time since a release."""
    heading = re.search(rf"^## \[?{re.escape(tag.removeprefix('v'))}\]?(?= |$)", changelog, re.MULTILINE)
    if heading is None:
        sys.exit(f"CHANGELOG.md has no section for the release {tag}")
    return changelog[: heading.start()]


def breakages(repository: Path, tag: str) -> Iterator[str]:
    """What a caller of that release would stumble over, one sentence each; what the changelog names is left out."""
    told = set(re.findall(r"`+([^`]+)`+", since((repository / "CHANGELOG.md").read_text("utf-8"), tag)))
    words = {word for name in told for word in re.findall(r"\w+", name)}
    for breakage in griffe.find_breaking_changes(*read(repository, tag)):
        name = re.sub(r"\(.*", "", breakage.obj.path).rpartition(".")[2]
        if name not in words:
            yield re.sub(r"\x1b\[\d*m", "", breakage.explain(griffe.ExplanationStyle.ONE_LINE))


def main(repository: Path) -> int:
    """Compare; the exit status is 1 if a caller would break."""
    tag = last_release(repository)
    if tag is None:
        print("no release yet: there is no public API to compare with")
        return 0
    found = sorted(set(breakages(repository, tag)))
    if found:
        print(f"these break callers of {tag}; undo them, or name them in the changelog:", *found, sep="\n  ")
        return 1
    print(f"the public API keeps what {tag} had")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:2]).resolve()))
