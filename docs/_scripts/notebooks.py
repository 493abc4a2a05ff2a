"""Makes the notebooks from the tutorial pages, runs them, and keeps what their cells print.

    python -m docs._scripts.notebooks [--check]

Needs nbclient and ipykernel. With `--check` nothing is written: it fails if a notebook is not what its page
and a fresh run say.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from docs._scripts.pages import BLOCK, ROOT

NAMES = ("optimise-from-conversations", "opencode-to-an-agent")
PAGES = {f"notebooks/{name}.ipynb": f"docs/tutorial/{name}.md" for name in NAMES}
ONLY_ON_THE_PAGE = "As a notebook:"


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
    """Run a notebook in an empty folder, without a network, and keep what it prints; no logs, no times."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        client = NotebookClient(made, timeout=300, resources={"metadata": {"path": folder}})
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


def main() -> int:
    check, stale = "--check" in sys.argv[1:], 0
    for target, page in PAGES.items():
        new = nbformat.writes(run(notebook(ROOT / page))) + "\n"
        path = ROOT / target
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if new == old:
            continue
        stale += 1
        if check:
            print(
                *difflib.unified_diff(old.splitlines(), new.splitlines(), target, "now", lineterm=""),
                sep="\n",
            )
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"renewed {target}")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main())
