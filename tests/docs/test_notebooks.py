"""The notebooks say what their pages say, run without a network, and print what is kept in them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


def test_outputs_are_committed() -> None:
    data = json.loads((ROOT / "notebooks/optimise-from-conversations.ipynb").read_text(encoding="utf-8"))
    printed = "".join("".join(o["text"]) for cell in data["cells"] for o in cell.get("outputs", ()))
    assert "before: 0.0" in printed
    assert "after: 100.0" in printed
    assert not any(o["output_type"] == "error" for cell in data["cells"] for o in cell.get("outputs", ()))
