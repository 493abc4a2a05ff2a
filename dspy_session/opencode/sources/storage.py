"""Trees of JSON files: the four layouts that came before the database.

=========  ============================================================================================
releases   under OpenCode's data folder
=========  ============================================================================================
0.1        `project/<slug>/storage/session/{info/<ses>, message/<ses>/<msg>}.json`, parts inside messages
0.5        the same, with `part/<ses>/<msg>/<prt>.json`
1.0, 1.1   `storage/{session/<project>/<ses>, message/<ses>/<msg>, part/<msg>/<prt>, todo/<ses>}.json`
=========  ============================================================================================

Reading starts from the message files: after an undo their parts' folders stay behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from dspy_session.opencode import _fields as read
from dspy_session.opencode import parsing
from dspy_session.opencode.parsing import Json, ParseError
from dspy_session.opencode.records import Content, Message, SessionRecord
from dspy_session.opencode.sources.base import EVERYTHING, Fingerprint, Source


class StorageSource(Source):
    """`storage/` of 1.0 and 1.1: the folder itself."""

    kind: ClassVar[str] = "storage"
    rank: ClassVar[int] = 40

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with `session/<project>/` and no `session/info/`."""
        sessions = path / "session"
        return sessions.is_dir() and not (sessions / "info").is_dir() and path.name == "storage"

    def heads(self) -> Iterable[SessionRecord]:
        """The sessions of all projects."""
        for file in sorted((self.path / "session").glob("*/*.json")):
            info = self.read_json(file)
            if info is not None:
                named = {"id": file.stem, "projectID": file.parent.name}
                info = {**named, **info}
                root = self._worktree(info)
                yield SessionRecord(info, partial(self._content, info["id"]), str(file), root, self.holds)

    def fingerprints(self, session_ids: Iterable[str]) -> Mapping[str, Fingerprint]:
        """Sizes and times of each session's files."""
        return {each: Fingerprint.of_files(sorted(self._of_session(each))) for each in session_ids}

    def _of_session(self, session_id: str) -> Iterator[str]:
        """The files that a session's content is read from."""
        yield str(self.path / "todo" / f"{session_id}.json")
        for file in _listed(self.path / "message" / session_id):
            yield file
            yield from _listed(self.path / "part" / Path(file).stem)

    def _worktree(self, info: Json) -> str | None:
        file = self.path / "project" / f"{info['projectID']}.json"
        project = self.read_json(file) if file.is_file() else None
        return read.optional_text(project.get("worktree")) if project else None

    def _content(self, session_id: str) -> Content:
        found = []
        for file, info in self._files(self.path / "message" / session_id):
            info = {"id": file.stem, "sessionID": session_id, **info}
            found.append(self._message(info, self.path / "part" / info["id"]))
        todos = self.path / "todo" / f"{session_id}.json"
        return Content(parsing.in_order(found), parsing.todos(self._list(todos)))

    def _message(self, info: Json, folder: Path) -> Message:
        ids = {"messageID": info["id"], "sessionID": info["sessionID"]}
        return parsing.message(info, [{"id": file.stem, **ids, **part} for file, part in self._files(folder)])

    def _files(self, folder: Path) -> Iterator[tuple[Path, Json]]:
        for file in sorted(folder.glob("*.json")):
            stored = self.read_json(file)
            if stored is not None:
                yield file, stored

    def _list(self, file: Path) -> tuple[object, ...]:
        if not file.is_file():
            return ()
        try:
            return read.items(
                parsing.json_object('{"items":' + parsing.decoded(file.read_bytes()) + "}")["items"]
            )
        except (ParseError, OSError) as error:
            self.skips.add(file, None, str(error))
            return ()

    def read_json(self, file: Path) -> Json | None:
        """The object in a file; None, and a counted skip, if it cannot be read (it may be half written)."""
        try:
            return parsing.json_object(parsing.decoded(file.read_bytes()))
        except (ParseError, OSError) as error:
            self.skips.add(file, None, str(error))
            return None


class ProjectStorageSource(StorageSource):
    """`project/<slug>/storage/` of 0.1 and 0.5: the folder `storage`."""

    kind: ClassVar[str] = "project storage"
    rank: ClassVar[int] = 30
    holds: ClassVar[frozenset[str]] = EVERYTHING - {"todos"}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with `session/info/`."""
        return path.name == "storage" and (path / "session" / "info").is_dir()

    def heads(self) -> Iterable[SessionRecord]:
        """The sessions of one project. Its folder is told by the messages: heads of 0.1 and 0.5 lack it."""
        for file, info in self._files(self.path / "session" / "info"):
            info = {"id": file.stem, **info}
            if "directory" not in info:
                cwd = self._cwd(info["id"])
                info = {**info, "directory": cwd} if cwd else info
            yield SessionRecord(info, partial(self._content, info["id"]), str(file), None, self.holds)

    def _of_session(self, session_id: str) -> Iterator[str]:
        for file in _listed(self.path / "session" / "message" / session_id):
            yield file
            yield from _listed(self.path / "session" / "part" / session_id / Path(file).stem)

    def _cwd(self, session_id: str) -> str | None:
        for _, stored in self._files(self.path / "session" / "message" / session_id):
            within = read.mapping(read.mapping(stored.get("metadata")).get("assistant")) or stored
            cwd = read.mapping(within.get("path")).get("cwd")
            if isinstance(cwd, str):
                return cwd
        return None

    def _content(self, session_id: str) -> Content:
        found = []
        for file, stored in self._files(self.path / "session" / "message" / session_id):
            if isinstance(stored.get("parts"), list):
                found.append(parsing.first_release_message({"id": file.stem, **stored}, session_id))
            else:
                info = {"id": file.stem, "sessionID": session_id, **stored}
                parts = self.path / "session" / "part" / session_id / info["id"]
                found.append(self._message(info, parts))
        return Content(parsing.in_order(found))


def _listed(folder: Path) -> list[str]:
    """The files in a folder; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.endswith(".json")]
    except OSError:
        return []
