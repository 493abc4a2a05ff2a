"""The page on the dashboard runs as it stands, and names what there is."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from opencode_recordings import unpack

from dspy_session.server._parameters import Parameter
from dspy_session.server._routes import routes

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "opencode-dashboard.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpack("v1.18.33", tmp_path)
    monkeypatch.setenv("OPENCODE_DB", str(path))
    monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed = []
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, str(PAGE), "exec"), names)
        printed.append(out.getvalue())
    first, dearest, asked, compatible, refused = printed
    assert re.fullmatch(r"the dashboard is at http://127\.0\.0\.1:\d+/\n", first)
    assert dearest.splitlines()[0] == "Long refactoring $0.60"
    assert re.match(r"\d+ calls, \d+ tokens\n404 no session 'nobody'", asked)
    assert compatible.startswith("200 ")
    assert "give a token" in refused


def test_the_page_names_every_route() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for route in routes():
        path = route.path.replace("{session_id}", "<id>")
        told = [f"`{path}`", f"`{path.removeprefix('/api/session/<id>/')}`"]
        assert any(each in text for each in told) or path.startswith("/api/reports/"), path


@pytest.mark.parametrize("path", ["/api/sessions", "/api/session/<id>/turns", "/api/reports/<name>"])
def test_the_page_names_every_parameter(path: str) -> None:
    row = next(
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{path}`")
    )
    of_route = path.replace("<id>", "{session_id}").replace("<name>", "overview")
    parameters: tuple[Parameter, ...] = next(r for r in routes() if r.path == of_route).parameters
    assert {each.name for each in parameters} <= set(re.findall(r"`(\w+)`", row))
