"""The notebooks say what their pages say, run without a network, and print what is kept in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dspy_session
from docs._scripts.pages import ROOT


def test_a_fresh_run_gives_the_committed_notebooks() -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(
            package, reason=f"{package} runs the notebooks; it is among the test dependencies"
        )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "docs._scripts.notebooks", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def cells_of(name: str) -> list[dict[str, Any]]:
    data = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in data["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("optimise-from-conversations", "before: 0.0", "after: 100.0"),
        ("opencode-to-an-agent", "before: 12.5%", "after: 100.0%"),
    ],
)
def test_outputs_are_committed(name: str, before: str, after: str) -> None:
    outputs = [output for cell in cells_of(name) for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    printed = "".join("".join(output["text"]) for output in outputs)
    assert before in printed
    assert after in printed


def test_every_notebook_is_made_from_a_page() -> None:
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert there == set(notebooks())


def notebooks() -> dict[str, str]:
    pytest.importorskip("nbclient", reason="nbclient runs the notebooks; it is among the test dependencies")
    from docs._scripts.notebooks import PAGES

    return PAGES


@pytest.mark.parametrize("folder", [".", "notebooks"])
def test_the_opencode_notebook_runs_from_a_clone(folder: str, tmp_path: Path) -> None:
    """From the root or from its own folder, with the package installed elsewhere; it leaves nothing behind."""
    clone = tmp_path / "clone"
    for part in ("notebooks", "tests/opencode/recordings"):
        shutil.copytree(ROOT / part, clone / part)
    installed = tmp_path / "site"
    shutil.copytree(Path(dspy_session.__file__).parent, installed / "dspy_session")
    before = sorted(clone.rglob("*"))
    code = "\n".join("".join(cell["source"]) for cell in cells_of("opencode-to-an-agent"))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=clone / folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "after: 100.0%" in run.stdout
    assert sorted(clone.rglob("*")) == before
