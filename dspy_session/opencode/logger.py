"""The DSPy plugin's files without the plugin: written from OpenCode's own history, afterwards or as you work.

For each session `session-<id>.json` (raw), for those with turns worth learning from `dspy-<id>.json` (format
1.3, with the `outcome` of the older ones), and a line in `plugin.log`. The state of git is only logged for
turns that were seen while they ran; it cannot be known later.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspy_session.errors import ConfigurationError
from dspy_session.opencode.exports.redaction import Redactor
from dspy_session.opencode.exports.writing import replace_file
from dspy_session.opencode.grouping import live
from dspy_session.opencode.history import History
from dspy_session.opencode.plugin_format import actions, context, session_log
from dspy_session.opencode.plugin_scores import evaluate
from dspy_session.opencode.records import SessionRecord, Turn
from dspy_session.opencode.times import When, stamp

Json = dict[str, Any]

GENERATOR = "dspy-session"
ABANDONED = 600_000
"""A reply without an end counts as abandoned, and the session as idle, after this many milliseconds."""


@dataclass
class LogReport:
    """What a run of the logger did.

    Attributes:
        written: files written.
        kept: files of the plugin's own that were there already, and were left as they are.
        examples: examples in the files written.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    examples: int = 0

    def __str__(self) -> str:
        kept = f", {len(self.kept)} files of the plugin kept" if self.kept else ""
        return f"{len(self.written)} files written, {self.examples} examples{kept}"


class Logger:
    """Writes the plugin's files for sessions of a history.

    Args:
        history: where the sessions come from.
        folder: where the files go; by default `.opencode-logs` in the current folder.
        project: as for `History.sessions`.
        since: as for `History.sessions`.
        overwrite: also replace files that the plugin itself wrote.
        redactor: goes over everything that is written.
        now: the clock, in ms since the epoch.
    """

    def __init__(
        self,
        history: History,
        folder: str | os.PathLike[str] = ".opencode-logs",
        *,
        project: str | os.PathLike[str] | None = None,
        since: When | None = None,
        overwrite: bool = False,
        redactor: Redactor | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.report = LogReport()
        self._history, self._folder = history, Path(folder).expanduser()
        self._project, self._since, self._now = project, since, now
        self._overwrite, self._redactor = overwrite, redactor
        self._seen: dict[str, tuple[int, bool]] = {}
        self._git: dict[str, dict[str, Json]] = {}

    def run(self) -> LogReport:
        """Write the files of all sessions, once."""
        for record in self._history.sessions(project=self._project, since=self._since):
            self._write(record)
        return self.report

    def watch(
        self, interval: float = 2.0, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[SessionRecord]:
        """Look again and again, and write a session's files whenever it has gone idle.

        Args:
            interval: seconds between two looks.
            stop: ends the watch when it returns True.

        Yields:
            Each session whose files were written.

        Raises:
            ConfigurationError: the interval is negative, no number, or longer than the system can wait.
        """
        if not 0 <= interval <= threading.TIMEOUT_MAX:
            raise ConfigurationError(f"the interval must be a number of seconds, 0 or more, not {interval}")
        while not stop():
            yield from self.look()
            time.sleep(interval)

    def look(self) -> Iterator[SessionRecord]:
        """One look: write the files of sessions that have gone idle since the last."""
        for record in self._history.sessions(project=self._project, since=self._since):
            updated, idle = self._seen.get(record.id, (-1, False))
            if idle and updated == record.updated:
                continue
            first, idle = record.id not in self._seen, is_idle(record, self._now())
            self._seen[record.id] = record.updated, idle
            if not idle:
                self._note_git(record)
            elif self._write(record, only_if_newer=first):
                yield record

    def _note_git(self, record: SessionRecord) -> None:
        turn = record.turns[-1] if record.turns else None
        noted = self._git.setdefault(record.id, {})
        if turn is not None and record.directory is not None and stamp(turn.started) not in noted:
            state = git_state(record.directory)
            if state is not None:
                noted[stamp(turn.started)] = state

    def _write(self, record: SessionRecord, *, only_if_newer: bool = False) -> bool:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in record.id)
        raw, dspy = self._folder / f"session-{name}.json", self._folder / f"dspy-{name}.json"
        ended = max((turn.ended or turn.started for turn in record.turns), default=0)
        if only_if_newer and raw.exists() and raw.stat().st_mtime * 1000 >= ended:
            return False
        saved = [turn for turn in live(record) if turn.kind == "prompt" and evaluate(turn).saved]
        self._put(raw, raw_log(record), "generator")
        if saved:
            log = session_log(record, saved, self._now())
            self._add_git(log, dspy, record.id)
            if self._put(dspy, log, "generator"):
                self.report.examples += len(saved)
        self._line(record, saved)
        return True

    def _add_git(self, log: Json, file: Path, session_id: str) -> None:
        """State of git seen now, or logged by an earlier run."""
        noted = {**_logged_git(file), **self._git.get(session_id, {})}
        for example in log["examples"]:
            state = noted.get(example["metadata"]["timestamp"])
            if state is not None:
                example["input"]["context"]["gitStatus"] = state

    def _put(self, file: Path, value: Json, mark: str) -> bool:
        if file.exists() and not self._overwrite and _read(file).get(mark) != GENERATOR:
            self.report.kept.append(file)
            return False
        value = {**value, mark: GENERATOR}
        clean = value if self._redactor is None else self._redactor(value, file.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(clean, ensure_ascii=False, indent=2) + "\n")
        self.report.written.append(file)
        return True

    def _line(self, record: SessionRecord, saved: list[Turn]) -> None:
        turns = [turn for turn in live(record) if turn.kind == "prompt"]
        if not turns:
            return
        judged = evaluate(turns[-1])
        told = {
            "SUCCESS": judged.success,
            "TASK_COMPLETED": judged.task_completed,
            "TURNS": len(turns),
            "SAVED": len(saved),
            "TOOLS": len(record.tool_calls),
        }
        line = " ".join(f"{key}={str(value).lower()}" for key, value in told.items())
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "plugin.log").open("a", encoding="utf-8") as log:
            log.write(f"{stamp(self._now())} - 📊 {record.id} {line}\n")


def is_idle(record: SessionRecord, now: int) -> bool:
    """True if nothing is going on in a session: the last reply has ended, or was abandoned long ago."""
    if not record.messages:
        return True
    last = record.messages[-1]
    if now - max(last.created, record.updated) > ABANDONED:
        return True
    if last.role != "assistant" or last.completed is None:
        return False
    return last.error is not None or (last.finish or "stop") not in ("tool-calls", "unknown")


def raw_log(record: SessionRecord) -> Json:
    """The plugin's `session-<id>.json`: messages with their heads, and all tool calls."""
    messages = [
        {
            "messageId": message.id,
            "role": message.role,
            "timestamp": stamp(message.created),
            "content": message.said if message.role == "assistant" else message.typed,
            "info": dict(message.raw),
        }
        for message in record.messages
        if message.role in ("user", "assistant")
    ]
    turns = [turn for turn in record.turns if not turn.reverted]
    made: Json = {"sessionId": record.id, "messages": messages}
    made["toolCalls"] = [action for turn in turns for action in actions(turn)]
    if turns:
        made["context"] = context(turns[-1])
    return {**made, "startTime": record.created, "lastUpdateTime": record.updated}


def git_state(directory: str) -> Json | None:
    """Branch and uncommitted changes of a folder now; None without git or without a repository."""
    command = ["git", "-C", directory, "status", "--porcelain=v1", "--branch"]
    # Optional locks are off, so that looking never gets in the way of the user's own git.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=5, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    branch = lines[0].removeprefix("## ").removeprefix("No commits yet on ").split("...")[0] if lines else ""
    changes = lines[1:]
    return {"branch": branch, "uncommittedChanges": len(changes), "status": "\n".join(changes)}


def _logged_git(file: Path) -> dict[str, Json]:
    found = {}
    for example in _read(file).get("examples", ()):
        try:
            found[example["metadata"]["timestamp"]] = example["input"]["context"]["gitStatus"]
        except (KeyError, TypeError):
            continue
    return found


def _read(file: Path) -> Json:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
