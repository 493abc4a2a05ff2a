"""A store in Redis, over redis-py (extra `redis`), with a server or a cluster.

Every operation on a conversation is a script that runs in the server, a commit one EVALSHA and so one round
trip. Conversations that share turns, a source and its forks, form a *family* whose keys have the same hash
tag, so a cluster keeps them on one node and the scripts see all they need. The tag of a family is that of
the conversation it began with, a digest of its scope and key; a fork's own tag leads there, which is looked
up once and remembered.

Redis keeps what it is set to keep: `verify` reports the setting, and warns where acknowledged commits could
get lost. For stored conversations: `appendonly yes`, `appendfsync always` (or `everysec`, to risk a
second), and `maxmemory-policy noeviction`. The server has to be Redis 5 or newer.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from ..errors import ConversationNotFoundError, FormatError
from . import _documents as documents
from ._documents import Commit
from ._redis_rows import as_text, check_rows, commit_rows, read_window
from ._redis_server import RedisServer
from ._rows import Beginning, Fork, Listing, RawConversation, RawSummary, RawTurn, RowStore
from .base import Problem, VerifyReport

__all__ = ["RedisStore"]

_PAGE = 500
_SUMMARY = ("title", "total", "created", "updated", "cost", "tags", "metadata", "source", "key")


class RedisStore(RowStore):
    """Keeps conversations in Redis.

    Args:
        url: `redis://:password@host:6379/0`, `rediss://…` or `unix://…`, with the options of redis-py. The
            arguments below can be given as its options too. That it is a cluster is found out.
        prefix: what every key of this store begins with.
        timeout: how many seconds to wait for the server before `StoreUnavailableError`.
    """

    def __init__(self, url: str, *, prefix: str = "dspy-session", timeout: float = 10.0) -> None:
        super().__init__()
        self._server = RedisServer(url, prefix, timeout)
        self.prefix = self._server.prefix
        self._families: dict[str, str] = {}

    def close(self) -> None:
        super().close()
        self._server.close()

    # -- places -------------------------------------------------------------------------------------------

    def _tag(self, scope: str, key: str) -> str:
        raw = scope.encode("utf-8")
        return blake2b(b"%d " % len(raw) + raw + key.encode("utf-8"), digest_size=16).hexdigest()

    def _ask(self, name: str, scope: str, key: str, *values: Any, again: bool = False) -> list[Any]:
        """Run a script where the conversation is; `ConversationNotFoundError` if it answers 'missing'."""
        tag = self._tag(scope, key)
        family = self._families.get(tag, tag)
        for _ in range(4):
            answer = self._server.attempt(name, family, tag, scope, key, *values, again=again)
            if answer[0] == b"moved":
                family = as_text(answer[1]).split()[0]
                if len(self._families) > 100_000:
                    self._families.clear()
                self._families[tag] = family
            elif answer[0] == b"missing" and family != tag and self._families.pop(tag, None):
                # It was there once; its own place knows whether it is anywhere now.
                pointer = self._pointer(tag)
                if pointer is not None and pointer.split()[0] == family:
                    break
                family = tag
            elif answer[0] == b"missing":
                break
            else:
                return answer
        raise documents.not_found(scope, key)

    def _pointer(self, tag: str) -> str | None:
        with self._server.errors():
            value = self._server.client.get(f"{self.prefix}:{{{tag}}}:at")
        return None if value is None else as_text(value)

    def _index(self, scope: str) -> str:
        return f"{self.prefix}:{{list-{self._tag(scope, '')}}}"

    def _enter(self, scope: str, key: str) -> None:
        """List a key, before its conversation exists: an entry without one does no harm."""
        with self._server.errors():
            pipeline = self._server.client.pipeline(transaction=False)
            pipeline.zadd(self._index(scope), {key.encode("utf-8"): 0})
            pipeline.zadd(f"{self.prefix}:scopes", {scope.encode("utf-8"): 0})
            pipeline.execute()

    def _strike(self, scope: str, keys: Iterable[str]) -> None:
        index, scopes, raw = self._index(scope), f"{self.prefix}:scopes", scope.encode("utf-8")
        with self._server.errors():
            for key in keys:
                self._server.client.zrem(index, key.encode("utf-8"))
            if not self._server.client.zcard(index):
                self._server.client.zrem(scopes, raw)
                if self._server.client.zcard(index):
                    # Somebody listed a key in between, perhaps before the scope was struck.
                    self._server.client.zadd(scopes, {raw: 0})

    # -- writing --------------------------------------------------------------------------------------------

    def _create(self, new: Beginning) -> str:
        commit = new.commit
        receipt = documents.digest_of(new.head + new.metadata + commit.receipt().hex()).hex()
        values = (
            *(commit.scope, commit.key, secrets.token_hex(6), receipt),
            *(documents.digest_of(new.head).hex(), new.head, new.metadata),
            *(commit.title, commit.tags, repr(commit.cost), *commit_rows(commit)),
        )
        tag = self._tag(commit.scope, commit.key)
        self._enter(commit.scope, commit.key)
        while True:
            answer = self._server.attempt("create", tag, tag, *values, again=bool(commit.turns))
            if answer[0] == b"ok":
                self._families.pop(tag, None)
                return as_text(answer[1])
            if answer[0] == b"exists" or not self._clear_pointer(
                commit.scope, commit.key, as_text(answer[1])
            ):
                raise documents.exists(commit.scope, commit.key)

    def _clear_pointer(self, scope: str, key: str, pointer: str) -> bool:
        """Remove what a fork left that was broken off; False if it leads to a conversation."""
        tag, family = self._tag(scope, key), pointer.split()[0]
        if self._server.run("verify", family, tag, scope, key)[0] == b"ok":
            return False
        return (
            self._server.run("point", tag, tag, "clear", "", pointer)[0] == b"ok"
            or self._pointer(tag) is None
        )

    def _append(self, commit: Commit) -> str:
        answer = self._ask(
            "append",
            commit.scope,
            commit.key,
            *(commit.expected, commit.receipt().hex(), int(commit.empty)),
            *(
                "" if value is None else value
                for value in (commit.keep, commit.fence, commit.title, commit.tags)
            ),
            *(repr(commit.cost), *commit_rows(commit)),
            again=True,
        )
        outcome, detail = as_text(answer[0]), as_text(answer[1])
        if outcome == "ok":
            return detail
        turn = as_text(answer[2]) if len(answer) > 2 else None
        raise documents.refusal(commit, outcome, detail, turn)

    def _fork(self, fork: Fork) -> str:
        source, new = self._tag(fork.scope, fork.key), self._tag(fork.scope, fork.new_key)
        # Before anything is claimed the source must have the position; asking also tells its family.
        found = self._load(fork.scope, fork.key, 0)
        if fork.at is not None and not found.first <= fork.at <= found.total:
            raise documents.no_position(fork.at, found.first, found.total)
        family, nonce = self._families.get(source, source), secrets.token_hex(6)
        self._enter(fork.scope, fork.new_key)
        if new != family:
            self._claim(fork, new, f"{family} {nonce}")
        head = fork.head or ""
        answer = self._server.run(
            *("fork", family, source, fork.scope, fork.key, new, fork.new_key, nonce),
            *("" if fork.at is None else fork.at, documents.digest_of(head).hex(), head),
            *(value or "" for value in (fork.metadata, fork.title, fork.tags)),
        )
        if answer[0] == b"ok":
            if new != family and self._point(new, "confirm", family, f"{family} {nonce}") != b"ok":
                self._server.run("erase", family, new, fork.scope, fork.new_key, "keep", "")
                raise documents.exists(fork.scope, fork.new_key)
            return as_text(answer[1])
        if new != family:
            self._point(new, "clear", "", f"{family} {nonce}")
        if answer[0] == b"exists":
            raise documents.exists(fork.scope, fork.new_key)
        if answer[0] == b"position":
            first, total = map(int, answer[1].split())
            raise documents.no_position(fork.at or 0, first, total)
        raise documents.not_found(fork.scope, fork.key)

    def _claim(self, fork: Fork, new: str, value: str) -> None:
        while True:
            answer = self._server.run("point", new, new, "claim", value)
            if answer[0] == b"ok":
                return
            if answer[0] == b"exists" or not self._clear_pointer(
                fork.scope, fork.new_key, as_text(answer[1])
            ):
                raise documents.exists(fork.scope, fork.new_key)

    def _point(self, tag: str, action: str, value: str, before: str) -> bytes:
        return bytes(self._server.run("point", tag, tag, action, value, before)[0])

    def _erase(self, scope: str, key: str, forks: str | None) -> tuple[str, ...]:
        return self._erase_if(scope, key, forks or "", "")

    def _erase_if(self, scope: str, key: str, forks: str, before: int | str) -> tuple[str, ...]:
        answer = self._ask("erase", scope, key, forks, before)
        if answer[0] == b"newer":
            return ()
        if answer[0] == b"forks":
            raise documents.has_forks(key, [as_text(name) for name in answer[1:]])
        gone = {as_text(tag): as_text(name) for tag, name in zip(answer[1::2], answer[2::2], strict=True)}
        for tag in gone:
            self._families.pop(tag, None)
            pointer = self._pointer(tag)
            if pointer is not None:
                self._point(tag, "clear", "", pointer)
        self._strike(scope, gone.values())
        return tuple(sorted(gone.values()))

    def _expire(self, scope: str, before: int) -> tuple[str, ...]:
        gone: list[str] = []
        for key in list(self._keys(scope, None)):
            try:
                gone += self._erase_if(scope, key, "keep", before)
            except ConversationNotFoundError:
                self._strike(scope, [key])
        return tuple(sorted(gone))

    def _prune(self, scope: str, key: str | None, keep: int) -> int:
        if key is not None:
            return int(self._ask("prune", scope, key, keep)[1])
        dropped = 0
        for name in list(self._keys(scope, None)):
            try:
                dropped += int(self._ask("prune", scope, name, keep)[1])
            except ConversationNotFoundError:
                continue
        return dropped

    # -- reading --------------------------------------------------------------------------------------------

    def _load(self, scope: str, key: str, last: int | None) -> RawConversation:
        answer = self._ask("load", scope, key, "last", "" if last is None else last, again=True)
        _, window, revision, head, metadata, total, first, notes, title, tags, cost = answer
        return RawConversation(
            revision=as_text(revision),
            head=as_text(head or b"null"),
            metadata=as_text(metadata),
            title=as_text(title),
            tags=as_text(tags),
            cost=float(cost),
            total=int(total),
            first=int(first),
            turns=list(read_window(window)),
            notes=[as_text(note) for note in notes],
        )

    def _turns(self, scope: str, key: str, before: int | None, limit: int | None) -> Sequence[RawTurn]:
        numbers = ("" if before is None else before, "" if limit is None else limit)
        return list(read_window(self._ask("load", scope, key, "before", *numbers, again=True)[1]))

    def _keys(self, scope: str, after: str | None) -> Iterator[str]:
        """The listed keys of a scope, in order, whether or not their conversations exist."""
        low = b"-" if after is None else b"(" + after.encode("utf-8")
        while True:
            with self._server.errors():
                page = self._server.client.zrangebylex(self._index(scope), low, b"+", start=0, num=_PAGE)
            yield from (as_text(key) for key in page)
            if len(page) < _PAGE:
                return
            low = b"(" + page[-1]

    def _list(self, listing: Listing) -> Sequence[RawSummary]:
        found: Iterator[RawSummary] = (
            row
            for row in self._summaries(listing.scope, listing.after)
            if listing.since is None or row.updated >= listing.since
        )
        if listing.order == "updated":
            found = iter(sorted(found, key=lambda row: (-row.updated, row.key)))
        return list(itertools.islice(found, listing.limit))

    def _summaries(self, scope: str, after: str | None) -> Iterator[RawSummary]:
        keys = self._keys(scope, after)
        while page := list(itertools.islice(keys, _PAGE)):
            tags = {self._tag(scope, key): key for key in page}
            places = {tag: self._families.get(tag, tag) for tag in tags}
            rows = self._read_summaries(places)
            lost = [tag for tag, row in rows.items() if row[-1] is None]
            with self._server.errors():
                pipeline = self._server.client.pipeline(transaction=False)
                for tag in lost:
                    pipeline.get(f"{self.prefix}:{{{tag}}}:at")
                pointers = dict(zip(lost, pipeline.execute() if lost else [], strict=True))
            moved = {tag: as_text(value).split()[0] if value else tag for tag, value in pointers.items()}
            self._families.update({tag: family for tag, family in moved.items() if family != tag})
            rows.update(self._read_summaries(moved))
            families = {**places, **moved}
            sources = self._read_sources(rows, families)
            for tag, key in tags.items():
                row = rows[tag]
                if row[-1] is not None and as_text(row[-1]) == key:
                    title, total, created, updated, cost, tag_list, metadata = (as_text(x) for x in row[:7])
                    yield RawSummary(
                        *(
                            key,
                            title,
                            int(total),
                            int(created),
                            int(updated),
                            float(cost),
                            tag_list,
                            metadata,
                        ),
                        sources.get(tag),
                    )

    def _read_summaries(self, places: dict[str, str]) -> dict[str, list[Any]]:
        if not places:
            return {}
        with self._server.errors():
            pipeline = self._server.client.pipeline(transaction=False)
            for tag, family in places.items():
                pipeline.hmget(f"{self.prefix}:{{{family}}}:c:{tag}", *_SUMMARY)
            return dict(zip(places, pipeline.execute(), strict=True))

    def _read_sources(self, rows: dict[str, list[Any]], families: dict[str, str]) -> dict[str, str]:
        forks = {tag: as_text(row[7]) for tag, row in rows.items() if row[7] is not None}
        if not forks:
            return {}
        with self._server.errors():
            pipeline = self._server.client.pipeline(transaction=False)
            for tag, source in forks.items():
                pipeline.hget(f"{self.prefix}:{{{families[tag]}}}:c:{source}", "key")
            keys = zip(forks, pipeline.execute(), strict=True)
        return {tag: as_text(key) for tag, key in keys if key is not None}

    def scopes(self) -> tuple[str, ...]:
        with self._server.errors():
            known = [as_text(raw) for raw in self._server.client.zrange(f"{self.prefix}:scopes", 0, -1)]
        return tuple(scope for scope in known if next(self._summaries(scope, None), None) is not None)

    # -- verify and leases ----------------------------------------------------------------------------------

    def _verify(self, scope: str | None, key: str | None) -> VerifyReport:
        conversations, turns, problems = 0, 0, []
        for one_scope in self.scopes() if scope is None else (scope,):
            for name in [key] if key is not None else list(self._keys(one_scope, None)):
                try:
                    answer = self._ask("verify", one_scope, name)
                except ConversationNotFoundError:
                    if key is not None:
                        raise
                    continue
                except FormatError as error:
                    problems.append(Problem(one_scope, name, None, str(error)))
                    continue
                conversations += 1
                turns += int(answer[4]) - int(answer[3])
                problems += [Problem(one_scope, name, index, what) for index, what in check_rows(answer)]
        settings, warnings = self._server.settings()
        return VerifyReport(conversations, turns, tuple(problems), settings, warnings)

    def _lease(self, scope: str, key: str, *values: Any) -> list[Any]:
        return self._ask("lease", scope, key, *values)

    def _take_lease(self, scope: str, key: str, ttl: float) -> int | None:
        answer = self._lease(scope, key, "take", "", int(ttl * 1000))
        return int(answer[1]) if answer[0] == b"ok" else None

    def _renew_lease(self, scope: str, key: str, token: int, ttl: float) -> bool:
        return bool(self._lease(scope, key, "renew", token, int(ttl * 1000))[0] == b"ok")

    def _drop_lease(self, scope: str, key: str, token: int) -> None:
        self._lease(scope, key, "drop", token, 0)
