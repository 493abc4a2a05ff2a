"""`metrics.json`, the file of a telemetry logger for skills, edits, recursive language models and intents.

It holds what OpenCode's own history cannot: accuracies, and how sure and how right a classification was. The
shape is that of the Tachikoma project's `telemetry-logger.py`. What is missing or of another type reads as 0,
None or empty; a file that is no JSON object is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_session.errors import FormatError, SourceNotFoundError
from dspy_session.opencode import _fields as read
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class SkillRun:
    """One run of a skill; durations are milliseconds."""

    timestamp: str | None
    tokens: int
    duration_ms: float
    success: bool
    iterations: int


@dataclass(frozen=True)
class SkillMetrics:
    """What was logged of a skill. `history` holds its last runs alone (the logger keeps 100)."""

    name: str
    invocations: int
    total_tokens: int
    total_duration_ms: float
    success_count: int
    total_iterations: int
    last_used: str | None
    history: tuple[SkillRun, ...] = ()


@dataclass(frozen=True)
class FormatMetrics:
    """What was logged of one way of changing files, with one model."""

    model: str
    format: str
    attempts: int
    successes: int
    total_tokens: int
    total_duration_ms: float

    @property
    def success_rate(self) -> float | None:
        """successes / attempts; None without attempts."""
        return self.successes / self.attempts if self.attempts else None


@dataclass(frozen=True)
class RlmMetrics:
    """What was logged of recursive language models: a chunk's size and time (as logged), and accuracies."""

    total_chunks: int = 0
    chunk_sizes: tuple[float, ...] = ()
    processing_times: tuple[float, ...] = ()
    parallel_runs: int = 0
    sequential_runs: int = 0
    total_tokens: int = 0
    accuracy_scores: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """The mean of the logged accuracies; None if none was logged."""
        scores = self.accuracy_scores
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True)
class IntentMetrics:
    """What was logged of the classification of intents."""

    count: int = 0
    total_confidence: float = 0.0
    correct_count: int = 0
    escalation_count: int = 0

    @property
    def confidence(self) -> float | None:
        """The mean confidence; None without classifications."""
        return self.total_confidence / self.count if self.count else None

    @property
    def correctness(self) -> float | None:
        """The share of right classifications; None without classifications."""
        return self.correct_count / self.count if self.count else None

    @property
    def escalation_rate(self) -> float | None:
        """The share that was handed to a human; None without classifications."""
        return self.escalation_count / self.count if self.count else None


@dataclass(frozen=True)
class SkillStatsRow:
    """A skill, by the logger's own reckoning."""

    skill: str = column("the skill")
    invocations: int = column("how often it ran")
    avg_tokens: float | None = column("tokens a run", "tokens")
    avg_duration_ms: float | None = column("time of a run", "ms")
    success_rate: float | None = column("share of runs that succeeded", "share")
    avg_iterations: float | None = column("iterations a run")
    last_used: str | None = column("when it last ran, as logged")
    p50_ms: float | None = column("of the runs that are kept: the one at n·50/100 by time", "ms")
    p90_ms: float | None = column("of the runs that are kept: the one at n·90/100 by time", "ms")
    p95_ms: float | None = column("of the runs that are kept: the one at n·95/100 by time", "ms")


@dataclass(frozen=True)
class Metrics:
    """A telemetry logger's file.

    Attributes:
        skills: by name.
        edits: by model and format, in the order of the file.
        rlm: recursive language models.
        intents: classifications.
        created_at: as logged.
        last_updated: as logged.
    """

    skills: Mapping[str, SkillMetrics]
    edits: tuple[FormatMetrics, ...]
    rlm: RlmMetrics
    intents: IntentMetrics
    created_at: str | None = None
    last_updated: str | None = None

    def skill_stats(self) -> Report[SkillStatsRow]:
        """The skills, those that ran most first.

        Percentiles follow the logger's rule: of n sorted durations, the one at index int(p·n/100). They are
        those of the runs that the file still holds.
        """
        rows = sorted(map(_stats, self.skills.values()), key=lambda row: (-row.invocations, row.skill))
        return Report("skill_stats", "Skills, as logged", SkillStatsRow, tuple(rows))

    def best_format(self, model: str) -> FormatMetrics | None:
        """The way of changing files with which a model succeeded most often; of equals, the more used one."""
        tried = [each for each in self.edits if each.model == model and each.attempts]
        return max(tried, key=lambda each: (each.successes / each.attempts, each.attempts), default=None)


def load_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Read a `metrics.json`.

    Raises:
        SourceNotFoundError: there is no such file.
        FormatError: it is no JSON object.
    """
    file = Path(path).expanduser()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceNotFoundError(f"{file}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise FormatError(f"{file} holds no JSON object: this is no metrics.json")
    skills = read.mapping(found.get("skills"))
    return Metrics(
        {name: _skill(name, read.mapping(each)) for name, each in skills.items()},
        tuple(_formats(read.mapping(found.get("edits")))),
        _rlm(read.mapping(found.get("rlm"))),
        _intents(read.mapping(found.get("intents"))),
        read.optional_text(found.get("created_at")),
        read.optional_text(found.get("last_updated")),
    )


def percentile(durations: Sequence[float], p: int) -> float | None:
    """Of n sorted durations the one at index int(p·n/100), `p` from 0 to 99; None of none."""
    return sorted(durations)[p * len(durations) // 100] if durations else None


def _stats(skill: SkillMetrics) -> SkillStatsRow:
    n, times = skill.invocations, [run.duration_ms for run in skill.history]
    return SkillStatsRow(
        skill.name,
        n,
        skill.total_tokens / n if n else None,
        skill.total_duration_ms / n if n else None,
        skill.success_count / n if n else None,
        skill.total_iterations / n if n else None,
        skill.last_used,
        *(percentile(times, p) for p in (50, 90, 95)),
    )


def _skill(name: str, found: Mapping[str, Any]) -> SkillMetrics:
    runs = [read.mapping(each) for each in read.items(found.get("history"))]
    return SkillMetrics(
        name,
        read.count(found.get("invocations")),
        read.count(found.get("total_tokens")),
        read.number(found.get("total_duration_ms")),
        read.count(found.get("success_count")),
        read.count(found.get("total_iterations")),
        read.optional_text(found.get("last_used")),
        tuple(
            SkillRun(
                read.optional_text(run.get("timestamp")),
                read.count(run.get("tokens")),
                read.number(run.get("duration_ms")),
                read.flag(run.get("success")),
                read.count(run.get("iterations")),
            )
            for run in runs
        ),
    )


def _formats(edits: Mapping[str, Any]) -> list[FormatMetrics]:
    return [
        FormatMetrics(
            model,
            name,
            read.count(each.get("attempts")),
            read.count(each.get("successes")),
            read.count(each.get("total_tokens")),
            read.number(each.get("total_duration_ms")),
        )
        for model, told in edits.items()
        for name, stored in read.mapping(read.mapping(told).get("format_success")).items()
        for each in [read.mapping(stored)]
    ]


def _rlm(found: Mapping[str, Any]) -> RlmMetrics:
    return RlmMetrics(
        read.count(found.get("total_chunks")),
        _numbers(found.get("chunk_sizes")),
        _numbers(found.get("processing_times")),
        read.count(found.get("parallel_runs")),
        read.count(found.get("sequential_runs")),
        read.count(found.get("total_tokens")),
        _numbers(found.get("accuracy_scores")),
    )


def _intents(found: Mapping[str, Any]) -> IntentMetrics:
    return IntentMetrics(
        read.count(found.get("count")),
        read.number(found.get("total_confidence")),
        read.count(found.get("correct_count")),
        read.count(found.get("escalation_count")),
    )


def _numbers(found: Any) -> tuple[float, ...]:
    return tuple(each for each in read.items(found) if isinstance(each, (int, float)) and each is not True)
