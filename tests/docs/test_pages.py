"""README and docs: every block of code runs, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import dspy
import pytest

from docs._scripts import pages

PAGES = pages.pages()
NAMES = [str(page.relative_to(pages.ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(?:#([\w-]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_runs_and_prints_what_the_page_says(page: Path) -> None:
    fresh = pages.run(page, prompts=pages.same_dspy())
    assert fresh == page.read_text(encoding="utf-8"), (
        "`make docs` writes into the pages what the code prints now"
    )


@pytest.mark.skipif(
    not pages.same_dspy(),
    reason=f"the prompts on the pages are those of DSPy {pages.PROMPTS_OF}, and this is {dspy.__version__}",
)
def test_prompts_are_those_of_this_dspy() -> None:
    shown = [name for name, page in zip(NAMES, PAGES, strict=True) if "```text prompt" in page.read_text()]
    assert shown == ["docs/explanation/what-reaches-the-model.md"]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_python_block_is_one_that_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*```(?:py|python)", text, re.M)) == len(pages.BLOCK.findall(text))


def test_pages_that_run_elsewhere_do() -> None:
    for page, test in pages.RUN_ELSEWHERE.items():
        assert Path(page).name in (pages.ROOT / test).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        linked = (page.parent / target) if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
