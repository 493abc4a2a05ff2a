"""The DSPy logging plugin's judgement of a turn, formula by formula, as one named scorer.

The formulas are those of the plugin's formats 1.2 and 1.3 (checked against its real files). They believe what
the model says of itself ("I've fixed …"); `outcomes` looks at what happened instead. Where a turn was read
from the plugin's own file, its recorded judgement is given back as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.outcomes import GOOD_FINISHES
from dspy_session.opencode.records import Turn
from dspy_session.opencode.tokens import Tokens

COMPLETION_PHRASES = (
    "I've completed",
    "I've successfully",
    "I've removed",
    "I've added",
    "I've fixed",
    "I've updated",
    "Done",
    "Complete",
    "Successfully",
    "All files have been",
    "Task finished",
    "Finished",
    "All set",
    "Ready to use",
    "has been fixed",
    "issue has been",
    "The fix has been",
)
"""A reply that holds one of these, in any case, claims that the task is completed."""

_TASK_TYPES = (
    ("delete", ("remove", "delete")),
    ("fix", ("fix", "error")),
    ("add", ("add", "create")),
    ("refactor", ("refactor", "improve")),
    ("test", ("test",)),
)
_IDEAL_CALLS = {"delete": 2, "fix": 3, "add": 4}
_WRITERS = frozenset({"edit", "write", "bash"})
SLOWEST = 300.0
"""Turns that took this many seconds or more were not saved by the plugin."""


@dataclass(frozen=True)
class Evaluation:
    """The plugin's judgement of a turn.

    Attributes:
        task_type: delete, fix, add, refactor, test or general, by words of the prompt.
        success: claimed as completed, with tools, without errors, and ended of itself.
        task_completed: the model claims that the task is completed.
        correctness: 1.0 for success, 0.7 if claimed only, 0.3 otherwise.
        efficiency: the ideal number of calls (2 to 4, by task type) over the real one, within 0.1 to 1.
        minimal_edits: 3 over the number of files modified, at most 1; 1 if none was.
        files_modified: files named in the arguments of edit, write and bash, one more for a removal by bash.
        tool_calls: how many.
        tokens: the sums over the replies.
        cache_hit_rate: cache read over input and cache read, 0 to 1.
        seconds: from the prompt to the end of the last reply; 0 if it never ended.
    """

    task_type: str
    success: bool
    task_completed: bool
    correctness: float
    efficiency: float
    minimal_edits: float
    files_modified: int
    tool_calls: int
    tokens: Tokens
    cache_hit_rate: float
    seconds: float

    @property
    def saved(self) -> bool:
        """True if the plugin would have saved the turn for training."""
        fast = self.seconds < SLOWEST
        return self.success and self.task_completed and self.tool_calls >= 1 and fast


def evaluate(turn: Turn) -> Evaluation:
    """The plugin's judgement of a turn: recorded, if the turn comes from its files; else computed."""
    recorded = read.mapping(turn.user.raw.get("dspy")).get("outcome")
    if isinstance(recorded, dict):
        return recorded_evaluation(recorded, turn.prompt)
    calls = turn.tool_calls
    kind = task_type(turn.prompt)
    completed = claims_completion(message.said for message in turn.replies)
    success = completed and _sound(turn)
    modified = files_modified(turn)
    tokens = turn.usage.tokens
    return Evaluation(
        task_type=kind,
        success=success,
        task_completed=completed,
        correctness=1.0 if success else 0.7 if completed else 0.3,
        efficiency=efficiency(kind, len(calls)),
        minimal_edits=min(1.0, 3 / modified) if modified else 1.0,
        files_modified=modified,
        tool_calls=len(calls),
        tokens=tokens,
        cache_hit_rate=_ratio(tokens.cache_read, tokens.input + tokens.cache_read),
        seconds=turn.duration or 0.0,
    )


def recorded_evaluation(outcome: Mapping[str, Any], prompt: str) -> Evaluation:
    """The judgement in an `outcome` object of the plugin's files; what it lacks reads as 0."""
    metrics, judged = read.mapping(outcome.get("metrics")), read.mapping(outcome.get("evaluation"))
    spent = read.mapping(metrics.get("tokenCost"))
    cache = read.mapping(spent.get("cache"))
    tokens = Tokens(
        read.count(spent.get("input")),
        read.count(spent.get("output")),
        0,
        read.count(cache.get("read")),
        read.count(cache.get("write")),
    )
    hits = read.optional_number(metrics.get("cacheHitRate"))
    return Evaluation(
        task_type=task_type(prompt),
        success=outcome.get("success") is True,
        task_completed=outcome.get("taskCompleted", outcome.get("success")) is True,
        correctness=read.number(judged.get("correctness")),
        efficiency=read.number(judged.get("efficiency")),
        minimal_edits=read.number(judged.get("minimalEdits")),
        files_modified=read.count(metrics.get("filesModified")),
        tool_calls=read.count(metrics.get("toolCallCount")),
        tokens=tokens,
        cache_hit_rate=_ratio(tokens.cache_read, tokens.input + tokens.cache_read) if hits is None else hits,
        seconds=read.number(metrics.get("timeToCompletion")),
    )


@dataclass(frozen=True)
class Quality:
    """A filter by the plugin's judgement; see `quality`."""

    correctness: float | None = None
    efficiency: float | None = None
    minimal_edits: float | None = None
    seconds: float | None = None

    def __call__(self, turn: Turn | Mapping[str, Any]) -> bool:
        """True for a turn (or an example of the plugin's files) that is good enough."""
        if isinstance(turn, Turn):
            return self._passes(evaluate(turn))
        given = read.mapping(turn.get("input")).get("task")
        return self._passes(recorded_evaluation(read.mapping(turn.get("outcome")), read.text(given)))

    def _passes(self, judged: Evaluation) -> bool:
        return (
            (self.correctness is None or judged.correctness >= self.correctness)
            and (self.efficiency is None or judged.efficiency > self.efficiency)
            and (self.minimal_edits is None or judged.minimal_edits >= self.minimal_edits)
            and (self.seconds is None or judged.seconds < self.seconds)
        )


def quality(
    *,
    correctness: float | None = None,
    efficiency: float | None = None,
    minimal_edits: float | None = None,
    seconds: float | None = None,
) -> Quality:
    """A filter for `where=`: turns that the plugin's formulas judge good enough.

    Args:
        correctness: at least this (1.0 means success).
        efficiency: more than this.
        minimal_edits: at least this.
        seconds: done in less than this.
    """
    return Quality(correctness, efficiency, minimal_edits, seconds)


def task_type(prompt: str) -> str:
    """What kind of task a prompt sets, by its words; the first kind that fits."""
    lowered = prompt.lower()
    return next((kind for kind, words in _TASK_TYPES if any(w in lowered for w in words)), "general")


def efficiency(kind: str, calls: int) -> float:
    """The ideal number of tool calls for a kind of task over the real one, within 0.1 to 1."""
    return min(1.0, max(0.1, _IDEAL_CALLS.get(kind, 3) / calls)) if calls else 0.1


def claims_completion(texts: Any) -> bool:
    """True if one of the texts says that the task is completed."""
    lowered = [text.lower() for text in texts]
    return any(phrase.lower() in text for phrase in COMPLETION_PHRASES for text in lowered)


def files_modified(turn: Turn) -> int:
    """How many files the turn changed, as the plugin counts."""
    files: set[str] = set()
    for call in turn.tool_calls:
        if call.tool in _WRITERS and isinstance(call.input.get("filePath"), str):
            files.add(call.input["filePath"])
        if call.tool == "bash" and "rm" in read.text(call.input.get("command")):
            files.add("bash-delete")
    return len(files)


def clean_task(text: str) -> str:
    """A prompt without what OpenCode wrote into it for attached files, as the plugin cleans it."""
    lines = text.split("\n")
    if len(lines) > 1 and "Called the" in lines[1]:
        text = lines[0]
    text = re.sub(r"Called the .+ tool.*$", "", text, flags=re.DOTALL)
    return re.sub(r"<file>.*?</file>", "", text, flags=re.DOTALL).strip()


def _sound(turn: Turn) -> bool:
    """No errors, tools used in the session, more than one message, and a last reply that ended of itself."""
    if any(message.error for message in turn.replies) or not turn.replies:
        return False
    session = turn.session
    called = bool(session.tool_calls) if session is not None else bool(turn.tool_calls)
    return called and len(turn.messages) >= 2 and turn.replies[-1].finish in GOOD_FINISHES


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
