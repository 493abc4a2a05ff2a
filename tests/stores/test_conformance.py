"""Every backend keeps every promise of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspy_session.stores import Store, open_store
from dspy_session.testing.store_suite import StoreSuite, check_store


class TestInMemory(StoreSuite):
    divergences = {  # noqa: RUF012
        "test_conversations_survive_closing": "a store in memory ends with its object",
        "test_handles_see_each_others_commits": "a store in memory is one object, with one handle",
    }

    def open_store(self) -> Store:
        return open_store("memory://")

    def reopen(self) -> Store:
        return self.store


class TestSQLite(StoreSuite):
    @pytest.fixture(autouse=True, scope="class")
    def _file(self, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
        request.cls.path = tmp_path_factory.mktemp("sqlite") / "chat.db"

    path: Path

    def open_store(self) -> Store:
        return open_store(f"sqlite:///{self.path}")


def test_the_suite_runs_without_pytest_classes(tmp_path: Path) -> None:
    results = check_store(lambda: open_store(f"sqlite:///{tmp_path}/a.db"))
    assert len(results) > 50
    assert not any(results.values())
