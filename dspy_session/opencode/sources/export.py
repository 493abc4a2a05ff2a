"""Files made by `opencode export`: one session each, of any release, whole, sanitised or cut off.

The program cuts its output at 64 to 128 KiB when it is piped; the messages before the cut are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from dspy_session.errors import SourceFormatError
from dspy_session.opencode import parsing
from dspy_session.opencode.parsing import Json, ParseError
from dspy_session.opencode.records import Content, SessionRecord
from dspy_session.opencode.sources.base import EVERYTHING, FileSource

_START = re.compile(r'\{\s*"info"\s*:\s*')
_MESSAGES = re.compile(r'\s*,\s*"messages"\s*:\s*\[')
_COMMA = re.compile(r"\s*,?\s*")


class ExportSource(FileSource):
    """One exported session."""

    kind: ClassVar[str] = "export"
    rank: ClassVar[int] = 20
    holds: ClassVar[frozenset[str]] = EVERYTHING - {"todos"}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A JSON file that begins with an `info` object, perhaps after lines that another release printed."""
        if path.suffix != ".json" or not path.is_file():
            return False
        with path.open("rb") as file:
            return _START.search(parsing.decoded(file.read(4096))) is not None

    def heads(self) -> Iterable[SessionRecord]:
        """The one session of the file."""
        stored = self._read()
        info = parsing.exported_info(stored["info"])
        if not isinstance(info.get("id"), str):
            raise SourceFormatError(f"{self.path}: the session has no id")
        yield SessionRecord(info, partial(self._content, info["id"]), str(self.path), None, self.holds)

    def _content(self, session_id: str) -> Content:
        messages = []
        for place, entry in enumerate(self._read()["messages"]):
            try:
                parsing.exported_messages([entry], session_id)
                messages.append(entry)
            except ParseError as error:
                self.skips.add(self.path, f"message {place}", str(error))
        return Content(parsing.exported_messages(messages, session_id))

    def _read(self) -> dict[str, Any]:
        try:
            text = parsing.decoded(self.path.read_bytes())
        except OSError as error:
            raise SourceFormatError(f"{self.path}: cannot be read: {error}") from error
        start = _START.search(text)
        if start is None:
            raise SourceFormatError(
                f"{self.path}: not an export of OpenCode: it does not begin with an `info`"
            )
        try:
            stored = parsing.json_object(text[start.start() :])
        except ParseError as error:
            return self._salvaged(text, start.end(), str(error))
        if not isinstance(stored["info"], dict) or not isinstance(stored.get("messages"), list):
            raise SourceFormatError(
                f"{self.path}: not an export of OpenCode: `info` or `messages` is missing"
            )
        return stored

    def _salvaged(self, text: str, at: int, reason: str) -> Json:
        """The head and the whole messages of a file that breaks off."""
        decoder = json.JSONDecoder()
        found: list[Any] = []
        try:
            info, at = decoder.raw_decode(text, at)
            opening = _MESSAGES.match(text, at)
            at = opening.end() if opening else len(text)
        except (ValueError, RecursionError):
            raise SourceFormatError(f"{self.path}: cut off inside the session's head: {reason}") from None
        if not isinstance(info, dict):
            raise SourceFormatError(f"{self.path}: not an export of OpenCode: `info` is no object")
        try:
            while at < len(text):
                at = _COMMA.match(text, at).end()  # type: ignore[union-attr]
                entry, at = decoder.raw_decode(text, at)
                found.append(entry)
        except (ValueError, RecursionError):
            pass
        self.skips.add(self.path, f"message {len(found)}", f"the file is cut off here: {reason}")
        return {"info": info, "messages": found}
