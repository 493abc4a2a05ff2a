"""What recursive language models did, by the calls that a session recorded.

`dspy.RLM` writes code that looks at a long input piece by piece and asks a model about the pieces. A `Session`
with `record="calls"` keeps each predictor's call, and what all calls of models took together; a query that the
code itself makes (`llm_query`) is no predictor's call, so neither its size nor its time is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, Protocol

from dspy_session.opencode.analytics.reporting import Report, column

Mode = Literal["parallel", "sequential", "both"]

_BATCHED = re.compile(r"\bllm_query_batched\s*\(")
_SINGLE = re.compile(r"\bllm_query\s*\(")


class RecordedCall(Protocol):
    """What is looked at of a predictor's call: `dspy_session.turns.Call` has it."""

    @property
    def path(self) -> str | None: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...
    @property
    def outputs(self) -> Mapping[str, Any]: ...
    @property
    def seconds(self) -> float | None: ...


class RecordedTurn(Protocol):
    """What is looked at of a turn: `dspy_session.Turn` has it."""

    @property
    def index(self) -> int: ...
    @property
    def calls(self) -> tuple[RecordedCall, ...]: ...
    @property
    def usage(self) -> Any: ...
    @property
    def score(self) -> float | None: ...
    @property
    def created_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class RlmRow:
    """A turn of a program that works through its input piece by piece. Empty: nothing that is recorded tells."""

    turn_index: int = column("the turn, from 0")
    recorded_at: datetime | None = column("when it was recorded (UTC)")
    predictor_calls: int = column("calls of predictors")
    iterations: int = column("of these, those that wrote code")
    chunks: int | None = column("calls of the predictor that works on a chunk")
    chunk_chars: tuple[int, ...] = column("characters that each of these was given", "characters")
    mean_chunk_chars: float | None = column("characters of a chunk, on average", "characters")
    chunk_ms: tuple[float, ...] = column("how long each of these took; nothing for those of old files", "ms")
    mean_chunk_ms: float | None = column("how long a chunk took, on average", "ms")
    mode: Mode | None = column("how the code asked: llm_query_batched is parallel, llm_query sequential")
    parallel_runs: int = column("pieces of code that ask about several things at once")
    sequential_runs: int = column("pieces of code that ask one by one")
    model_calls: int | None = column("calls of models, the code's own queries included")
    queries: int | None = column(
        "calls of models that no predictor stands for: the code's own, and calls repeated for their format"
    )
    prompt_tokens: int | None = column("tokens sent", "tokens")
    completion_tokens: int | None = column("tokens received", "tokens")
    tokens_a_call: float | None = column("tokens sent and received by a call of a model", "tokens")
    cost: float | None = column("as DSPy reckons it", "USD")
    accuracy: float | None = column("the turn's score, as a human or a metric gave it")


def rlm_report(turns: Any, *, chunks: str | None = None) -> Report[RlmRow]:
    """What was done in each turn, in order; turns without recorded calls are left out.

    Args:
        turns: a `Session` that was built with `record="calls"`, its state, or a list of turns. A saved session
            is loaded first, by `Session.load`.
        chunks: for programs that give each chunk to a predictor: the predictor's path, as `summarize`.
    """
    given: Iterable[RecordedTurn] = getattr(turns, "turns", turns)
    rows = tuple(_row(turn, chunks) for turn in given if turn.calls)
    return Report("rlm", "Work on long inputs", RlmRow, rows)


def _row(turn: RecordedTurn, chunks: str | None) -> RlmRow:
    usage, calls = turn.usage, turn.calls
    code = [str(call.outputs["code"]) for call in calls if call.outputs.get("code")]
    parallel = sum(bool(_BATCHED.search(each)) for each in code)
    sequential = sum(bool(_SINGLE.search(each)) for each in code)
    pieces = [call for call in calls if chunks is not None and call.path == chunks]
    sizes = tuple(_size(call.inputs) for call in pieces)
    times = tuple(call.seconds * 1000 for call in pieces if call.seconds is not None)
    asked = None if usage is None else usage.calls
    tokens = None if usage is None else usage.prompt_tokens + usage.completion_tokens
    at = turn.created_at
    return RlmRow(
        turn_index=turn.index,
        recorded_at=None if at is None else at.astimezone(timezone.utc).replace(tzinfo=None),
        predictor_calls=len(calls),
        iterations=len(code),
        chunks=None if chunks is None else len(sizes),
        chunk_chars=sizes,
        mean_chunk_chars=sum(sizes) / len(sizes) if sizes else None,
        chunk_ms=times,
        mean_chunk_ms=sum(times) / len(times) if times else None,
        mode=_mode(parallel, sequential),
        parallel_runs=parallel,
        sequential_runs=sequential,
        model_calls=asked,
        queries=None if asked is None else max(0, asked - len(calls)),
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        tokens_a_call=tokens / asked if tokens is not None and asked else None,
        cost=None if usage is None else usage.cost,
        accuracy=turn.score,
    )


def _mode(parallel: int, sequential: int) -> Mode | None:
    if parallel and sequential:
        return "both"
    return "parallel" if parallel else "sequential" if sequential else None


def _size(inputs: Mapping[str, Any]) -> int:
    return sum(len(value) if isinstance(value, str) else len(str(value)) for value in inputs.values())
