"""The contract of a source, and the count of what it had to skip.

A source recognises its own path, declares what it can hold, lists the heads of its sessions cheaply, and
reads a session's content when asked. It never writes to the user's files.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
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


@dataclass
class Skips:
    """The list of what was left out, each thing once; each new one is also warned of."""

    found: dict[Skip, None] = field(default_factory=dict)

    def add(self, path: str | Path, row: str | None, reason: str) -> None:
        """Record that something was left out."""
        skip = Skip(str(path), row, reason)
        if skip not in self.found:
            self.found[skip] = None
            warnings.warn(f"skipped {skip}", SkippedRecordWarning, stacklevel=2)

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Skip]:
        return iter(tuple(self.found))


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

    def close(self) -> None:
        """Let go of what is open. The source can be used again."""
        return None
