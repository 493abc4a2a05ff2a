"""The reference has one page for each public module, and every page of the documentation is in the site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs._scripts import pages, reference

DOCS = pages.ROOT / "docs"


def test_every_public_module_has_a_page_and_no_other_has(tmp_path: Path) -> None:
    written = {path.stem for path in reference.write(tmp_path)}
    files = {path.relative_to(reference.PACKAGE.parent) for path in reference.PACKAGE.rglob("*.py")}
    public = {path for path in files if not re.search(r"(^|/)_(?!_init__)", path.as_posix())}
    assert written == {re.sub(r"(/__init__)?\.py$", "", p.as_posix()).replace("/", ".") for p in public}
    assert {path.stem for path in tmp_path.iterdir()} == written


def test_pages_of_modules_that_are_gone_go(tmp_path: Path) -> None:
    old = tmp_path / "dspy_session.gone.md"
    old.write_text("# dspy_session.gone\n", encoding="utf-8")
    reference.write(tmp_path)
    assert not old.exists()


def test_every_module_is_reached_from_the_package(tmp_path: Path) -> None:
    reference.write(tmp_path)
    reached, waiting = set(), ["dspy_session"]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        page = (tmp_path / f"{module}.md").read_text(encoding="utf-8")
        waiting += re.findall(r"^dspy_session\.[\w.]+$", page, re.M)
    assert reached == {path.stem for path in tmp_path.iterdir()}


def test_names_that_a_package_gathers_are_linked_with_what_they_are(tmp_path: Path) -> None:
    page = reference.page("dspy_session")
    assert "{py:obj}`sessionify <dspy_session.session.sessionify>`: Wrap a program in a session" in page
    page = reference.page("dspy_session.stores")
    assert ".. autofunction:: dspy_session.stores.open_store" in page, (
        "its home is private: it is documented here"
    )


def test_every_page_is_in_the_map() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#:]+\.md)\)", index)}
    theirs = {page for page in DOCS.rglob("*.md") if pages.GENERATED not in page.parents}
    assert {str(page.relative_to(DOCS)) for page in theirs - linked} == {"index.md"}


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: `make reference` builds the site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-q", str(DOCS), str(tmp_path / "site")]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site/reference/api/dspy_session.session.html").read_text(encoding="utf-8")
    assert 'id="dspy_session.session.Session.add_turn"' in page
