"""Verifying SQL stores: derive again, from the turns up, what the tables claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FormatError
from . import _documents as documents
from ._lines import Position, Run, line
from .base import Problem, VerifyReport

if TYPE_CHECKING:
    from ._relational import RelationalStore


def verify_relational(store: RelationalStore, run: Run, scope: str | None, key: str | None) -> VerifyReport:
    """Check one conversation, one scope or all; only the counts and problems of the report are filled."""
    where, values = ["1 = 1"], []
    if scope is not None:
        where.append("scope = ?")
        values.append(store._raw(scope))
    if key is not None:
        where.append("key = ?")
        values.append(store._raw(key))
    rows = run(
        f"SELECT scope, key FROM conversation WHERE {' AND '.join(where)} ORDER BY scope, key", *values
    )
    if key is not None and not rows:
        raise documents.not_found(scope or "", key)
    turns, problems = 0, []
    for raw_scope, raw_key in rows:
        checked = _Conversation(store, run, store._key(raw_scope), store._key(raw_key))
        turns += checked.check()
        problems += checked.problems
    if scope is None:
        problems += [
            Problem("", None, None, f"{count} turns lie in no segment")
            for (count,) in run(
                "SELECT count(*) FROM turn"
                " WHERE NOT EXISTS (SELECT 1 FROM segment s WHERE s.id = turn.segment)"
            )
            if count
        ]
    return VerifyReport(len(rows), turns, tuple(problems), {})


class _Conversation:
    """The check of one conversation."""

    def __init__(self, store: RelationalStore, run: Run, scope: str, key: str) -> None:
        self.store, self.run, self.scope, self.key = store, run, scope, key
        self.problems: list[Problem] = []

    def _wrong(self, what: str, index: int | None = None) -> None:
        self.problems.append(Problem(self.scope, self.key, index, what))

    def check(self) -> int:
        """Collect the problems; the number of turns looked at."""
        p = self.store._position(self.run, self.scope, self.key)
        self._check_head(p)
        try:
            return self._check_line(p)
        except FormatError as error:
            self._wrong(str(error))
            return 0

    def _check_head(self, p: Position) -> None:
        rows = self.run("SELECT digest, data FROM head WHERE id = ?", p.head)
        if not rows:
            self._wrong("its head is missing")
        elif bytes(rows[0][0]) != documents.digest_of(rows[0][1]):
            self._wrong("the head's digest does not match its text")
        if not 0 <= p.first <= p.total:
            self._wrong(f"it claims the turns from {p.first} to {p.total}")

    def _check_line(self, p: Position) -> int:
        expected = p.first
        for span in reversed(line(self.run, p, p.first)):
            for index, version, turn, digest, text in self.run(
                "SELECT idx, version, id, digest, data FROM turn WHERE segment = ? AND idx >= ? AND idx < ?"
                " ORDER BY idx",
                *(span.segment, max(span.start, p.first), span.stop),
            ):
                for missing in range(expected, index):
                    self._wrong("the turn is missing", missing)
                expected = index + 1
                self._check_turn(index, self.store._key(turn), bytes(digest), text)
                if span.owner == p.id and version > p.version:
                    self._wrong(f"the turn is of commit {version}, the conversation of {p.version}", index)
            self._check_notes(span.segment)
        for missing in range(expected, p.total):
            self._wrong("the turn is missing", missing)
        return p.total - p.first

    def _check_turn(self, index: int, turn: str, digest: bytes, text: str) -> None:
        if documents.digest_of(text) != digest:
            self._wrong("the turn's digest does not match its text", index)
        try:
            if documents.decode(text, "the turn").get("id") != turn:
                self._wrong(f"the turn is filed under the id {turn!r}, which is not its own", index)
        except FormatError as error:
            self._wrong(str(error), index)

    def _check_notes(self, segment: int) -> None:
        for about, text in self.run("SELECT about, data FROM note WHERE segment = ?", segment):
            try:
                documents.decode(text, "an annotation")
            except FormatError as error:
                self._wrong(str(error), None if about < 0 else about)
