"""The notebooks say what their pages say, run without a network, and print what is kept in them."""

from __future__ import annotations

import base64
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
    for package in ("nbclient", "ipykernel", "altair"):
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


def outputs_of(name: str) -> list[dict[str, Any]]:
    return [output for cell in cells_of(name) for output in cell["outputs"]]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("first-conversation", "Nice to meet you, Max.", "1 demo in the compiled session"),
        ("one-blueprint-many-users", "12 of 12 answers are for the one who asked", "12 conversations"),
        ("optimise-from-conversations", "before: 0.0", "after: 100.0"),
        ("opencode-to-an-agent", "before: 12.5%", "after: 100.0%"),
    ],
)
def test_outputs_are_committed(name: str, before: str, after: str) -> None:
    outputs = outputs_of(name)
    assert not any(output["output_type"] == "error" for output in outputs)
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert before in printed
    assert after in printed


@pytest.mark.parametrize(
    "name", ["one-blueprint-many-users", "optimise-from-conversations", "opencode-to-an-agent"]
)
def test_charts_are_pictures_in_the_notebook_and_on_its_page(name: str) -> None:
    shown = [
        output["data"]
        for output in outputs_of(name)
        if "application/vnd.vegalite+json" in output.get("data", {})
    ]
    page = (ROOT / f"docs/tutorial/{name}.md").read_text(encoding="utf-8")
    assert len(shown) == 1
    for number, data in enumerate(shown, start=1):
        image = f"images/{name}-{number}.png"
        assert f"]({image})" in page
        picture = base64.b64decode("".join(data["image/png"]))
        assert picture.startswith(b"\x89PNG")
        assert picture == (ROOT / "docs/tutorial" / image).read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("first-conversation", ("Turn 0", "Turn 1", "What is my name?")),
        ("one-blueprint-many-users", ("Turn 1", "I am going to Oslo.", "Then pack for Oslo, Ada.")),
    ],
)
def test_turns_are_shown_as_tables(name: str, words: tuple[str, ...]) -> None:
    (html,) = [
        "".join(output["data"]["text/html"])
        for output in outputs_of(name)
        if "text/html" in output.get("data", {})
    ]
    assert [word for word in words if word not in html] == []


def test_only_moments_pictures_and_versions_may_differ() -> None:
    pytest.importorskip("nbclient", reason="nbclient runs the notebooks; it is among the test dependencies")
    import nbformat

    from docs._scripts.notebooks import compared

    def made(text: str, day: int = 1, picture: str = "x", version: str = "6.4.1", turns: int = 3) -> Any:
        spec = {"$schema": f"https://…/v{version}.json", "data": {"values": [{"turns": turns}]}}
        data = {"application/vnd.vegalite+json": spec, "image/png": picture}
        html = {"text/html": f"<b>2026-11-{day:02} 09:00:00 UTC</b>"}
        outputs = [nbformat.v4.new_output("display_data", data=shown) for shown in (data, html)]
        outputs.append(nbformat.v4.new_output("stream", name="stdout", text=text))
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="a", outputs=outputs)])

    first = made("right")
    before = nbformat.writes(first)
    assert compared(first) == compared(made("right", day=2, picture="y", version="7.0.0"))
    assert compared(first) != compared(made("wrong"))
    assert compared(first) != compared(made("right", turns=4))
    assert nbformat.writes(first) == before


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
