"""The history of a user: all sessions of all sources, each once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dspy_session.errors import SourceFormatError, UnknownPathError
from dspy_session.opencode.records import SessionRecord
from dspy_session.opencode.sources.base import UNKNOWN, Fingerprint, Skip, Skips, Source
from dspy_session.opencode.sources.opening import discovered, sources_of
from dspy_session.opencode.sources.plugin_log import RawLogSource
from dspy_session.opencode.times import When, milliseconds
from dspy_session.opencode.tokens import Usage, total_usage


class History:
    """OpenCode's sessions, from one source or several.

    A session that stands in several sources is given once, from the one that holds most of it: the database,
    then trees of files, then exports, then the plugin's logs.

    Attributes:
        sources: where the sessions come from.
    """

    def __init__(self, sources: Iterable[Source], skips: Skips | None = None) -> None:
        self.sources = tuple(sources)
        self._skips = Skips() if skips is None else skips
        self._listed: _Listing | None = None

    def __repr__(self) -> str:
        return f"History({', '.join(map(repr, self.sources))})"

    def __iter__(self) -> Iterator[SessionRecord]:
        return self.sessions()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """What could not be read so far: damaged files, rows and parts."""
        return (*self._skips, *(skip for source in self.sources for skip in source.skips))

    def close(self) -> None:
        """Close what is open. The history can be read again."""
        for source in self.sources:
            source.close()

    def sessions(
        self,
        project: str | os.PathLike[str] | None = None,
        since: When | None = None,
        until: When | None = None,
    ) -> Iterator[SessionRecord]:
        """The sessions from the oldest to the newest, sub-agents' and forks' among them.

        Records are read as you go and kept by no one else, so memory stays bounded.

        Args:
            project: a folder (sessions started in it or below it, or in any worktree of a project whose root
                it is), or OpenCode's id of a project.
            since: sessions touched at or after this time. A date means its midnight in local time; a number,
                seconds since the epoch.
            until: sessions made before this time.

        Raises:
            ConfigurationError: a time cannot be read.
            SourceFormatError: the only source is damaged. Of several, damaged ones are skipped and counted.
        """
        after = None if since is None else milliseconds(since)
        before = None if until is None else milliseconds(until)
        chosen = [r for r in self._list().by_id.values() if after is None or r.updated >= after]
        chosen = [r for r in chosen if before is None or r.created < before]
        if project is not None:
            chosen = _of_project(chosen, project)
        chosen.sort(key=_age)
        for record in chosen:
            yield _unread(record)

    def session(self, session_id: str) -> SessionRecord:
        """One session by its id.

        Raises:
            UnknownPathError: there is none.
        """
        found = self._list().by_id.get(session_id)
        if found is None:
            raise UnknownPathError(f"no session {session_id!r} in {self!r}")
        return _unread(found)

    def children(self, record: SessionRecord) -> tuple[SessionRecord, ...]:
        """The sub-agents' sessions that a session started, oldest first, as of the last listing.

        The list of sessions is made anew by `sessions()` and `session()`.
        """
        listing = self._listing
        found = {child.id: child for child in listing.by_parent.get(record.id, ())}
        found.update((name, listing.by_id[name]) for name in record.child_ids if name in listing.by_id)
        return tuple(_unread(r) for r in sorted(found.values(), key=_age) if r.id != record.id)

    def descendants(self, record: SessionRecord) -> tuple[SessionRecord, ...]:
        """The sub-agents' sessions, their sub-agents' and so on; each once."""
        found: dict[str, SessionRecord] = {}
        waiting = [record]
        while waiting:
            for child in self.children(waiting.pop()):
                if child.id not in found and child.id != record.id:
                    found[child.id] = child
                    waiting.append(child)
        return tuple(found.values())

    def parent(self, record: SessionRecord) -> SessionRecord | None:
        """The session that started a sub-agent's session, as of the last listing."""
        found = self._listing.by_id.get(record.parent_id or "")
        return None if found is None else _unread(found)

    def fork_source(self, record: SessionRecord) -> SessionRecord | None:
        """The session that a fork was copied from, as far as it is still there.

        OpenCode 1.x stores no link. The source is a session that was there when the copied messages were
        made, and whose messages bear the same times; one with the fork's title is looked at first.
        """
        if not record.is_fork:
            return None
        named = record.info.get("fork", {}).get("sessionID")
        if named is not None:
            found = self._listing.by_id.get(named)
            return None if found is None else _unread(found)
        times = [message.created for message in record.messages[: record.copied_messages]]
        if not times:
            return None
        able = [r for r in self._listing.by_id.values() if r.created <= times[0] <= r.updated]
        able.sort(key=lambda other: (_base_title(other) != _base_title(record), _age(other)))
        candidates = (_unread(other) for other in able if other.id != record.id)
        return next((other for other in candidates if _begins_with(other, times)), None)

    def fingerprint(self) -> Fingerprint | None:
        """Of all sources as a whole; None if one of them cannot tell cheaply that nothing changed."""
        found = [source.fingerprint() for source in self.sources]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        newest = max((each.newest for each in known), default=0)
        return Fingerprint.of(
            [(repr(s), f.value) for s, f in zip(self.sources, known, strict=True)], newest=newest
        )

    def listed(self) -> tuple[Listed, ...]:
        """The sessions from the oldest to the newest, listed anew, each with what tells whether it changed.

        Raises:
            SourceFormatError: as for `sessions`.
        """
        by_source: dict[int, list[SessionRecord]] = {}
        listing = self._list()
        for record in listing.by_id.values():
            by_source.setdefault(listing.source_of[record.id], []).append(record)
        found = []
        for place, records in by_source.items():
            source = self.sources[place]
            prints = self._fingerprints(source, records)
            for record in records:
                within = prints.get(record.id, UNKNOWN)
                facts = repr(source), within.value, record.info, record.worktree
                own = Fingerprint.of(*facts, newest=max(within.newest, record.updated))
                own = own if within is not UNKNOWN else UNKNOWN
                found.append(Listed(_unread(record), source, _rank(source, record), own))
        return tuple(sorted(found, key=lambda each: _age(each.record)))

    def _fingerprints(self, source: Source, records: list[SessionRecord]) -> Mapping[str, Fingerprint]:
        try:
            return source.fingerprints([record.id for record in records])
        except (SourceFormatError, OSError) as error:
            self._skips.add(source.path, None, str(error))
            return {}

    def usage(self, record: SessionRecord, *, children: bool = True) -> Usage:
        """Tokens and cost of a session and, unless told otherwise, of its sub-agents."""
        counted = [record, *(self.descendants(record) if children else ())]
        return total_usage(each.usage for each in counted)

    @property
    def _listing(self) -> _Listing:
        return self._list() if self._listed is None else self._listed

    def _list(self) -> _Listing:
        best: dict[str, tuple[tuple[int, int], SessionRecord, int]] = {}
        for place, source in enumerate(self.sources):
            try:
                for record in source.heads():
                    standing = (_rank(source, record), record.updated)
                    if record.id not in best or standing > best[record.id][0]:
                        best[record.id] = standing, record, place
            except (SourceFormatError, OSError) as error:
                if len(self.sources) == 1:
                    raise
                self._skips.add(source.path, None, str(error))
        by_id = {record.id: record for _, record, _ in best.values()}
        by_parent: dict[str, list[SessionRecord]] = {}
        for record in by_id.values():
            if record.parent_id is not None:
                by_parent.setdefault(record.parent_id, []).append(record)
        self._listed = _Listing(by_id, by_parent, {name: place for name, (_, _, place) in best.items()})
        return self._listed


def open_source(path: str | os.PathLike[str] | None = None) -> History:
    """OpenCode's history at a path, or this user's own.

    Args:
        path: a database, a data folder, a tree of JSON files of any release, a file of `opencode export`, a
            log of the DSPy plugin, or a folder that holds any of these, mixed. Without a path, the places
            where OpenCode keeps its data (`OPENCODE_DB`, `OPENCODE_DATA_DIR`, `XDG_DATA_HOME`).

    Raises:
        SourceNotFoundError: nothing of OpenCode's is there; says where it was looked for.
        SourceFormatError: the file named is damaged or of no known kind.
    """
    skips = Skips()
    history = History(discovered() if path is None else sources_of(path, skips), skips)
    if len(history.sources) == 1:
        history._list()
    return history


@dataclass(frozen=True)
class _Listing:
    """The heads of all sessions. Their content is never read through them, so that it is not kept."""

    by_id: dict[str, SessionRecord]
    by_parent: dict[str, list[SessionRecord]]
    source_of: dict[str, int]


@dataclass(frozen=True)
class Listed:
    """A session in a listing.

    Attributes:
        record: the session; its content is not read yet.
        source: where it stands.
        rank: how much its source is believed.
        fingerprint: of its head and its content.
    """

    record: SessionRecord
    source: Source
    rank: int
    fingerprint: Fingerprint


def _unread(record: SessionRecord) -> SessionRecord:
    """A record that shares nothing but its head, and so is forgotten with whoever asked for it."""
    return SessionRecord(record.info, record.load, record.origin, record.worktree, record.holds)


def _age(record: SessionRecord) -> tuple[int, str]:
    return record.created, record.id


def _rank(source: Source, record: SessionRecord) -> int:
    """How much to believe a source of a session; a sanitised export less than any that holds the words."""
    if isinstance(source, RawLogSource) and not source.has_calls:
        return 1
    title = record.info.get("title")
    sanitised = isinstance(title, dict) or (isinstance(title, str) and title.startswith("[redacted:"))
    return min(source.rank, 5) if sanitised else source.rank


def _of_project(records: list[SessionRecord], project: str | os.PathLike[str]) -> list[SessionRecord]:
    named = os.fspath(project)
    by_id = [record for record in records if record.project_id == named]
    if by_id:
        return by_id
    folder = Path(named).expanduser().absolute()
    folders = {str(folder), os.path.realpath(folder)}
    roots = {r.project_id for r in records if r.worktree in folders and r.project_id != "global"}
    return [r for r in records if (r.project_id and r.project_id in roots) or _within(r.directory, folders)]


def _within(directory: str | None, folders: set[str]) -> bool:
    if directory is None:
        return False
    return any(directory == each or directory.startswith(each.rstrip("/\\") + os.sep) for each in folders)


def _base_title(record: SessionRecord) -> str:
    return re.sub(r" \(fork #\d+\)$", "", record.title)


def _begins_with(other: SessionRecord, times: list[int]) -> bool:
    return [message.created for message in other.messages[: len(times)]] == times
