"""Every backend keeps every promise of the contract."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from dspy_session.stores import Store, open_store
from dspy_session.stores.encryption import EncryptedStore, KeyRing
from dspy_session.stores.redaction import RedactingStore
from dspy_session.testing.store_suite import StoreSuite, check_store

from . import servers
from .conftest import obtain


class TestInMemory(StoreSuite):
    divergences: ClassVar = {
        "test_conversations_survive_closing": "a store in memory ends with its object",
        "test_handles_see_each_others_commits": "a store in memory is one object, with one handle",
    }

    def open_store(self) -> Store:
        return open_store("memory://")

    def reopen(self) -> Store:
        return self.store


class TestSQLite(StoreSuite):
    path: ClassVar[Path]

    @classmethod
    def setup_class(cls) -> None:
        cls.path = Path(tempfile.mkdtemp()) / "chat.db"

    @classmethod
    def teardown_class(cls) -> None:
        shutil.rmtree(cls.path.parent)

    def open_store(self) -> Store:
        return open_store(f"sqlite:///{self.path}")


class TestPostgreSQL(StoreSuite):
    def open_store(self) -> Store:
        return open_store(obtain(servers.postgres).url() + "?schema=conformance")


class TestRedis(StoreSuite):
    def open_store(self) -> Store:
        return open_store(obtain(servers.redis_server).url())


class TestRedisCluster(StoreSuite):
    def open_store(self) -> Store:
        return open_store(obtain(servers.redis_cluster).url())


KEYS = KeyRing({"old": b"o" * 32, "new": b"n" * 32}, "new")


class TestEncrypted(TestSQLite):
    def open_store(self) -> Store:
        return EncryptedStore(super().open_store(), KEYS)


class TestRedacting(TestSQLite):
    def open_store(self) -> Store:
        return RedactingStore(super().open_store(), lambda kind, document: document)


def test_the_suite_runs_without_pytest_classes(tmp_path: Path) -> None:
    results = check_store(lambda: open_store(f"sqlite:///{tmp_path}/a.db"))
    assert len(results) > 50
    assert not any(results.values())
