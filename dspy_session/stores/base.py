"""The contract of a store: what is kept of a conversation, and what each operation promises.

A store keeps *documents* (JSON objects) and knows nothing of sessions. A conversation is addressed by
`(scope, key)`: the scope is the tenant, and no operation ever crosses scopes. It consists of

- a **head**: one document, written at creation and never changed;
- a **line of turns**: documents, each with a unique string `"id"`. A turn is written once. Its `index` is
  its absolute position in the line (0 is the first) and is never renumbered, not even when older turns are
  pruned;
- **annotations**: small documents with a string `"kind"`, and optionally the `"turn"` (an id) and the
  `"path"` that they speak of. They are appended, and of several with the same `(kind, turn, path)` the
  latest counts;
- a **revision**: an opaque string which every commit replaces. Two equal revisions mean that nothing happened
  in between; nothing else may be read out of it;
- a **summary**: title, tags, cost, number of turns, times. Listing reads this alone.

What every store promises:

1. *One commit, all or nothing.* `append` compares the revision, optionally moves the position back, writes
   the turns and annotations and replaces the revision in one transaction. After a crash at any instant
   either all of it is there or nothing is.
2. *Nobody is overwritten.* A commit that was based on another revision than the current one raises
   `StaleStateError` and writes nothing.
3. *Repeating is harmless.* A commit whose turns already stand on the line, in this order, with the same
   content (and, where `keep` was given, at that position) returns the revision that it had produced instead
   of failing; so does any commit which was the latest one. A client that lost the answer may simply try
   again.
4. *The past stays.* Moving the position back (`keep=`) abandons turns without touching them: forks which were
   taken before still see them. They are removed by `prune` and `erase` alone.
5. *Annotations follow the line.* One about a turn is visible as long as the turn is on the line. One
   without a turn belongs to the position at which it was written: after moving back to an earlier position,
   and in a fork of one, the latest that was written at or before that position counts again.
6. *A fork is independent from its first moment*, though it shares what it inherited: nothing that happens to
   its source later, short of `erase(forks="erase")`, changes it.
7. *Keys and scopes are never interpreted.* They are any Unicode text (no lone surrogates) of at most
   `MAX_KEY_BYTES` bytes in UTF-8; turn ids too. Two keys are the same only if their code points are.
8. *Documents come back as they were given*: the order of members included. They hold what JSON can hold:
   `SerializationError` otherwise (NaN and infinities too), before anything is written.

A store may be used from several threads, and after `os.fork` in the child. `aio.AsyncStore` makes any of them
usable from an event loop. `dspy_session.testing.store_suite` proves an implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

    from .lease import Lease

__all__ = [
    "MAX_KEY_BYTES",
    "ConversationSummary",
    "Document",
    "Problem",
    "Store",
    "StoredConversation",
    "StoredTurn",
    "VerifyReport",
]

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

MAX_KEY_BYTES = 1000
"""The longest key, scope or turn id, in bytes of UTF-8."""


@dataclass(frozen=True)
class StoredTurn:
    """One turn of the line.

    Attributes:
        index: its absolute position in the conversation; 0 is the first turn ever.
        id: the document's `"id"`.
        data: the document.
        annotations: the annotations that speak of this turn, the latest of each `(kind, path)`, oldest first.
    """

    index: int
    id: str
    data: Document
    annotations: tuple[Document, ...] = ()


@dataclass(frozen=True)
class StoredConversation:
    """What `Store.load` read of a conversation.

    Attributes:
        key: as given.
        scope: as given.
        revision: what the next `Store.append` has to be told as `expected`.
        head: the document which was given at creation.
        turns: the loaded turns, oldest first: the end of the line, or all of it.
        total: the number of turns on the line; the next one gets this index.
        annotations: the annotations that speak of no turn, the latest of each `(kind, path)`, oldest first.
        metadata: the document which was given at creation.
        title: as last given, or "".
        tags: as last given.
        cost: the sum of the costs that its commits reported.
        first: the index of the oldest turn that is still stored; above 0 only after `Store.prune`.
    """

    key: str
    scope: str
    revision: str
    head: Document
    turns: tuple[StoredTurn, ...]
    total: int
    annotations: tuple[Document, ...]
    metadata: Document
    title: str = ""
    tags: tuple[str, ...] = ()
    cost: float = 0.0
    first: int = 0


@dataclass(frozen=True)
class ConversationSummary:
    """What a listing says of a conversation, without reading any turn.

    Attributes:
        key: its key.
        scope: its scope.
        title: "" where none was given.
        turns: the length of the line.
        created: when it was created, in UTC.
        updated: when it was last committed to, in UTC. For people and retention; no promise hangs on it.
        cost: the sum of the costs that its commits reported, in whatever currency they were.
        tags: as last given.
        metadata: the document which was given at creation.
        source: the key of the conversation that it was forked from, if that still exists.
    """

    key: str
    scope: str
    title: str
    turns: int
    created: datetime
    updated: datetime
    cost: float
    tags: tuple[str, ...]
    metadata: Document
    source: str | None = None


@dataclass(frozen=True)
class Problem:
    """Something that `Store.verify` found wrong.

    Attributes:
        scope: of the conversation, or "" where the problem belongs to none.
        key: of the conversation, or None where the problem belongs to none.
        index: of the turn, or None where the problem belongs to none.
        what: what is wrong, in one sentence.
    """

    scope: str
    key: str | None
    index: int | None
    what: str

    def __str__(self) -> str:
        place = "the store" if self.key is None else f"{self.key!r} (scope {self.scope!r})"
        return f"{place}{'' if self.index is None else f', turn {self.index}'}: {self.what}"


@dataclass(frozen=True)
class VerifyReport:
    """What `Store.verify` looked at and found.

    Attributes:
        conversations: how many were checked.
        turns: how many turns were checked (a shared one counts for each conversation).
        problems: empty if everything is as it was written.
        settings: how durable the backend is set to be, and what else an operator should know of it.
        warnings: settings under which acknowledged turns could get lost.
    """

    conversations: int
    turns: int
    problems: tuple[Problem, ...]
    settings: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. Warnings do not count."""
        return not self.problems


class Store(ABC):
    """A place where conversations are kept. The module's docstring says what all of them promise.

    Every operation may raise `StoreUnavailableError` (the server or file cannot be reached; nothing is known
    of a commit that was under way, and repeating it is safe), `ConfigurationError` (a parameter that is not
    allowed) and `FormatError` (what is stored cannot be read).
    """

    @abstractmethod
    def create(
        self,
        key: str,
        head: Mapping[str, Any],
        *,
        scope: str = "",
        turns: Sequence[Mapping[str, Any]] = (),
        annotations: Sequence[Mapping[str, Any]] = (),
        metadata: Mapping[str, Any] | None = None,
        title: str = "",
        tags: Sequence[str] = (),
        cost: float = 0.0,
    ) -> str:
        """Begin a conversation, with its first turns if there are any, and return its revision.

        All in one transaction. Raises `ConversationExistsError` if the key is taken in this scope.
        """

    @abstractmethod
    def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        """Read a conversation at one instant: everything, or its last turns alone (`last`, 0 for none).

        Raises `ConversationNotFoundError`.
        """

    @abstractmethod
    def turns(
        self, key: str, *, scope: str = "", before: int | None = None, limit: int | None = None
    ) -> tuple[StoredTurn, ...]:
        """Read the `limit` turns just before index `before` (by default the end), oldest first.

        Raises `ConversationNotFoundError`.
        """

    @abstractmethod
    def append(
        self,
        key: str,
        turns: Sequence[Mapping[str, Any]] = (),
        *,
        scope: str = "",
        expected: str,
        annotations: Sequence[Mapping[str, Any]] = (),
        keep: int | None = None,
        fence: int | None = None,
        title: str | None = None,
        tags: Sequence[str] | None = None,
        cost: float = 0.0,
    ) -> str:
        """Commit, and return the new revision.

        Args:
            key: the conversation.
            turns: the turns to append, oldest first.
            scope: the tenant.
            expected: the revision that the commit is based on.
            annotations: to append; may speak of turns of this commit and of any older one on the line.
            keep: first move the position back to this many turns (undo, edit, replace). The carried memories
                are those of that position: give `annotations` for what should differ.
            fence: the token of the lease that protects this commit.
            title: replaces the title, unless None.
            tags: replace the tags, unless None.
            cost: is added to the cost.

        Raises:
            ConversationNotFoundError: there is no such conversation in this scope.
            LeaseError: the lease of `fence` was lost to somebody else, or given back.
            StaleStateError: somebody else committed first. `.turn` is the last of `turns`.
            UnknownPathError: `keep` is no position of the line, or an annotation's turn is not on it.
            StoreError: the id of one of the turns is on the line already, with other content.
        """

    @abstractmethod
    def fork(
        self,
        key: str,
        new_key: str,
        *,
        scope: str = "",
        at: int | None = None,
        head: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> str:
        """Begin a conversation that shares the first `at` turns (by default all) of another; its revision.

        What is None is taken from the source; the cost starts at 0. The effort does not depend on the
        conversation's length. Raises `ConversationNotFoundError`, `ConversationExistsError`, and
        `UnknownPathError` if `at` is no position of the line.
        """

    @abstractmethod
    def list(
        self,
        *,
        scope: str = "",
        order: Literal["key", "updated"] = "key",
        after: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[ConversationSummary, ...]:
        """The conversations of a scope, by the code points of their keys or the latest updated first.

        Args:
            scope: the tenant.
            order: "key" or "updated".
            after: with `order="key"`: only keys behind this one, to read page by page.
            since: only what was committed to at this time or later (an aware datetime).
            limit: at most so many.
        """

    @abstractmethod
    def scopes(self) -> tuple[str, ...]:
        """Every scope that has a conversation, in order. For operators: it looks across tenants."""

    @abstractmethod
    def erase(
        self, key: str, *, scope: str = "", forks: Literal["keep", "erase"] | None = None
    ) -> tuple[str, ...]:
        """Delete a conversation with everything that no other one needs; the keys that were deleted.

        A lease on it ends, too: its token is no fence of a conversation that is begun anew under the key.

        A conversation with forks is refused (`StoreError`) unless `forks` says what becomes of them: "keep"
        leaves them what they share with it, "erase" deletes them, and theirs. Raises
        `ConversationNotFoundError`.
        """

    @abstractmethod
    def expire(self, *, before: datetime, scope: str = "") -> tuple[str, ...]:
        """Erase what was last committed to before this time, leaving forks what they share; the keys."""

    @abstractmethod
    def prune(self, *, keep: int, key: str | None = None, scope: str = "") -> int:
        """Drop all but the last `keep` turns, of one conversation or of each in the scope; how many.

        What was abandoned by moving back is deleted too. What another conversation still shows stays for it.
        Indices stay: `StoredConversation.first` tells the oldest that is left.
        """

    @abstractmethod
    def verify(self, key: str | None = None, *, scope: str | None = None) -> VerifyReport:
        """Derive again what is stored (order, digests, segments, counts) and report what is wrong and where.

        Of one conversation (`scope` "" unless given), of one scope, or of everything.
        """

    @abstractmethod
    def lease(
        self, key: str, *, scope: str = "", wait: float | None = None, ttl: float = 30.0
    ) -> AbstractContextManager[Lease]:
        """Hold the conversation for a block, so that one request at a time works on it.

        Args:
            key: the conversation, which need not exist yet.
            scope: the tenant.
            wait: how many seconds to wait for another holder: None without end, 0 not at all.
            ttl: after so many seconds without a sign of life (it is renewed in the background while it is
                held) somebody else may take over.

        Give `Lease.token` to `append(fence=...)`, which then refuses if somebody took over in between.
        Raises `LeaseError` if it cannot be had in time.
        """

    def examples(self, *, scope: str = "", **options: Any) -> Any:
        """The stored turns as examples (`dspy.Example`), see `dspy_session.conversation.stored_examples`."""
        # A store knows nothing of sessions: what it offers here for convenience lives above it.
        return import_module("dspy_session.conversation").stored_examples(self, scope=scope, **options)

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files, and stop renewing leases. May be called more than once."""

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
