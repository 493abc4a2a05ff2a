"""Write a history in another format: redacted, whole or not at all, with a report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dspy_session.errors import ConfigurationError
from dspy_session.opencode.exports.atif import to_atif
from dspy_session.opencode.exports.chat_formats import to_chat, to_sharegpt
from dspy_session.opencode.exports.parquet import parquet_file, turn_rows
from dspy_session.opencode.exports.redaction import RedactionReport, Redactor
from dspy_session.opencode.grouping import live
from dspy_session.opencode.history import History
from dspy_session.opencode.records import SessionRecord, Turn
from dspy_session.opencode.times import When

Format = Literal["atif", "chat", "sharegpt", "parquet"]
FORMATS: tuple[Format, ...] = ("atif", "chat", "sharegpt", "parquet")
GROUP = 1_000
"""Rows of a Parquet file that are held in memory at once."""


@dataclass
class ExportReport:
    """What an export wrote.

    Attributes:
        files: the files.
        sessions: how many sessions they hold, sub-agents' not counted where they are embedded.
        redaction: what was replaced; empty if redaction was off.
    """

    files: list[Path] = field(default_factory=list)
    sessions: int = 0
    redaction: RedactionReport = field(default_factory=RedactionReport)

    def __str__(self) -> str:
        return f"{self.sessions} sessions in {len(self.files)} files; {self.redaction}"


def export(
    history: History,
    path: str | os.PathLike[str],
    format: Format = "atif",
    *,
    project: str | os.PathLike[str] | None = None,
    since: When | None = None,
    where: Callable[[Turn], bool] | None = None,
    redact: bool | Redactor = True,
) -> ExportReport:
    """Write sessions in another format.

    Args:
        history: where they come from.
        path: a folder for "atif" (one file a session, sub-agents inside), else a file. "sharegpt" is a JSON
            list, or one object a line if the name ends with `.jsonl`.
        format: "atif", "chat" (OpenAI's fine-tuning format), "sharegpt" or "parquet" (one row a turn).
        project: as for `History.sessions`.
        since: as for `History.sessions`.
        where: keeps the turns for which it is true; for "atif", sessions with such a turn.
        redact: replace secrets and home folders; give a `Redactor` to choose what, False for nothing.

    Returns:
        What was written and what was redacted. Files are put in place when they are complete.

    Raises:
        ConfigurationError: there is no such format, or the path is empty.
        MissingExtraError: "parquet" without pyarrow.
    """
    if format not in FORMATS:
        raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    if not os.fspath(path):
        raise ConfigurationError("the path is empty: name the file or the folder to write")
    redactor = redact if isinstance(redact, Redactor) else Redactor() if redact else None
    report = ExportReport(redaction=redactor.report if redactor is not None else RedactionReport())
    chosen = _chosen(history, project, since, where)
    place = Path(path).expanduser()
    clean = redactor if redactor is not None else _unchanged
    if format == "atif":
        _write_atif(history, chosen, place, clean, report)
    elif format == "parquet":
        _write_parquet(chosen, place, clean, report)
    else:
        convert = to_chat if format == "chat" else to_sharegpt
        _write_lines(
            chosen, convert, place, clean, report, lines=format == "chat" or place.suffix == ".jsonl"
        )
    return report


Clean = Callable[[Any, str], Any]
Chosen = Iterator[tuple[SessionRecord, list[Turn]]]


def _unchanged(value: Any, place: str) -> Any:
    return value


def _chosen(history: History, project: Any, since: Any, where: Callable[[Turn], bool] | None) -> Chosen:
    for record in history.sessions(project=project, since=since):
        turns = [turn for turn in live(record) if where is None or where(turn)]
        if turns:
            yield record, turns


def _write_atif(history: History, chosen: Chosen, folder: Path, clean: Clean, report: ExportReport) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    embedded: set[str] = set()
    for record, _ in chosen:
        if record.id in embedded:
            continue
        embedded.update(child.id for child in history.descendants(record))
        file = folder / f"{_file_name(record.id)}.json"
        replace_file(
            file, json.dumps(clean(to_atif(record, history), record.id), ensure_ascii=False, indent=2) + "\n"
        )
        report.files.append(file)
        report.sessions += 1


def _write_lines(
    chosen: Chosen,
    convert: Callable[..., Any],
    file: Path,
    clean: Clean,
    report: ExportReport,
    *,
    lines: bool,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _drafted(file) as draft, draft.open("w", encoding="utf-8") as out:
        out.write("" if lines else "[\n")
        for record, turns in chosen:
            line = convert(record, turns=turns)
            if not next(iter(line.values())):
                continue
            separator = "" if lines or not report.sessions else ",\n"
            text = json.dumps(clean(line, record.id), ensure_ascii=False)
            out.write(separator + text + ("\n" if lines else ""))
            report.sessions += 1
        out.write("" if lines else "\n]\n")
    report.files.append(file)


def _write_parquet(chosen: Chosen, file: Path, clean: Clean, report: ExportReport) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _drafted(file) as draft, closing(parquet_file(draft)) as writer:
        waiting: list[dict[str, Any]] = []
        for record, turns in chosen:
            waiting += clean(turn_rows(record, turns), record.id)
            report.sessions += 1
            if len(waiting) >= GROUP:
                writer.write(waiting)
                waiting = []
        writer.write(waiting)
    report.files.append(file)


@contextmanager
def _drafted(file: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `file` when all went well, and is gone otherwise."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def replace_file(file: Path, text: str) -> None:
    """Write a file so that whoever looks finds the old one or the new one, whole."""
    with _drafted(file) as draft:
        draft.write_text(text, encoding="utf-8")


def _file_name(session_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in session_id).lstrip(".") or "session"
