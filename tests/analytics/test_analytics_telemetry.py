"""What OpenCode's history cannot hold: a telemetry logger's file, and calls that a session recorded."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.primitives.code_interpreter import FinalOutput
from dspy.utils import DummyLM
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_session import Session
from dspy_session.errors import FormatError, SourceNotFoundError
from dspy_session.opencode.analytics.rlm import rlm_report
from dspy_session.opencode.analytics.skill_files import known_skills
from dspy_session.opencode.analytics.telemetry_file import load_metrics, percentile
from dspy_session.testing.lm import ScriptedLM

RUNS = [
    {"timestamp": "2026-01-01T00:00:00", "tokens": 300, "duration_ms": time, "success": True, "iterations": 1}
    for time in (1400, 900, 1900)
]
METRICS: dict[str, Any] = {
    "skills": {
        "code-agent": {
            "invocations": 3,
            "total_tokens": 900,
            "total_duration_ms": 4200,
            "success_count": 2,
            "total_iterations": 4,
            "last_used": "2026-01-02T00:00:00",
            "history": RUNS,
        },
        "idle": {},
    },
    "edits": {
        "lab/large": {
            "format_success": {
                "diff": {"attempts": 4, "successes": 3, "total_tokens": 10, "total_duration_ms": 20},
                "whole": {"attempts": 1, "successes": 0},
            },
            "format_usage": {},
            "total_attempts": 5,
            "total_success": 3,
        }
    },
    "rlm": {
        "total_chunks": 2,
        "chunk_sizes": [100, 300],
        "processing_times": [1.5, 2.5],
        "parallel_runs": 1,
        "sequential_runs": 1,
        "total_tokens": 50,
        "accuracy_scores": [0.5, 1.0],
    },
    "intents": {"count": 4, "total_confidence": 3.0, "correct_count": 2, "escalation_count": 1},
    "created_at": "2026-01-01T00:00:00",
    "last_updated": "2026-01-02T00:00:00",
}


def written(folder: Path, value: Any) -> Path:
    path = folder / "metrics.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_metrics(tmp_path: Path) -> None:
    metrics = load_metrics(written(tmp_path, METRICS))
    row = next(row for row in metrics.skill_stats() if row.skill == "code-agent")
    assert (row.invocations, row.avg_tokens, row.avg_duration_ms) == (3, 300, 1400)
    assert row.success_rate == pytest.approx(2 / 3)
    assert (row.p50_ms, row.p90_ms, row.p95_ms) == (1400, 1900, 1900)
    best = metrics.best_format("lab/large")
    assert best is not None
    assert (best.format, best.success_rate) == ("diff", 0.75)
    assert metrics.best_format("nobody") is None
    assert (metrics.rlm.chunk_sizes, metrics.rlm.accuracy) == ((100, 300), 0.75)
    assert (metrics.intents.confidence, metrics.intents.correctness) == (0.75, 0.5)
    assert metrics.intents.escalation_rate == 0.25


def test_what_was_not_logged_is_absent(tmp_path: Path) -> None:
    metrics = load_metrics(written(tmp_path, {}))
    assert (metrics.rlm.accuracy, metrics.intents.confidence, metrics.intents.correctness) == (None,) * 3
    assert len(metrics.skill_stats()) == 0
    idle = load_metrics(written(tmp_path, METRICS)).skill_stats().rows[-1]
    assert (idle.skill, idle.avg_tokens, idle.p50_ms) == ("idle", None, None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
odd = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(METRICS, anything)
    | {
        "skills": st.dictionaries(
            st.text(max_size=3),
            st.fixed_dictionaries({}, optional=dict.fromkeys(METRICS["skills"]["code-agent"], anything)),
        )
    },
)


@settings(max_examples=60, deadline=None)
@given(odd)
def test_any_object_can_be_read(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    metrics = load_metrics(written(tmp_path_factory.mktemp("odd"), value))
    assert isinstance(metrics.skill_stats().to_dicts(), list)


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_no_metrics(text: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"metrics\.json"):
        load_metrics(written(tmp_path, text))
    with pytest.raises(SourceNotFoundError):
        load_metrics(tmp_path / "none.json")


@given(st.lists(st.integers(0, 100), min_size=1), st.sampled_from([50, 90, 95]))
def test_percentiles(times: list[int], p: int) -> None:
    assert percentile(times, p) == sorted(times)[int(p * len(times) / 100)]


class Reader(dspy.Module):
    """Writes code, then looks at each piece of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.generate_action = dspy.Predict("question -> reasoning, code")
        self.summarize = dspy.Predict("chunk -> summary")
        self.extract = dspy.Predict("question -> answer")

    def forward(self, question: str, text: str) -> Any:
        self.generate_action(question=question)
        for place in range(0, len(text), 4):
            self.summarize(chunk=text[place : place + 4])
        return self.extract(question=question)


def test_recorded_calls_of_a_long_reader() -> None:
    answers = [{"reasoning": "r", "code": "out = llm_query_batched(parts)"}]
    answers += [{"summary": "s"}] * 3 + [{"answer": "a"}]
    session = Session(Reader(), record="calls")
    with dspy.context(lm=DummyLM(answers)):
        session(question="?", text="abcdefghij")
    session.turns[0].score = 0.5
    row = rlm_report(session, chunks="summarize").row
    assert (row.predictor_calls, row.iterations, row.chunks) == (5, 1, 3)
    assert row.chunk_chars == (4, 4, 2)
    assert len(row.chunk_ms) == 3
    assert row.mean_chunk_ms == sum(row.chunk_ms) / 3 > 0
    assert (row.mode, row.parallel_runs, row.sequential_runs) == ("parallel", 1, 0)
    assert row.accuracy == 0.5
    usage = session.turns[0].usage
    assert usage is not None
    assert (row.model_calls, row.queries, row.prompt_tokens) == (5, 0, usage.prompt_tokens)


class Interpreter:
    """Runs what the model writes, here and now."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}

    def start(self) -> None: ...

    def shutdown(self) -> None: ...

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        submitted: list[Any] = []
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(code, {**self.tools, **(variables or {}), "SUBMIT": lambda **given: submitted.append(given)})
        return FinalOutput(submitted[0]) if submitted else shown.getvalue()


def test_a_recursive_language_model() -> None:
    written = [
        "pieces = [text[at : at + 4] for at in range(0, len(text), 4)]\nprint(llm_query_batched(pieces))",
        "print(llm_query('all of it: ' + text))",
        "SUBMIT(answer='read')",
    ]

    def answer(chat: Any, names: list[str]) -> Any:
        return {"reasoning": "r", "code": written.pop(0)} if names else "a summary"

    session = Session(dspy.RLM("text -> answer", interpreter_factory=Interpreter), record="calls")
    with dspy.context(lm=ScriptedLM(answer)):
        assert session(text="abcdefghij").answer == "read"
    row = rlm_report(session).row
    assert (row.predictor_calls, row.iterations, row.model_calls, row.queries) == (3, 3, 7, 4)
    assert (row.mode, row.parallel_runs, row.sequential_runs) == ("both", 1, 1)
    assert (row.chunks, row.chunk_chars, row.chunk_ms) == (None, (), ())


def test_turns_without_recorded_calls_tell_nothing() -> None:
    session = Session(Reader())
    answers = [{"reasoning": "r", "code": "c"}, {"summary": "s"}, {"answer": "a"}]
    with dspy.context(lm=DummyLM(answers)):
        session(question="?", text="abc")
    assert rlm_report(session).rows == ()


def test_known_skills(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "repo" / "below"
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    places = {
        project / ".opencode" / "skill" / "one": "---\nname: first\ndescription: d\n---\n",
        tmp_path / "repo" / ".opencode" / "skills" / "group" / "two": "no head",
        tmp_path / "repo" / ".claude" / "skills" / "three": "---\nname: 'third'\n---\nname: other\n",
        tmp_path / ".opencode" / "skills" / "outside": "",
        home / ".config" / "opencode" / "skills" / "four": "",
        home / ".claude" / "skills" / "five": "",
    }
    for folder, text in places.items():
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(text, encoding="utf-8")
    project.mkdir(exist_ok=True)
    assert known_skills(project, home=home) == ("first", "five", "four", "third", "two")
