"""A fresh recording of the real OpenCode: our reading agrees with requests, `export` and `stats`."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_opencode_prompts import by_prompt, stored_part_of

from dspy_session.opencode import History, open_source
from dspy_session.opencode.tokens import total_usage

sys.path.insert(0, str(Path(__file__).parent / "recorder"))

WANTED = os.environ.get("OPENCODE_BINARY") or os.environ.get("OPENCODE_RECORD")
pytestmark = pytest.mark.skipif(
    not WANTED,
    reason="set OPENCODE_BINARY to a program, or OPENCODE_RECORD to a release (or latest) of OpenCode",
)


@dataclass
class Recording:
    history: History
    requests: list[dict[str, Any]]
    program: Any


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    from program import fetch
    from scenarios import record
    from scripted_model import Script, ScriptedModel

    folder, script = tmp_path_factory.mktemp("recording"), Script()
    named = os.environ.get("OPENCODE_BINARY")
    program = Path(named) if named else fetch(str(WANTED), folder / "program")
    with ScriptedModel(script) as model:
        running = record(program, folder / "run", model.url, script)
    with open_source(running.data) as history:
        yield Recording(history, script.requests, running)


def test_prompts_equal_the_requests(recording: Recording) -> None:
    prompts = by_prompt(recording.history)
    asked = [request for request in recording.requests if request["kind"] in ("main", "sub")]
    missed = []
    for request in asked:
        found = prompts.get(json.dumps(stored_part_of(request["messages"]), sort_keys=True), [])
        if not any(request["session"] in (None, record.id) for record, _ in found):
            missed.append(request["script"])
    print(f"{len(asked) - len(missed)} of {len(asked)} requests agree; others: {missed}")
    # Only the turn that was undone and then deleted is not stored any more.
    assert missed == ["reverts"]


def test_the_recording_holds_what_it_should(recording: Recording) -> None:
    records = list(recording.history.sessions())
    kinds = Counter(turn.kind for record in records for turn in record.turns)
    assert set(kinds) == {"prompt", "subtask", "shell", "compaction"}
    assert any(record.is_fork for record in records)
    assert any(record.is_child for record in records)
    assert any(record.revert for record in records)
    assert {use.how for record in records for use in record.skills} == {"tool", "command"}
    assert any(message.error and message.error.aborted for record in records for message in record.messages)
    assert any(call.interrupted for record in records for call in record.tool_calls)
    assert recording.history.skipped == ()


def test_exports_equal_what_the_database_holds(recording: Recording, tmp_path: Path) -> None:
    for record in recording.history.sessions():
        file = tmp_path / f"{record.id}.json"
        file.write_text(recording.program.run("export", record.id))
        (exported,) = open_source(file).sessions()
        assert exported.messages == record.messages


def test_totals_equal_those_of_stats(recording: Recording) -> None:
    records = list(recording.history.sessions())
    shown = recording.program.run("stats", "--tools", "50", "--models")
    numbers = dict(re.findall(r"│\s?([A-Za-z ]+?)\s+\$?([\d.,]+[KM]?)\s*│", shown.split("MODEL USAGE")[0]))
    assert int(numbers["Sessions"]) == len(records)
    assert int(numbers["Messages"]) == sum(len(record.messages) for record in records)
    everything = total_usage(step.usage for record in records for step in record.steps)
    assert float(numbers["Total Cost"]) == pytest.approx(everything.cost, abs=0.005)
    tools = dict(re.findall(r"│ (\S+)\s+█+\s+(\d+) \(", shown))
    ours = Counter(call.tool for record in records for call in record.tool_calls)
    assert {name: int(count) for name, count in tools.items()} == dict(ours)


SUMS = ", ".join(
    f"coalesce(sum({name}), 0) AS {name}"
    for name in (
        "cost",
        "tokens_input",
        "tokens_output",
        "tokens_reasoning",
        "tokens_cache_read",
        "tokens_cache_write",
    )
)


def shortened(count: float) -> str:
    """A number as `opencode stats` prints it."""
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f}M"
    return f"{count / 1000:.1f}K" if count >= 1000 else f"{count:.0f}"


def test_the_overview_is_that_of_stats_but_for_copies(recording: Recording) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed: dspy-session[analytics]")
    from dspy_session.opencode.analytics.reports import Reports
    from dspy_session.opencode.analytics.warehouse import Warehouse

    warehouse = Warehouse()
    warehouse.sync(recording.history)
    (overview,) = Reports(warehouse).overview().rows
    # A fork repeats messages of another session, whose tokens were spent there: stats counts them twice.
    (copied,) = warehouse.query(f"SELECT {SUMS} FROM steps WHERE copied")
    (messages,) = warehouse.query("SELECT count(*) AS n FROM messages WHERE copied")
    (spent,) = warehouse.query(
        "SELECT avg(n) AS mean, quantile_cont(n, 0.5) AS median FROM (SELECT coalesce(sum(tokens_input + tokens_output "
        "+ tokens_reasoning + tokens_cache_read + tokens_cache_write), 0) AS n FROM sessions s "
        "LEFT JOIN steps t ON t.session_id = s.id GROUP BY s.id)"
    )
    shown = recording.program.run("stats", "--models").split("MODEL USAGE")[0]
    numbers = dict(re.findall(r"│\s?([A-Za-z /]+?)\s+\$?([\d.,]+[KM]?)\s*│", shown))
    assert messages["n"] > 0
    assert int(numbers["Sessions"]) == overview.sessions
    assert int(numbers["Messages"]) == overview.messages + messages["n"]
    assert int(numbers["Days"]) == overview.days
    assert float(numbers["Total Cost"]) == pytest.approx(overview.cost + copied["cost"], abs=0.005)
    for name in ("Input", "Output", "Cache Read", "Cache Write"):
        column = f"tokens_{name.lower().replace(' ', '_')}"
        assert numbers[name] == shortened(getattr(overview, column) + copied[column])
    assert numbers["Avg Tokens/Session"] == shortened(spent["mean"])
    assert numbers["Median Tokens/Session"] == shortened(spent["median"])
