"""Uses the whole public API of stores and of the test kit. Type checkers read it; nothing runs it.

A test beside it checks that no public name is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, Literal

import dspy

from dspy_session import Session, StandIn, Turn, telemetry
from dspy_session.conversation import Conversation
from dspy_session.stores import (
    MAX_KEY_BYTES,
    ConversationSummary,
    Document,
    Lease,
    Problem,
    Store,
    StoredConversation,
    StoredTurn,
    VerifyReport,
    open_store,
)
from dspy_session.stores.aio import AsyncStore
from dspy_session.stores.copying import copy_conversation, copy_store, export_conversation
from dspy_session.stores.encryption import EncryptedStore, KeyRing
from dspy_session.stores.in_memory import InMemoryStore
from dspy_session.stores.postgres import PostgresStore
from dspy_session.stores.redaction import Redact, RedactingStore
from dspy_session.stores.redis import RedisStore
from dspy_session.stores.sqlite import SQLiteStore
from dspy_session.testing.lm import ScriptedLM
from dspy_session.testing.store_suite import StoreSuite, check_store

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


def opened() -> list[Store]:
    keys = KeyRing({"2026": KeyRing.new_secret()}, current="2026")
    redact: Redact = redacted
    return [
        open_store("memory://"),
        InMemoryStore(),
        SQLiteStore(Path("chat.db"), synchronous="normal", timeout=5.0),
        PostgresStore("postgresql://host/db", schema="chat", pool_size=4, timeout=5.0),
        RedisStore("redis://host", prefix="chat", timeout=5.0),
        EncryptedStore(RedactingStore(InMemoryStore(), redact), keys),
    ]


def redacted(
    kind: Literal["turn", "annotation", "head", "metadata", "summary"], document: Document
) -> Document:
    return {**document, "answer": ""} if kind == "turn" else document


def writing(store: Store) -> None:
    revision: str = store.create(
        "k", {}, scope="s", turns=[{"id": "1"}], annotations=[], metadata={}, title="T", tags=["a"], cost=0.5
    )
    with store.lease("k", scope="s", wait=1.0, ttl=10.0) as lease:
        held: Lease = lease
        revision = store.append(
            "k",
            [{"id": "2"}],
            scope="s",
            expected=revision,
            annotations=[{"kind": "note", "turn": "2"}],
            keep=1,
            fence=held.token,
            title="U",
            tags=[],
            cost=0.1,
        )
        print(held.scope, held.key, held.ttl, MAX_KEY_BYTES)
    revision = store.fork("k", "f", scope="s", at=1, head={}, metadata={}, title="F", tags=["b"])
    gone: tuple[str, ...] = store.erase("k", scope="s", forks="keep") + store.expire(
        before=LONG_AGO, scope="s"
    )
    dropped: int = store.prune(keep=10, key="f", scope="s")
    print(gone, dropped)
    store.close()


def reading(store: Store) -> None:
    found: StoredConversation = store.load("k", scope="s", last=10)
    texts: tuple[str, ...] = (found.key, found.scope, found.revision, found.title, *found.tags)
    numbers: tuple[int, int, float] = (found.total, found.first, found.cost)
    documents: tuple[Document, ...] = (found.head, found.metadata, *found.annotations)
    turns: tuple[StoredTurn, ...] = found.turns + store.turns("k", scope="s", before=5, limit=2)
    for turn in turns:
        print(turn.index, turn.id, turn.data, turn.annotations)
    listed: tuple[ConversationSummary, ...] = store.list(
        scope="s", order="updated", after=None, since=LONG_AGO, limit=5
    )
    for entry in listed:
        print(entry.key, entry.scope, entry.title, entry.turns, entry.created, entry.updated, entry.cost)
        print(entry.tags, entry.metadata, entry.source)
    report: VerifyReport = store.verify("k", scope="s")
    problems: tuple[Problem, ...] = report.problems
    for problem in problems:
        print(problem.scope, problem.key, problem.index, problem.what)
    print(texts, numbers, documents, report.ok, report.conversations, report.turns, report.settings)
    print(report.warnings, store.scopes(), store.examples(scope="s"))


async def from_an_event_loop(store: Store) -> None:
    async with AsyncStore(store, limiter=None) as slow:
        revision: str = await slow.create("k", {}, scope="s")
        revision = await slow.append("k", [{"id": "1"}], expected=revision)
        found: StoredConversation = await slow.load("k", scope="s", last=0)
        turns: tuple[StoredTurn, ...] = await slow.turns("k", before=3, limit=1)
        async with slow.lease("k", wait=None, ttl=30.0) as lease:
            print(lease.token)
        gone: tuple[str, ...] = await slow.erase("k") + await slow.expire(before=LONG_AGO)
        report: VerifyReport = await slow.verify()
        print(await slow.fork("k", "f"), await slow.list(), await slow.scopes(), await slow.prune(keep=1))
        print(found, turns, gone, report, slow.store)
        await slow.close()


def copying(source: Store, target: Store) -> None:
    turns: int = copy_conversation(source, target, "k", scope="s", new_key="n")
    conversations: int = copy_store(source, target, scope=None)
    document: Document = export_conversation(source, "k", scope="s")
    print(turns, conversations, document)


def sealed(keys: KeyRing) -> None:
    print(keys.seal, keys.open)


def in_a_request(session: Session, store: Store) -> None:
    talk: Conversation = session.conversation(
        "k", store=store, scope="s", lease="fail", ttl=10.0, on_conflict="fork", last=20, types=[StandIn]
    )
    with talk:
        session(question="What?")
        older: list[Turn] = talk.load_older(limit=10)
        print(older, talk.first)
    counted: Mapping[str, int] = telemetry.counts()
    print(counted, telemetry.CONVERSATION_ID)


async def in_an_async_request(session: Session, store: AsyncStore) -> None:
    async with session.conversation("k", store=store) as talk:
        print(await session.acall(question="What?"), talk.state.turns)


def testing() -> None:
    lm = ScriptedLM(["One.", {"answer": "Two."}], delay=0.0, model="scripted")
    other: ScriptedLM = lm.copy(temperature=1.0)
    chats: list[list[dict[str, Any]]] = lm.requests
    options: list[dict[str, Any]] = other.options
    results: dict[str, str | None] = check_store(InMemoryStore, {"test_verify": "why"})
    print(chats, options, results, lm.forward, lm.aforward, dspy.__name__)


class TestMine(StoreSuite):
    """How a store's own tests use the suite."""

    divergences: ClassVar[Mapping[str, str]] = {}

    def open_store(self) -> Store:
        return InMemoryStore()

    def reopen(self) -> Store:
        return self.open_store()
