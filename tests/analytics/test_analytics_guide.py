"""The page on reports runs as it stands, and names what there is."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest
from opencode_recordings import unpack

from dspy_session.opencode.analytics.plots import CHARTS
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.commands import asking

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "opencode-analytics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("altair", reason="altair is not installed")
    monkeypatch.setenv("OPENCODE_DB", str(unpack("v1.18.33", tmp_path)))
    monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    told = []
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, str(PAGE), "exec"), names)
        told.append(out.getvalue())
    tools, skills, unused, _, cost, copies, metrics = told
    assert "edit 12 92%" in tools
    assert skills.startswith("release-notes 3 ")
    assert "'deploy'" in unused
    assert cost.startswith("step_events ")
    assert copies == "3 messages and $0.06 are copies in forks\n"
    assert metrics == "0.75 0.5 None\n"
    assert (tmp_path / "tools.html").stat().st_size > 1000


def test_the_page_names_every_report_and_chart() -> None:
    reports = [name for name, _ in inspect.getmembers(Reports, inspect.isfunction) if name[0] != "_"]
    for name in (*CHARTS, *reports):
        assert name in ("ask", "rlm") or f"`{name}`" in TEXT, name


def test_the_page_names_every_choice() -> None:
    for choices in (asking.SESSIONS, asking.SKILLS, asking.TOOLS, asking.MODELS, asking.COST):
        assert ", ".join(f"`{name}`" for name in choices) in TEXT
