"""Which files a tool call read, wrote or edited, and what it changed in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dspy_session.opencode import _fields as read
from dspy_session.opencode.parts import ToolCall

Operation = Literal["read", "write", "edit"]

OPERATIONS: dict[str, Operation] = {
    "read": "read",
    "write": "write",
    "edit": "edit",
    "multiedit": "edit",
    "patch": "edit",
    "apply_patch": "edit",
}
"""The tools that work on files that they name."""

_HEADER = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class FileOperation:
    """One file that a tool call worked on."""

    operation: Operation
    path: str
    additions: int | None = None
    deletions: int | None = None
    diff: str | None = None


def operations(call: ToolCall, tool: str, files: Sequence[str]) -> Iterator[FileOperation]:
    """The files that a call worked on, in order; none for tools that do not name files.

    Args:
        call: the call.
        tool: its tool.
        files: the paths that it names.
    """
    operation = OPERATIONS.get(tool)
    if operation is None:
        return
    recorded = call.metadata
    listed = [read.mapping(each) for each in read.items(recorded.get("files"))]
    if listed:
        yield from (_changed(operation, each) for each in listed)
    elif isinstance(call.input.get("patchText"), str):
        for path in _HEADER.findall(call.input["patchText"]):
            yield FileOperation(operation, path)
    elif files and ("filediff" in recorded or "diff" in recorded):
        change = read.mapping(recorded.get("filediff"))
        yield _changed(operation, {"diff": recorded.get("diff"), **change, "file": files[0]})
    elif files:
        yield FileOperation(operation, files[0])


def _changed(operation: Operation, change: Mapping[str, Any]) -> FileOperation:
    path = read.text(change.get("filePath")) or read.text(change.get("file"))
    diff = read.optional_text(change.get("patch")) or read.optional_text(change.get("diff"))
    if diff is None and isinstance(change.get("before"), str) and isinstance(change.get("after"), str):
        diff = _diff(path, change["before"], change["after"])
    added, deleted = (read.optional_count(change.get(name)) for name in ("additions", "deletions"))
    return FileOperation(operation, path, added, deleted, diff)


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="")
    return "\n".join(lines) + "\n"
