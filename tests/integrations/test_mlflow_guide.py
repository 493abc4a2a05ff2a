"""docs/how-to/mlflow.md says what its code prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from docs._scripts import pages


@pytest.fixture
def _as_before(tracking: Any) -> Iterator[None]:
    """The page opens a tracking store of its own."""
    uri, usage = tracking.get_tracking_uri(), dspy.settings.track_usage
    yield
    while tracking.active_run() is not None:
        tracking.end_run()
    tracking.set_tracking_uri(uri)
    dspy.configure(track_usage=usage)


@pytest.mark.usefixtures("_as_before")
def test_code_runs_and_prints_what_the_page_says() -> None:
    page = pages.ROOT / "docs/how-to/mlflow.md"
    assert pages.run(page) == page.read_text(encoding="utf-8")
