"""The recorded histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from opencode_recordings import unpack

from dspy_session.opencode import History, open_source


@pytest.fixture
def new(tmp_path: Path) -> History:
    """The recording of 1.18.33."""
    return open_source(unpack("v1.18.33", tmp_path))


@pytest.fixture
def middle(tmp_path: Path) -> History:
    """The recording of 1.3.2."""
    return open_source(unpack("v1.3.2", tmp_path))


@pytest.fixture
def tree(tmp_path: Path) -> History:
    """The recording of 1.1.65."""
    return open_source(unpack("v1.1.65", tmp_path))
