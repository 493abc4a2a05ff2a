"""Stores of every kind, empty, and wrappers that watch them or break them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dspy_session.stores import Store, open_store
from tests.stores.backends import address
from tests.stores.conftest import pytest_terminal_summary as pytest_terminal_summary

BACKENDS = ("memory", "sqlite", "postgresql", "redis")


@pytest.fixture(params=BACKENDS)
def store(request: Any) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        with open_store("memory://") as opened:
            yield opened
        return
    with address(request.param) as url, open_store(url) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[Store]:
    """An empty store in memory, where the backend does not matter."""
    with open_store("memory://") as opened:
        yield opened
