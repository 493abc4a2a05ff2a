"""All stores agree with the one in memory, whatever is done to them, in whatever order."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dspy_session.errors import StaleStateError
from dspy_session.stores import ConversationSummary, Store, StoredConversation, StoredTurn, open_store

from . import servers
from .conftest import obtain

KEYS = st.sampled_from(["a", "b", "c", "é\x00"])
IDS = st.sampled_from([f"t{n}" for n in range(8)])
TURNS = st.lists(
    st.builds(lambda name, v: {"id": name, "v": v}, IDS, st.integers(0, 1)),
    max_size=3,
    unique_by=lambda turn: turn["id"],
)
NOTES = st.lists(
    st.builds(
        lambda kind, path, turn, v: {
            "kind": kind,
            **({} if path is None else {"path": path}),
            **({} if turn is None else {"turn": turn}),
            "v": v,
        },
        st.sampled_from(["m", "s"]),
        st.sampled_from([None, "p"]),
        st.none() | IDS,
        st.integers(0, 9),
    ),
    max_size=2,
)
KEEP = st.none() | st.integers(0, 7)
FUTURE = datetime(2999, 1, 1, tzinfo=timezone.utc)


class Agreement(RuleBasedStateMachine):
    """One operation after the other, on the model and on another store."""

    open_other: Callable[[], Store]

    def __init__(self) -> None:
        super().__init__()
        self.model, self.other = open_store("memory://"), type(self).open_other()
        self.scope = f"agreement-{secrets.token_hex(8)}"
        self.pairs: dict[str, list[tuple[str, str]]] = {}
        self.tokens: dict[str, tuple[int, int]] = {}

    def teardown(self) -> None:
        self.other.expire(before=FUTURE, scope=self.scope)
        self.other.close()

    def both(self, operation: Callable[[Store, int], Any]) -> Any:
        """Do the same to both; what both return, or None if both refuse for the same reason."""
        results = [attempt(operation, store, place) for place, store in enumerate((self.model, self.other))]
        [(model, model_error), (other, other_error)] = results
        assert type(model_error) is type(other_error), (model_error, other_error)
        if isinstance(model_error, StaleStateError):
            assert model_error.turn == other_error.turn
        elif model_error is not None:
            assert str(model_error) == str(other_error)
        return None if model_error is not None else (model, other)

    def learn(self, key: str, pair: tuple[str, str] | None) -> None:
        """Two revisions of a conversation belong together, or were together before."""
        if pair is None:
            return
        known = self.pairs.setdefault(key, [])
        for model, other in known:
            assert (model == pair[0]) == (other == pair[1])
        if pair not in known:
            known.append(pair)

    @rule(key=KEYS, turns=TURNS, notes=NOTES, title=st.sampled_from(["", "one"]))
    def create(self, key: str, turns: Any, notes: Any, title: str) -> None:
        head = {"of": key}
        self.learn(
            key,
            self.both(
                lambda store, _: store.create(
                    key, head, scope=self.scope, turns=turns, annotations=notes, title=title, cost=0.1
                )
            ),
        )

    @rule(
        key=KEYS, turns=TURNS, notes=NOTES, keep=KEEP, back=st.integers(0, 3), tags=st.none() | st.just(["x"])
    )
    def append(self, key: str, turns: Any, notes: Any, keep: int | None, back: int, tags: Any) -> None:
        known = self.pairs.get(key) or [("none", "none")]
        expected = known[-1 - min(back, len(known) - 1)]
        if back == 0 and key in self.pairs:
            found = self.both(lambda store, _: store.load(key, scope=self.scope, last=0).revision)
            expected = found or expected

        def commit(store: Store, place: int) -> str:
            return store.append(
                key,
                turns,
                scope=self.scope,
                expected=expected[place],
                annotations=notes,
                keep=keep,
                tags=tags,
                cost=0.2 if turns else 0.0,
            )

        first = self.both(commit)
        self.learn(key, first)
        if first is not None:
            assert self.both(commit) == first

    @rule(key=KEYS, new=KEYS, at=KEEP, head=st.none() | st.just({"new": 1}))
    def fork(self, key: str, new: str, at: int | None, head: Any) -> None:
        self.learn(new, self.both(lambda store, _: store.fork(key, new, scope=self.scope, at=at, head=head)))

    @rule(key=KEYS, forks=st.sampled_from([None, "keep", "erase"]))
    def erase(self, key: str, forks: Any) -> None:
        gone = self.both(lambda store, _: store.erase(key, scope=self.scope, forks=forks))
        assert gone is None or gone[0] == gone[1]

    @rule(key=st.none() | KEYS, keep=st.integers(0, 5))
    def prune(self, key: str | None, keep: int) -> None:
        dropped = self.both(lambda store, _: store.prune(key=key, keep=keep, scope=self.scope))
        assert dropped is None or dropped[0] == dropped[1]

    @rule(key=KEYS, last=KEEP, before=KEEP, limit=KEEP)
    def read(self, key: str, last: int | None, before: int | None, limit: int | None) -> None:
        def read(store: Store, _: int) -> Any:
            window = store.turns(key, scope=self.scope, before=before, limit=limit)
            return plain(store.load(key, scope=self.scope, last=last)), window

        found = self.both(read)
        assert found is None or found[0] == found[1]

    @rule(after=st.none() | KEYS, limit=KEEP)
    def list(self, after: str | None, limit: int | None) -> None:
        def read(store: Store, _: int) -> Any:
            rows = store.list(scope=self.scope, after=after, limit=limit)
            return [summary(row) for row in rows], self.scope in store.scopes()

        model, other = self.both(read)
        assert model == other

    @rule(key=KEYS)
    def lease(self, key: str) -> None:
        def take(store: Store, place: int) -> Any:
            revision = self.pairs.get(key, [("none", "none")])[-1][place]
            with store.lease(key, scope=self.scope, wait=0) as lease:
                return store.append(
                    key, scope=self.scope, expected=revision, fence=lease.token, annotations=[{"kind": "l"}]
                )

        self.learn(key, self.both(take))

    @invariant()
    def everything_is_the_same(self) -> None:
        model, other = self.both(lambda store, _: [summary(row) for row in store.list(scope=self.scope)])
        assert model == other
        for row in self.model.list(scope=self.scope):
            one, two = self.both(lambda store, _, key=row.key: store.load(key, scope=self.scope))
            assert plain(one) == plain(two)
            self.learn(row.key, (one.revision, two.revision))
        report = self.other.verify(scope=self.scope)
        assert report.ok, report.problems


def attempt(operation: Callable[[Store, int], Any], store: Store, place: int) -> tuple[Any, Any]:
    try:
        return operation(store, place), None
    except Exception as error:
        return None, error


def plain(found: StoredConversation) -> tuple[Any, ...]:
    """All of a conversation but its revision, which each store chooses for itself."""
    turns: tuple[StoredTurn, ...] = found.turns
    log = (found.key, found.head, turns, found.total, found.annotations, found.first)
    return (*log, found.metadata, found.title, found.tags, found.cost)


def summary(row: ConversationSummary) -> tuple[Any, ...]:
    """All of a summary but its times."""
    return (row.key, row.title, row.turns, row.cost, row.tags, row.metadata, row.source)


@contextmanager
def store_address(backend: str) -> Iterator[str]:
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder)}/chat.db?synchronous=normal"
    elif backend == "postgresql":
        yield obtain(servers.postgres).url() + "?schema=agreement&pool_size=2"
    else:
        yield obtain(servers.redis_server).url() + "?prefix=agreement"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql", "redis"])
def test_a_store_agrees_with_the_one_in_memory(backend: str) -> None:
    with store_address(backend) as address:
        machine = type("Agreement", (Agreement,), {"open_other": staticmethod(lambda: open_store(address))})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=int(os.environ.get("DSPY_SESSION_EXAMPLES", "60")),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
