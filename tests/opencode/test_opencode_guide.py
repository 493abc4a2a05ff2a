"""The how-to page runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import dspy
import pytest
from dspy.utils import DummyLM
from opencode_recordings import unpack

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "opencode.md"
LONG = "The total counts quantities now, and the unit tests of the stock module pass."


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpack("v1.18.33", tmp_path)
    monkeypatch.setenv("OPENCODE_DB", str(path))
    monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    reply = {"reasoning": "r", "actions": '[{"tool": "read"}]', "response": LONG}
    names: dict[str, object] = {}
    with dspy.context(lm=DummyLM([reply] * 500)):
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), names)
    assert (tmp_path / "coding_agent.json").exists()
    assert (tmp_path / ".opencode" / "agent" / "coding-agent.md").exists()
    assert list((tmp_path / "atif").glob("*.json"))
