"""One row a turn, as Parquet: for notebooks and data tools."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dspy_session.opencode._arrow import ParquetWriter
from dspy_session.opencode.grouping import live
from dspy_session.opencode.outcomes import outcome
from dspy_session.opencode.plugin_format import actions
from dspy_session.opencode.records import SessionRecord, Turn

Json = dict[str, Any]

COLUMNS: dict[str, str] = {
    "session_id": "string",
    "parent_id": "string",
    "turn": "int64",
    "kind": "string",
    "directory": "string",
    "title": "string",
    "version": "string",
    "agent": "string",
    "model": "string",
    "started": "timestamp[ms, tz=UTC]",
    "seconds": "double",
    "task": "string",
    "response": "string",
    "tools": "list<string>",
    "actions": "string (JSON)",
    "steps": "int64",
    "success": "bool",
    "signal": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "reasoning_tokens": "int64",
    "cache_read_tokens": "int64",
    "cache_write_tokens": "int64",
    "cost": "double (US dollars)",
}
"""The columns, with their types."""


def turn_rows(record: SessionRecord, turns: Iterable[Turn] | None = None) -> list[Json]:
    """The turns of a session as rows with the keys of `COLUMNS`; `started` in ms since the epoch."""
    return [_row(record, turn) for turn in (live(record) if turns is None else turns)]


def _row(record: SessionRecord, turn: Turn) -> Json:
    used, came = turn.usage.tokens, outcome(turn)
    last = turn.replies[-1] if turn.replies else turn.user
    return {
        "session_id": record.id,
        "parent_id": record.parent_id,
        "turn": turn.index,
        "kind": turn.kind,
        "directory": record.directory,
        "title": record.title,
        "version": record.version,
        "agent": last.agent,
        "model": last.model,
        "started": turn.started,
        "seconds": turn.duration,
        "task": turn.prompt,
        "response": turn.response,
        "tools": [call.tool for call in turn.tool_calls],
        "actions": json.dumps(actions(turn), ensure_ascii=False),
        "steps": len(turn.steps),
        "success": came.success,
        "signal": came.signal,
        "input_tokens": used.input,
        "output_tokens": used.output,
        "reasoning_tokens": used.reasoning,
        "cache_read_tokens": used.cache_read,
        "cache_write_tokens": used.cache_write,
        "cost": turn.usage.cost,
    }


def parquet_file(path: Path) -> ParquetWriter:
    """A file to write such rows to.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    return ParquetWriter(path, {name: kind.split(" (")[0] for name, kind in COLUMNS.items()}, "parquet")
