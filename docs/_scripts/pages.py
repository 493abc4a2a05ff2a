"""Runs the code of README and docs, and writes what it prints into the pages.

    python -m docs._scripts.pages

The Python blocks of a page are one program. A `text` block right after one holds what that block printed. A
`text prompt` block does too, and shows prompts, whose wording is DSPy's: it is compared only with the DSPy
that `PROMPTS_OF` names. `dspy.LM` is the offline model, so that everything runs without a network.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dspy

from docs._scripts import offline
from dspy_session.stores import Store

ROOT = Path(__file__).parents[2]
PROMPTS_OF = "3.4"
# Pages that need more than the offline model are run by tests of their own.
RUN_ELSEWHERE = {
    "docs/how-to/mlflow.md": "tests/integrations/test_mlflow_guide.py",
    "docs/how-to/opencode.md": "tests/opencode/test_opencode_guide.py",
    "docs/how-to/opencode-analytics.md": "tests/analytics/test_analytics_guide.py",
    "docs/how-to/opencode-dashboard.md": "tests/server/test_page.py",
    "docs/how-to/opencode-warehouse.md": "tests/analytics/test_warehouse_parquet.py",
    "docs/how-to/telemetry.md": "tests/integrations/test_telemetry_guide.py",
}
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```(?P<kind>text(?: prompt)?)\n(?P<out>.*?)^```\n)?", re.M | re.S
)
GENERATED = ROOT / "docs" / "reference" / "api"


def pages() -> list[Path]:
    """README and the pages under docs, but for those that are generated."""
    written = [page for page in sorted((ROOT / "docs").rglob("*.md")) if GENERATED not in page.parents]
    return [
        page for page in (ROOT / "README.md", *written) if str(page.relative_to(ROOT)) not in RUN_ELSEWHERE
    ]


def same_dspy() -> bool:
    """Whether the prompts on the pages are those of the installed DSPy."""
    return dspy.__version__.startswith(f"{PROMPTS_OF}.")


def _offline(*_: Any, **__: Any) -> Any:
    return offline.model()


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """A folder with nothing but the tests' recordings, as in a clone; the offline model for every `dspy.LM`; and DSPy's
    settings as they were afterwards."""
    before = {name: dspy.settings.get(name) for name in ("lm", "adapter", "callbacks")}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, mock.patch("dspy.LM", _offline):
        os.chdir(folder)
        Path("tests").symlink_to(ROOT / "tests")
        try:
            yield
        finally:
            os.chdir(here)
            dspy.configure(**before)


def printed(code: str, namespace: dict[str, Any], page: Path, line: int) -> str:
    """What a block prints; errors point at the page's own lines."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), namespace)
    return out.getvalue().rstrip() + "\n"


def run(page: Path, *, prompts: bool = True) -> str:
    """The page as it should be: with what its code prints now.

    Args:
        page: a Markdown file.
        prompts: whether the `text prompt` blocks are renewed, too.
    """
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__page__"}

    def renewed(block: re.Match[str]) -> str:
        output = printed(block["code"], namespace, page, text.count("\n", 0, block.start("code")))
        kind = block["kind"]
        if kind is None or (kind == "text prompt" and not prompts):
            return block[0]
        return f"```python\n{block['code']}```\n\n```{kind}\n{output}```\n"

    with surroundings():
        fresh = BLOCK.sub(renewed, text)
        for value in namespace.values():
            # A page need not show how a program ends; its files must not stay open all the same.
            if isinstance(value, Store):
                value.close()
        return fresh


def main() -> None:
    warnings.filterwarnings("ignore", message="Implementing custom LMs")
    for page in pages():
        new = run(page, prompts=same_dspy())
        if new != page.read_text(encoding="utf-8"):
            page.write_text(new, encoding="utf-8")
            print(f"renewed {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
