"""The contract of a source, and the count of what it had to skip.

A source recognises its own path, declares what it can hold, lists the heads of its sessions cheaply, and
reads a session's content when asked. It never writes to the user's files.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from dspy_session.opencode.records import SessionRecord

HOLDINGS: dict[str, str] = {
    "steps": "calls of the model are told apart within a turn",
    "timing": "when each text and tool call began and ended",
    "reasoning": "what the model thought",
    "tool_status": "whether a tool call failed, by OpenCode's own word",
    "synthetic": "which text OpenCode made by itself",
    "files": "attachments",
    "snapshots": "git trees before and after each step, and the files changed",
    "tokens": "token counts",
    "cost": "money",
    "todos": "the to-do list",
    "parents": "which session started which",
    "revert": "what the user undid",
    "project": "the project and its root",
}
"""What a source may hold besides prompts, tool calls and replies, which all hold."""

EVERYTHING = frozenset(HOLDINGS)


class SkippedRecordWarning(UserWarning):
    """Something in a source could not be read and was left out."""


@dataclass(frozen=True)
class Skip:
    """Something that could not be read.

    Attributes:
        path: the file.
        row: the row, message or part in it, where there is one.
        reason: what is wrong with it.
    """

    path: str
    row: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f' [{self.row}]' if self.row else ''}: {self.reason}"


_HEARD: ContextVar[list[Skip] | None] = ContextVar("heard", default=None)


@contextmanager
def heard() -> Iterator[list[Skip]]:
    """Collects what is left out meanwhile, also what was left out before; whoever hears is not warned."""
    found: list[Skip] = []
    token = _HEARD.set(found)
    try:
        yield found
    finally:
        _HEARD.reset(token)


@dataclass
class Skips:
    """The list of what was left out, each thing once; each new one is also warned of."""

    found: dict[Skip, None] = field(default_factory=dict)

    def add(self, path: str | Path, row: str | None, reason: str) -> None:
        """Record that something was left out."""
        skip = Skip(str(path), row, reason)
        known = skip in self.found
        self.found[skip] = None
        hearing = _HEARD.get()
        if hearing is not None:
            hearing.append(skip)
        elif not known:
            warnings.warn(f"skipped {skip}", SkippedRecordWarning, stacklevel=2)

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Skip]:
        return iter(tuple(self.found))


@dataclass(frozen=True)
class Fingerprint:
    """What tells cheaply whether something changed: equal values mean equal content.

    Attributes:
        value: compared with that of an earlier look.
        newest: the last change that was seen, in milliseconds since the epoch. What was changed in the very
            moment of the look may be changed again without a trace.
    """

    value: str
    newest: int = 0

    @classmethod
    def of(cls, *facts: object, newest: int = 0) -> Fingerprint:
        """The fingerprint of some facts, whose `repr` tells them apart."""
        return cls(hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:32], newest)

    @classmethod
    def of_files(cls, files: Iterable[str | Path]) -> Fingerprint:
        """Of files, by their sizes and times. Those that are not there, and empty ones, count alike."""
        facts, newest = [], 0
        for file in files:
            try:
                found = os.stat(file)
            except OSError:
                continue
            if found.st_size:
                facts.append((str(file), found.st_size, found.st_mtime_ns, found.st_ino))
                newest = max(newest, found.st_mtime_ns // 1_000_000)
        return cls.of(facts, newest=newest)


UNKNOWN = Fingerprint("")
"""Of something that could not be looked at: it counts as changed."""


class Source(ABC):
    """A place that holds sessions.

    Attributes:
        path: the file or folder.
        skips: what could not be read so far.
        kind: the name of this kind of source.
        holds: what it can hold, of `HOLDINGS`.
        rank: of two sources with the same session, the one with the higher rank is believed.
    """

    kind: ClassVar[str]
    holds: ClassVar[frozenset[str]] = EVERYTHING
    rank: ClassVar[int] = 0

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skips = Skips()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """True if this path is of this kind. Looks at names and first bytes alone."""

    @abstractmethod
    def heads(self) -> Iterable[SessionRecord]:
        """The sessions, in any order; their content is read when it is asked for.

        Raises:
            SourceFormatError: if the place as a whole is not what it seems.
        """

    def fingerprint(self) -> Fingerprint | None:
        """Of the place as a whole; None where that costs as much as asking for each session."""
        return None

    @abstractmethod
    def fingerprints(self, session_ids: Iterable[str]) -> Mapping[str, Fingerprint]:
        """Of what belongs to each session besides its head, without reading it."""

    def close(self) -> None:
        """Let go of what is open. The source can be used again."""
        return None


class FileSource(Source):
    """A file that holds one session."""

    def fingerprint(self) -> Fingerprint | None:
        """The file's size and time."""
        return Fingerprint.of_files([self.path])

    def fingerprints(self, session_ids: Iterable[str]) -> Mapping[str, Fingerprint]:
        """The file's size and time."""
        return dict.fromkeys(session_ids, Fingerprint.of_files([self.path]))
