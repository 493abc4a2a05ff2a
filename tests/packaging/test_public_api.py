"""The comparison with the last release, in small repositories of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("griffe", reason="griffe compares the public API; it is among the test dependencies")

ROOT = Path(__file__).parents[2]
LAZY = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from dspy_session.session import Session as Session
    from dspy_session.windows import turns as turns
_HOMES = {"Session": "session", "turns": "windows"}
__all__ = [*_HOMES]
"""
FILES = {
    "dspy_session/__init__.py": LAZY,
    "dspy_session/_base.py": "class Base:\n    def fork(self): ...\n    def undo(self, steps=1): ...\n",
    "dspy_session/session.py": "from dspy_session._base import Base\n\nclass Session(Base):\n    turns = 1\n",
    "dspy_session/windows.py": "def turns(n): ...\n\ndef blocks(high, low): ...\n\ndef _seen(x): ...\n",
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [1.0.0rc2] - 2026-01-02\n\n## [1.0.0rc1] - 2026-01-01\n",
}


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet")
        for path, text in FILES.items():
            self.write(path, text)
        self.commit()

    def git(self, *command: str) -> None:
        who = ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *command], cwd=self.folder, check=True, capture_output=True)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "work")

    def compare(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.packaging.public_api", str(self.folder)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def released(repository: Repository) -> Repository:
    repository.git("tag", "v1.0.0rc1")
    repository.commit()
    return repository


def test_before_the_first_release_there_is_nothing_to_compare(repository: Repository) -> None:
    done = repository.compare()
    assert (done.returncode, done.stdout) == (0, "no release yet: there is no public API to compare with\n")


def test_the_first_release_itself_has_none_before_it(repository: Repository) -> None:
    repository.git("tag", "v1.0.0rc1")
    assert repository.compare().stdout.startswith("no release yet")


def test_more_is_no_break_nor_is_less_of_what_is_private(released: Repository) -> None:
    released.write(
        "dspy_session/windows.py", "def turns(n, m=0): ...\ndef blocks(high, low): ...\ndef new(): ...\n"
    )
    done = released.compare()
    assert (done.returncode, done.stdout) == (0, "the public API keeps what v1.0.0rc1 had\n")


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("windows.py", "def blocks(high, low): ...", "", "blocks"),
        ("windows.py", "def turns(n)", "def turns(n, m)", "turns(m)"),
        ("windows.py", "def turns(n)", "def turns(number)", "turns(n"),
        ("_base.py", "    def fork(self): ...\n", "", "fork"),
        ("_base.py", "steps=1", "steps=2", "undo(steps)"),
        ("__init__.py", "    from dspy_session.windows import turns as turns\n", "", "turns"),
    ],
    ids=["a function", "a required parameter", "a name", "an inherited method", "a default", "a lazy name"],
)
def test_a_break_is_named(released: Repository, path: str, old: str, new: str, said: str) -> None:
    text = FILES[f"dspy_session/{path}"]
    assert old in text
    released.write(f"dspy_session/{path}", text.replace(old, new))
    done = released.compare()
    assert done.returncode == 1
    assert "these break callers of v1.0.0rc1" in done.stdout
    assert said in done.stdout


def test_what_the_changelog_names_since_then_may_break(released: Repository) -> None:
    released.write("dspy_session/windows.py", "def turns(n): ...\n")
    log = FILES["CHANGELOG.md"]
    released.write("CHANGELOG.md", log + "\n- `windows.blocks`\n")
    assert released.compare().returncode == 1
    released.write(
        "CHANGELOG.md", log.replace("[Unreleased]\n", "[Unreleased]\n\n- No more `windows.blocks`.\n")
    )
    assert released.compare().returncode == 0


def test_a_release_is_compared_with_the_one_before_it(released: Repository) -> None:
    released.write("dspy_session/windows.py", "def turns(n): ...\n")
    released.commit()
    released.git("tag", "v1.0.0rc2")
    assert "callers of v1.0.0rc1" in released.compare().stdout


def test_a_release_is_newer_than_its_candidates(released: Repository) -> None:
    for tag in ("v1.0.0rc2", "v1.0.0"):
        released.git("tag", tag)
        released.commit()
    done = released.compare()
    assert done.returncode == 1
    assert done.stderr == "CHANGELOG.md has no section for the release v1.0.0\n"
