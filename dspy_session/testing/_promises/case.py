"""What every test of the suite has: a store, a scope of its own, and short ways to say what is done."""

from __future__ import annotations

import functools
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, ClassVar

from ...stores.base import Document, Store, StoredConversation, StoredTurn

FUTURE = datetime(2999, 1, 1, tzinfo=timezone.utc)


@contextmanager
def refused(kind: type[BaseException]) -> Iterator[list[Any]]:
    """Expect an error in the block; the list then holds it."""
    caught: list[Any] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def turn(name: str, **more: Any) -> Document:
    """A turn's document."""
    return {"id": name, **more}


def names(turns: Sequence[StoredTurn]) -> list[str]:
    """The ids of turns."""
    return [stored.id for stored in turns]


def _must_fail(test: Callable[[Any], None], reason: str) -> Callable[[Any], None]:
    @functools.wraps(test)
    def run(self: Any) -> None:
        try:
            test(self)
        except Exception:
            if "pytest" in sys.modules:
                sys.modules["pytest"].xfail(reason)
            return
        raise AssertionError(f"passes now, so remove its divergence: {reason}")

    return run


class StoreCase:
    """A store, opened for each test, and shorthands."""

    divergences: ClassVar[Mapping[str, str]] = {}

    store: Store
    scope: str

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, reason in cls.divergences.items():
            setattr(cls, name, _must_fail(getattr(cls, name), reason))

    def open_store(self) -> Store:
        """A handle on the store under test. Every call: another handle on the same data."""
        raise NotImplementedError("a suite says how its store is opened")

    def reopen(self) -> Store:
        """Another handle, after `self.store` was closed."""
        return self.open_store()

    def setup_method(self, method: object = None) -> None:
        """Open the store, and choose a scope that nobody has used."""
        self.store = self.open_store()
        self.scope = f"suite-{secrets.token_hex(8)}"

    def teardown_method(self, method: object = None) -> None:
        """Leave nothing behind."""
        store = getattr(self, "store", None)
        if store is not None:
            for scope in (self.scope, self.scope + "-other"):
                store.expire(before=FUTURE, scope=scope)
            store.close()

    def begin(self, key: str = "k", turns: int = 0, **more: Any) -> str:
        """A conversation with turns t0, t1, …, each of its own commit; its revision."""
        revision = self.store.create(key, {"head": key}, scope=self.scope, **more)
        for number in range(turns):
            revision = self.append(key, [f"t{number}"], revision)
        return revision

    def append(self, key: str, ids: Sequence[str], expected: str, **more: Any) -> str:
        """Append turns that have nothing but ids."""
        return self.store.append(key, [turn(i) for i in ids], scope=self.scope, expected=expected, **more)

    def load(self, key: str = "k", **more: Any) -> StoredConversation:
        """Load from the test's scope."""
        return self.store.load(key, scope=self.scope, **more)

    def ids(self, key: str = "k") -> list[str]:
        """The ids of all turns on the line."""
        return names(self.load(key).turns)

    def together(self, work: Callable[[], None], count: int) -> None:
        """Run something in several threads at once; their first error, if any."""
        errors: list[BaseException] = []
        barrier = threading.Barrier(count)

        def run() -> None:
            try:
                barrier.wait(timeout=60)
                work()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
