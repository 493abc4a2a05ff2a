"""Servers on loopback over the recordings of the real OpenCode, and over histories written for a test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

# The recordings and the writers of OpenCode's layouts.
sys.path.insert(0, str(Path(__file__).parents[1] / "opencode"))

from opencode_recordings import unpack

from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import running


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """The three recordings in one warehouse."""
    with Warehouse() as warehouse:
        for name in ("v1.18.33", "v1.3.2", "v1.1.65"):
            warehouse.sync(unpack(name, tmp_path_factory.mktemp(name)))
        yield warehouse


@pytest.fixture(scope="session")
def address(recorded: Warehouse) -> Iterator[str]:
    """A server over the recordings, which are not synced again."""
    with running(recorded, interval=0) as url:
        yield url


@pytest.fixture(scope="session")
def api(address: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client
