"""Servers for the store tests, and the word about those that could not be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import servers


def obtain(start: Callable[[], servers.Server]) -> Any:
    """A server, or a skipped test that says why there is none; a failed one where servers are required."""
    try:
        return start()
    except servers.Unavailable as error:
        if servers.REQUIRED:
            pytest.fail(f"this server is required here: {error}")
        pytest.skip(f"backend not tested: {error}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store in SQLite may be."""
    return tmp_path / "chat.db"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, reason in servers.untested().items():
        terminalreporter.write_line(f"BACKEND NOT TESTED: {name}: {reason}")
