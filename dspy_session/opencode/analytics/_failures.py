"""Why a tool call failed, by one word."""

from __future__ import annotations

import re

from dspy_session.opencode.outcomes import REJECTIONS, SHELLS
from dspy_session.opencode.parts import ToolCall

CLASSES: dict[str, str] = {
    "permission": "the user, or a rule of the user's, did not allow it",
    "timeout": "it ran out of time",
    "aborted": "the user stopped it, or it never ended",
    "invalid": "the model called a tool that there is not, or with arguments that do not fit",
    "exit_code": "a shell command ended with another exit status than 0",
    "not_found": "a file, skill or agent is not there",
    "auth": "somebody refused to let it in",
    "network": "somebody could not be reached",
    "syntax": "something could not be parsed",
    "tool_error": "anything else",
}
"""The classes, in the order in which they are looked for."""

_SIGNS = (
    ("timeout", r"timed? ?out|deadline exceeded"),
    ("aborted", r"abort|cancell?ed|interrupted"),
    ("invalid", r"invalid arguments|unavailable tool|unknown tool"),
    ("not_found", r"not found|no such file|enoent|does not exist|unknown agent|could not find"),
    ("auth", r"unauthori[sz]ed|forbidden|\b40[13]\b|api key|permission denied|eacces"),
    ("network", r"network|econn|enotfound|eai_again|socket|fetch failed|unable to connect|\bdns\b"),
    ("syntax", r"syntax ?error|parse error|unexpected token|json parsing failed"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _SIGNS)


def error_class(call: ToolCall) -> str | None:
    """The class of a failed call; None if it succeeded or is still under way."""
    if call.succeeded:
        return None
    error = (call.error or "").removeprefix("Error: ")
    if error.startswith(REJECTIONS):
        return "permission"
    if call.tool == "invalid":
        return "invalid"
    if call.metadata.get("timeout") is True:
        return "timeout"
    if call.interrupted:
        return "aborted"
    if call.status == "completed" and call.tool in SHELLS:
        return "exit_code" if call.exit_code is not None else "aborted"
    return next((name for name, pattern in _PATTERNS if pattern.search(error)), "tool_error")
