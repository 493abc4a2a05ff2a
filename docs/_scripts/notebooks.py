"""Makes the notebooks from the tutorial pages, runs them, and keeps what their cells print.

    python -m docs._scripts.notebooks [--check]

Needs nbclient, ipykernel, altair and, to write, vl-convert-python. With `--check` nothing is written: it fails if a
notebook is not what its page and a fresh run say.

A chart is kept twice: as its Vega-Lite specification, which a fresh run must give again, and as a picture of that,
which the page shows, too. Moments at which turns were recorded are kept as they were, and not compared.
"""

from __future__ import annotations

import base64
import copy
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from docs._scripts import charts
from docs._scripts.pages import BLOCK, ROOT

NAMES = (
    "first-conversation",
    "one-blueprint-many-users",
    "optimise-from-conversations",
    "opencode-to-an-agent",
)
PAGES = {f"notebooks/{name}.ipynb": f"docs/tutorial/{name}.md" for name in NAMES}
# A notebook needs no link to itself, and has its charts where they are made.
ONLY_ON_THE_PAGE = ("As a notebook:", "![")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """The page as ("markdown", text) and ("code", source), in order, without what its blocks print."""
    end = 0
    for block in BLOCK.finditer(text):
        yield "markdown", text[end : block.start()]
        yield "code", block["code"]
        end = block.end()
    yield "markdown", text[end:]


def notebook(page: Path) -> nbformat.NotebookNode:
    """The notebook of a page, not run."""
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    for kind, text in pieces(page.read_text(encoding="utf-8")):
        paragraphs = [p for p in text.strip().split("\n\n") if not p.startswith(ONLY_ON_THE_PAGE)]
        source = text.strip() if kind == "code" else "\n\n".join(paragraphs)
        if source:
            new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
            made.cells.append(new(source, id=f"cell-{len(made.cells)}"))
    return made


def run(made: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run a notebook in a folder with the tests' recordings, without a network, and keep what it prints; no logs."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tests").symlink_to(ROOT / "tests")
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        client = NotebookClient(
            made,
            timeout=300,
            resources={"metadata": {"path": folder}},
            extra_arguments=[f"--IPKernelApp.exec_lines={charts.AT_START}"],
        )
        client.execute(env=environment)
    for cell in made.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # Where a stream is cut into pieces is chance.
            text = "".join(o["text"] for o in cell.outputs if o.get("name") == "stdout")
            rest = [o for o in cell.outputs if o["output_type"] != "stream"]
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] * bool(text) + rest
    made.metadata.pop("language_info", None)
    return made


def bundles(made: nbformat.NotebookNode) -> Iterator[dict[str, Any]]:
    """What the cells show, beside printed text: by MIME type."""
    for cell in made.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                yield output["data"]


def compared(made: nbformat.NotebookNode) -> str:
    """A notebook without what may differ between two runs: moments, pictures, and versions of Altair."""
    bare = copy.deepcopy(made)
    for data in bundles(bare):
        data.pop(charts.PICTURE, None)
        if charts.SPECIFICATION in data:
            data[charts.SPECIFICATION] = charts.without_version(data[charts.SPECIFICATION])
    return MOMENT.sub("(a moment)", nbformat.writes(bare))


def illustrate(made: nbformat.NotebookNode, page: Path) -> None:
    """Add a picture of each chart, to the notebook and to the images of its page."""
    shown = [data for data in bundles(made) if charts.SPECIFICATION in data]
    for number, data in enumerate(shown, start=1):
        data[charts.PICTURE] = charts.picture(data[charts.SPECIFICATION])
        image = page.parent / "images" / f"{page.stem}-{number}.png"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(base64.b64decode(data[charts.PICTURE]))


def main() -> int:
    check, stale = "--check" in sys.argv[1:], 0
    for target, page in PAGES.items():
        path = ROOT / target
        new = run(notebook(ROOT / page))
        old = nbformat.read(path, as_version=4) if path.exists() else nbformat.v4.new_notebook()
        before, after = compared(old), compared(new)
        if before == after:
            continue
        stale += 1
        if check:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), target, "now", lineterm="")
            print(*lines, sep="\n")
        else:
            illustrate(new, ROOT / page)
            path.parent.mkdir(exist_ok=True)
            path.write_text(nbformat.writes(new) + "\n", encoding="utf-8")
            print(f"renewed {target}")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main())
