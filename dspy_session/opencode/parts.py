"""The parts of a message: text, reasoning, tool calls, files, steps, and the marks between them.

Field names follow OpenCode's own schema (releases 0.1 to 1.18); times are milliseconds since the epoch.
A part of a type that this release does not know is an `UnknownPart`, with all its fields in `raw`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from dspy_session.opencode import _fields as read
from dspy_session.opencode._fields import Field, Record

ToolStatus = Literal["pending", "running", "completed", "error"]

# fmt: off
BUILTIN_TOOLS = frozenset([
    "apply_patch", "bash", "codesearch", "edit", "execute", "glob", "grep", "invalid", "list",
    "list_mcp_resource_templates", "list_mcp_resources", "lsp", "multiedit", "patch", "plan_enter",
    "plan_exit", "question", "read", "read_mcp_resource", "skill", "StructuredOutput", "task",
    "todoread", "todowrite", "webfetch", "websearch", "write",
])
# fmt: on
"""OpenCode's own tools. Any other name is a tool of an MCP server (`<server>_<tool>`) or a plugin."""


class Failure(Record):
    """An error that OpenCode recorded for a message, a retry or a compaction."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("name", "message")
    name = Field(read.text, "name", doc="Its kind: APIError, MessageAbortedError, ContextOverflowError, …")
    message = Field(read.text, "data", "message", doc="What the provider or OpenCode said.")
    status_code = Field(read.optional_count, "data", "statusCode", doc="The HTTP status, for an APIError.")
    retryable = Field(read.flag, "data", "isRetryable", doc="Whether OpenCode would try again.")

    @property
    def aborted(self) -> bool:
        """True if the user stopped the reply."""
        return self.name == "MessageAbortedError"


def optional_failure(value: Any) -> Failure | None:
    """The error object as a `Failure`, or None where there is none."""
    return Failure(value) if isinstance(value, dict) and value else None


class Part(Record):
    """What all parts have."""

    __slots__ = ()
    id = Field(read.text, "id", doc="OpenCode's id of the part.")
    message_id = Field(read.text, "messageID", doc="The message that it belongs to.")
    session_id = Field(read.text, "sessionID", doc="The session that it belongs to.")
    type = Field(read.text, "type", doc="OpenCode's name for this kind of part.")


class TextPart(Part):
    """Text of the user or of the model."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("text", "synthetic")
    text = Field(read.text, "text", doc="The text.")
    synthetic = Field(read.flag, "synthetic", doc="Made by OpenCode: the model saw it, nobody typed it.")
    ignored = Field(read.flag, "ignored", doc="Shown to the user, never sent to the model.")
    started = Field(read.optional_count, "time", "start", doc="When the model began it (ms).")
    ended = Field(read.optional_count, "time", "end", doc="When the model ended it (ms).")
    metadata = Field(read.mapping, "metadata", doc="What the provider added.")

    @property
    def cut(self) -> bool:
        """True if the stream broke off before this text was whole."""
        return self.started is not None and self.ended is None


class ReasoningPart(Part):
    """What the model thought before it wrote or acted."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("text",)
    text = Field(read.text, "text", doc="The thinking, as far as the provider shows it.")
    started = Field(read.optional_count, "time", "start", doc="When it began (ms).")
    ended = Field(read.optional_count, "time", "end", doc="When it ended (ms).")
    metadata = Field(read.mapping, "metadata", doc="What the provider added.")

    @property
    def signature(self) -> str | None:
        """Anthropic's signature of the thinking, if it was stored."""
        return read.optional_text(read.mapping(self.metadata.get("anthropic")).get("signature"))


class FilePart(Part):
    """An attachment of a message or of a tool's result."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("mime", "filename")
    mime = Field(read.text, "mime", doc="Its media type.")
    filename = Field(read.optional_text, "filename", doc="Its name, if it has one.")
    url = Field(read.text, "url", doc="A `file:` url, or the content itself as a `data:` url.")
    source = Field(
        read.mapping, "source", doc="What the user pointed at: a file, a symbol or an MCP resource."
    )
    synthetic = Field(read.flag, "synthetic", doc="Attached by OpenCode, not by the user.")

    @property
    def inlined(self) -> bool:
        """True if OpenCode sends the content as text parts beside it, and not the file itself."""
        return self.mime in ("text/plain", "application/x-directory")

    @property
    def size(self) -> int | None:
        """Bytes of the content, if the part carries it."""
        head, comma, body = self.url.partition(",")
        if not comma or not head.startswith("data:"):
            return None
        return len(body) * 3 // 4 - body[-2:].count("=") if head.endswith(";base64") else len(body)


_WANTED_TEXT = re.compile(r"JSON parsing failed: Text: (.*)\.\nError message: ", re.DOTALL)


class ToolCall(Part):
    """One call of a tool by the model (or, without a model, by the user or OpenCode)."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("tool", "status", "input")
    tool = Field(read.text, "tool", doc="The tool's name. `invalid` if the model's call could not be read.")
    call_id = Field(read.text, "callID", doc="The provider's id of the call.")
    input = Field(read.mapping, "state", "input", doc="The arguments.")
    output = Field(read.optional_text, "state", "output", doc="What the tool gave back; None if it did not.")
    error = Field(read.optional_text, "state", "error", doc="Why the call failed; None if it did not.")
    title = Field(read.optional_text, "state", "title", doc="OpenCode's heading for the call.")
    metadata = Field(read.mapping, "state", "metadata", doc="What the tool recorded besides its output.")
    started = Field(read.optional_count, "state", "time", "start", doc="When it began (ms).")
    ended = Field(read.optional_count, "state", "time", "end", doc="When it ended (ms).")
    pruned = Field(
        read.optional_count,
        "state",
        "time",
        "compacted",
        doc="Since when the model no longer sees the output (ms).",
    )

    @property
    def status(self) -> ToolStatus:
        """How far it got. Calls of a killed OpenCode stay `pending` or `running` for ever."""
        stored = read.mapping(self.raw.get("state")).get("status")
        if stored == "completed" or stored == "error" or stored == "running":
            return stored  # type: ignore[no-any-return]
        return "pending"

    @property
    def interrupted(self) -> bool:
        """True if it never ended, or was aborted."""
        return self.status in ("pending", "running") or read.flag(self.metadata.get("interrupted"))

    @property
    def duration(self) -> float | None:
        """Seconds from start to end."""
        started, ended = self.started, self.ended
        return None if started is None or ended is None else max(0, ended - started) / 1000

    @property
    def exit_code(self) -> int | None:
        """A shell command's exit status; None for other tools, and after a timeout or an abort."""
        return read.optional_count(self.metadata.get("exit"))

    @property
    def attachments(self) -> tuple[FilePart, ...]:
        """Files that the tool gave back."""
        stored = read.mapping(self.raw.get("state")).get("attachments")
        return tuple(FilePart(each) for each in read.items(stored) if isinstance(each, dict))

    @property
    def succeeded(self) -> bool:
        """True if the tool did what was asked.

        OpenCode calls a shell command `completed` whatever its exit status, and a call that it could not
        read too; neither counts as success here, nor does a command that ran out of time or was stopped.
        """
        if self.status != "completed" or self.tool == "invalid":
            return False
        recorded = self.metadata
        return recorded.get("exit", 0) == 0 and recorded.get("timeout") is not True

    @property
    def builtin(self) -> bool:
        """True for OpenCode's own tools; a tool of an MCP server cannot be told by its shape."""
        return self.tool in BUILTIN_TOOLS

    @property
    def requested_tool(self) -> str:
        """The tool that the model asked for, also where OpenCode recorded the call as `invalid`."""
        return read.text(self.input.get("tool")) or self.tool if self.tool == "invalid" else self.tool

    @property
    def requested_arguments(self) -> str | None:
        """The arguments of an `invalid` call as the model wrote them, where the error still quotes them."""
        found = _WANTED_TEXT.search(read.text(self.input.get("error"))) if self.tool == "invalid" else None
        return found.group(1) if found else None

    @property
    def child_session_id(self) -> str | None:
        """The sub-agent's session, for a `task` call."""
        named = read.optional_text(self.metadata.get("sessionId")) or read.optional_text(
            self.metadata.get("sessionID")
        )
        if named is None and self.tool == "task":
            found = re.match(r'<task id="(ses_[^"]+)"', self.output or "")
            return found.group(1) if found else None
        return named

    @property
    def files(self) -> tuple[str, ...]:
        """The paths that the call names in its arguments, in order."""
        given, changed = self.input, self.metadata.get("files")
        named = [given.get(key) for key in ("filePath", "path", "file", "filepath")]
        patched = [read.mapping(each).get("filePath") for each in read.items(changed)] if changed else ()
        return tuple(dict.fromkeys(each for each in (*named, *patched) if isinstance(each, str) and each))


class StepStart(Part):
    """A call of the model begins."""

    __slots__ = ()
    snapshot = Field(read.optional_text, "snapshot", doc="The git tree of the work folder before the step.")


class StepFinish(Part):
    """A call of the model ended, with what it used."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("reason", "cost")
    reason = Field(
        read.optional_text, "reason", doc="Why it ended: stop, tool-calls, length, content-filter, unknown."
    )
    snapshot = Field(read.optional_text, "snapshot", doc="The git tree of the work folder after the step.")
    cost = Field(read.number, "cost", doc="US dollars, as stored.")
    tokens = Field(
        read.mapping, "tokens", doc="Token counts, as stored; `Step.usage` brings them to one meaning."
    )


class PatchPart(Part):
    """Files changed in a step."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("files",)
    hash = Field(read.text, "hash", doc="The git tree (not a commit) before the change.")
    files = Field(read.texts, "files", doc="Absolute paths.")


class SnapshotPart(Part):
    """The git tree of the work folder at this place, in the oldest releases."""

    __slots__ = ()
    snapshot = Field(read.text, "snapshot", doc="The tree's hash.")


class AgentPart(Part):
    """The user mentioned an agent, as `@explore`."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("name",)
    name = Field(read.text, "name", doc="The agent.")


class SubtaskPart(Part):
    """The user ran a command that starts a sub-agent."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("agent", "prompt")
    agent = Field(read.text, "agent", doc="The sub-agent.")
    prompt = Field(read.text, "prompt", doc="What it was told.")
    description = Field(read.text, "description", doc="The task's heading.")
    command = Field(read.optional_text, "command", doc="The command that the user typed.")


class RetryPart(Part):
    """The provider failed and OpenCode tried again."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("attempt", "error")
    attempt = Field(read.count, "attempt", doc="Which try failed, from 1.")
    error = Field(optional_failure, "error", doc="Why.")
    created = Field(read.optional_count, "time", "created", doc="When (ms).")


class CompactionPart(Part):
    """From here on the model sees a summary in place of what came before."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("auto", "overflow")
    auto = Field(read.flag, "auto", doc="OpenCode did it by itself, because the context was nearly full.")
    overflow = Field(read.flag, "overflow", doc="The provider had refused the request as too long.")
    tail_start_id = Field(
        read.optional_text, "tail_start_id", doc="The first message that the model still sees whole."
    )


class UnknownPart(Part):
    """A part of a type that this release does not know."""

    __slots__ = ()
    shown: ClassVar[tuple[str, ...]] = ("type",)


PART_TYPES: Mapping[str, type[Part]] = {
    "text": TextPart,
    "reasoning": ReasoningPart,
    "file": FilePart,
    "tool": ToolCall,
    "step-start": StepStart,
    "step-finish": StepFinish,
    "patch": PatchPart,
    "snapshot": SnapshotPart,
    "agent": AgentPart,
    "subtask": SubtaskPart,
    "retry": RetryPart,
    "compaction": CompactionPart,
}


def part(raw: Mapping[str, Any]) -> Part:
    """The record for a part's JSON object."""
    kind = raw.get("type")
    return (PART_TYPES.get(kind, UnknownPart) if isinstance(kind, str) else UnknownPart)(raw)
