"""Examples as plain dictionaries, in the DSPy logging plugin's format: load, filter, count.

They come from the plugin's files or from OpenCode's own history, and are handled alike.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_session.errors import SourceFormatError, SourceNotFoundError
from dspy_session.opencode import _fields as read
from dspy_session.opencode.grouping import live
from dspy_session.opencode.history import History
from dspy_session.opencode.plugin_format import example
from dspy_session.opencode.plugin_scores import evaluate
from dspy_session.opencode.records import SessionRecord
from dspy_session.opencode.sources.base import Skips
from dspy_session.opencode.sources.plugin_log import PluginLogSource

Json = dict[str, Any]
Logs = str | os.PathLike[str] | History | Iterable[SessionRecord]


def load_training_data(logs_dir: Logs = ".opencode-logs") -> list[Json]:
    """All examples of sessions that succeeded.

    Args:
        logs_dir: a folder with the plugin's `dspy-*.json` of any format; or a `History` or sessions, of which
            the turns are taken that the plugin would have saved.

    Returns:
        Examples as the plugin writes them: `input`, `actions`, `output`, `outcome`, `agent`, `metadata`.
        Files that cannot be read are left out with a warning.

    Raises:
        SourceNotFoundError: there is no such folder.
    """
    if isinstance(logs_dir, (str, os.PathLike)):
        good = (stored for stored in _files(Path(logs_dir)) if session_succeeded(stored))
        return [each for stored in good for each in stored["examples"]]
    records = logs_dir.sessions() if isinstance(logs_dir, History) else logs_dir
    return [each for record in records for each in saved_examples(record)]


def saved_examples(record: SessionRecord) -> list[Json]:
    """The turns of a session that the plugin would have saved, as examples."""
    return [example(turn) for turn in live(record) if turn.kind == "prompt" and evaluate(turn).saved]


def session_succeeded(stored: Mapping[str, Any]) -> bool:
    """Whether the session of one of the plugin's files succeeded, in whichever format it is written."""
    if "overallSuccess" in stored:
        return stored["overallSuccess"] is True
    outcome = read.mapping(stored.get("outcome"))
    return outcome.get("success") is True and outcome.get("taskCompleted", True) is True


def _files(folder: Path) -> Iterator[Json]:
    folder = folder.expanduser()
    if not folder.is_dir():
        raise SourceNotFoundError(f"{folder}: no such folder")
    skips = Skips()
    for file in sorted(folder.glob("dspy-*.json")):
        source = PluginLogSource(file)
        source.skips = skips
        try:
            stored = source.read()
        except SourceFormatError as error:
            skips.add(file, None, str(error))
            continue
        yield {**stored, "examples": source.examples(stored)}


@dataclass(frozen=True)
class ToolPatterns:
    """Which tools are used, and in which order.

    Attributes:
        counts: calls by tool.
        sequences: examples by the sequence of their tools.
    """

    counts: Counter[str]
    sequences: Counter[tuple[str, ...]]

    def __str__(self) -> str:
        tools = [f"  {tool}: {n}" for tool, n in self.counts.most_common(10)]
        orders = [f"  {' -> '.join(tools)}: {n}" for tools, n in self.sequences.most_common(5)]
        return "\n".join(["Most common tools:", *tools, "", "Most common tool sequences:", *orders])


def analyze_tool_patterns(examples: Iterable[Mapping[str, Any]]) -> ToolPatterns:
    """Count tools and sequences of tools in examples, and print the most common.

    Returns:
        The counts.
    """
    counts: Counter[str] = Counter()
    sequences: Counter[tuple[str, ...]] = Counter()
    for each in examples:
        tools = tools_of(each)
        counts.update(tools)
        sequences[tools] += 1
    found = ToolPatterns(counts, sequences)
    print(found)
    return found


def tools_of(example: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools that an example's actions use, in order."""
    return tuple(read.text(read.mapping(action).get("tool")) for action in read.items(example.get("actions")))


def compute_efficiency(examples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over examples; zeros for none.

    Returns:
        `avg_tools`, `avg_time` (seconds), `avg_files_modified`, `avg_tokens` (input and output).
    """
    totals = {"avg_tools": 0.0, "avg_time": 0.0, "avg_files_modified": 0.0, "avg_tokens": 0.0}
    for each in examples:
        metrics = read.mapping(read.mapping(each.get("outcome")).get("metrics"))
        tokens = read.mapping(metrics.get("tokenCost"))
        totals["avg_tools"] += len(tools_of(each))
        totals["avg_time"] += read.number(metrics.get("timeToCompletion"))
        totals["avg_files_modified"] += read.number(metrics.get("filesModified"))
        totals["avg_tokens"] += read.number(tokens.get("input")) + read.number(tokens.get("output"))
    return {name: total / len(examples) if examples else 0.0 for name, total in totals.items()}


def plan_of(tools: Sequence[str]) -> str:
    """Tools as a numbered plan, one a line."""
    return "\n".join(f"{number}. {tool}" for number, tool in enumerate(tools, 1)) or "No tools needed"


def without_outliers(
    examples: Sequence[Mapping[str, Any]], *, spread: float = 1.5, fewest: int = 4
) -> list[Mapping[str, Any]]:
    """Examples that are neither very long nor very short, by tool calls and by seconds.

    Tukey's rule: kept is what lies within `spread` interquartile ranges of the middle half.

    Args:
        spread: how far, in interquartile ranges.
        fewest: with fewer examples than this, all are kept.
    """
    if len(examples) < fewest:
        return list(examples)
    sizes = [[len(tools_of(each)), _seconds(each)] for each in examples]
    bounds = [_fences(sorted(column), spread) for column in zip(*sizes, strict=True)]
    inside = [all(low <= n <= high for n, (low, high) in zip(size, bounds, strict=True)) for size in sizes]
    return [each for each, kept in zip(examples, inside, strict=True) if kept]


def _seconds(example: Mapping[str, Any]) -> float:
    metrics = read.mapping(read.mapping(example.get("outcome")).get("metrics"))
    return read.number(metrics.get("timeToCompletion"))


def _fences(ordered: Sequence[float], spread: float) -> tuple[float, float]:
    lower, upper = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    return lower - spread * (upper - lower), upper + spread * (upper - lower)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest values."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
