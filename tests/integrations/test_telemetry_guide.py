"""docs/how-to/telemetry.md says what its code prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from docs._scripts import pages

PAGE = "docs/how-to/telemetry.md"


def test_code_runs_and_prints_what_the_page_says() -> None:
    """In a process of its own: OpenTelemetry's providers are set once, and counts are of a process."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    code = f"from docs._scripts.pages import ROOT, run; print(run(ROOT / {PAGE!r}), end='')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=pages.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (pages.ROOT / PAGE).read_text(encoding="utf-8")
