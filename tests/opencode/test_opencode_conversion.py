"""OpenCode's history as trainsets, from the promises of the plugin's guide."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt import BootstrapFewShot
from dspy.utils import DummyLM

from dspy_session import opencode
from dspy_session.errors import ConfigurationError
from dspy_session.opencode import History

MULTI_TURN = "ses_e04b96fcfffeDvpwFe7eVcUM5g"
FORK, FORKED = "ses_e04b3a4f7ffe9zSZb0vPMAWB0C", "ses_e04b3f377ffervaXxAbGkSKM11"


def test_examples_have_the_shape_of_the_guide(new: History) -> None:
    (example,) = opencode.to_examples(new.session("ses_e04b9acfbffeLmotmnHFTzqKK2"))
    assert example.task.startswith("Stock.total_value returns 350")
    assert set(example.inputs().keys()) == {"task", "context", "history"}
    assert set(example.labels().keys()) == {"actions", "response"}
    assert json.loads(example.context)["workingDirectory"] == "/home/dev/shelf"
    assert json.loads(example.context)["projectType"] == "python"
    tools = [action["tool"] for action in json.loads(example.actions)]
    assert tools == ["todowrite", "read", "read", "bash", "edit", "bash", "todowrite"]
    assert example.history.messages == []


def test_planning_examples(new: History) -> None:
    (example,) = opencode.to_examples(new.session("ses_e04b9acfbffeLmotmnHFTzqKK2"), shape="planning")
    assert example.plan.startswith("1. todowrite\n2. read\n3. read\n")
    assert json.loads(example.tools)[:2] == ["todowrite", "read"]
    assert set(example.labels().keys()) == {"plan", "tools", "response"}


def test_raw_examples_hold_objects(new: History) -> None:
    (example,) = opencode.to_examples(new.session("ses_e04b9acfbffeLmotmnHFTzqKK2"), raw=True)
    assert example.context["projectType"] == "python"
    assert example.actions[0]["tool"] == "todowrite"


def test_history_holds_the_earlier_turns_alone(new: History) -> None:
    examples = opencode.to_examples(new.session(MULTI_TURN))
    assert [len(example.history.messages) for example in examples] == list(range(len(examples)))
    assert len(examples) >= 3
    for place, example in enumerate(examples):
        said = [message["response"] for message in example.history.messages]
        assert said == [earlier.response.strip() for earlier in examples[:place]]
        assert example.response not in said


def test_one_example_for_a_session(new: History) -> None:
    record = new.session(MULTI_TURN)
    (example,) = opencode.to_examples(record, per="session")
    assert example.task == record.turns[0].prompt
    assert example.response == record.turns[-1].response
    assert len(json.loads(example.actions)) == len(record.tool_calls)
    assert example.history.messages == []


def test_undone_turns_and_copies_are_no_examples(new: History) -> None:
    undone = new.session("ses_e04b0e2d7ffeVBMomTHVyWj7zO")
    assert any(turn.reverted for turn in undone.turns)
    assert len(opencode.to_examples(undone)) == sum(not turn.reverted for turn in undone.turns)
    tasks = [example.task for example in opencode.to_examples([new.session(FORKED), new.session(FORK)])]
    assert len(tasks) == len(set(tasks)) == 2


def test_a_fork_and_its_source_are_one_conversation(new: History) -> None:
    examples = opencode.to_examples(new)
    groups: dict[str, set[str]] = {}
    for record in new.sessions():
        for turn in record.turns:
            for example in examples:
                if example["dspy_session_turn"] == turn.user.id:
                    groups.setdefault(example["dspy_session_conversation"], set()).add(record.id)
    assert groups[FORKED] == {FORKED, FORK}
    subagents = next(ids for ids in groups.values() if "ses_e04b80112ffeFYffwlWmMMkkl4" in ids)
    assert len(subagents) == 3


def test_failures_are_kept_unless_filtered(new: History) -> None:
    everything = opencode.to_examples(new)
    good = opencode.to_examples(new, where=opencode.succeeded)
    bad = opencode.to_examples(new, where=opencode.failed)
    assert len(good) + len(bad) == len(everything)
    assert good
    assert bad
    assert all(example["dspy_session_success"] for example in good)


def test_wrong_choices_are_refused(new: History) -> None:
    with pytest.raises(ConfigurationError, match="shape"):
        opencode.to_examples(new, shape="plans")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="per"):
        opencode.to_examples(new, per="week")  # type: ignore[arg-type]


def test_everything_but_the_conversion_works_without_dspy() -> None:
    program = """
import sys
sys.modules["dspy"] = None
import dspy_session.opencode as opencode
import pkgutil, importlib
for module in pkgutil.walk_packages(opencode.__path__, "dspy_session.opencode."):
    if module.name != "dspy_session.opencode.conversion":
        importlib.import_module(module.name)
assert callable(opencode.quality) and callable(opencode.open_source) and callable(opencode.load_training_data)
assert not any(name.split(".")[0] == "dspy" and loaded for name, loaded in sys.modules.items())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_public_names_are_there() -> None:
    for name in opencode.__all__:
        assert getattr(opencode, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = opencode.no_such_name


LONG = "I've fixed the rounding of totals in the report module and ran all of the unit tests again."


def write_logs(folder: Path) -> Path:
    """Twelve sessions as the plugin writes them: two formats, some failed, some inefficient."""
    logs = folder / ".opencode-logs"
    logs.mkdir()
    for number in range(12):
        good, calls = number % 4 != 3, 3 if number % 3 else 9
        outcome = {
            "success": good,
            "taskCompleted": good,
            "metrics": {
                "filesModified": 1,
                "timeToCompletion": 20.0 + number,
                "toolCallCount": calls,
                "tokenCost": {"input": 100, "output": 50, "cache": {"read": 10, "write": 0}},
            },
            "evaluation": {"correctness": 1 if good else 0.3, "efficiency": min(1, 3 / calls)},
        }
        tools = ["read", "edit", "bash", *["grep"] * (calls - 3)]
        example = {
            "input": {"task": f"Fix report {number}", "context": {"workingDirectory": "/work"}},
            "actions": [
                {
                    "step": step,
                    "tool": tool,
                    "args": {},
                    "timestamp": "2025-11-28T13:25:38.695Z",
                    "result": "ok",
                }
                for step, tool in enumerate(tools, 1)
            ],
            "output": {"response": LONG, "finalMessage": f"msg_{number}"},
            "outcome": outcome,
            "agent": {"model": "lab/large"},
            "metadata": {"sessionId": f"ses_{number}", "timestamp": "2025-11-28T13:25:54.720Z"},
        }
        stored: dict[str, Any] = {"session": f"ses_{number}", "generated": "2025-11-28T13:26:00.715Z"}
        stored |= {"overallSuccess": good} if number % 2 else {"outcome": outcome}
        stored["examples"] = [example]
        (logs / f"dspy-ses_{number}.json").write_text(json.dumps(stored))
    (logs / "dspy-broken.json").write_text('{"session": "ses_x", "examples": [')
    return logs


def test_the_loaders_give_the_guides_numbers(tmp_path: Path) -> None:
    logs = write_logs(tmp_path)
    with pytest.warns(opencode.SkippedRecordWarning, match=r"dspy-broken\.json"):
        examples = opencode.load_training_data(logs)
    assert len(examples) == 9
    strict = [
        ex
        for ex in examples
        if ex["outcome"]["evaluation"]["correctness"] >= 1.0
        and ex["outcome"]["evaluation"]["efficiency"] > 0.7
    ]
    assert strict == [ex for ex in examples if opencode.quality(correctness=1.0, efficiency=0.7)(ex)]
    assert len(strict) == 6
    assert opencode.compute_efficiency(examples) == {
        "avg_tools": 5.0,
        "avg_time": pytest.approx(25.0),
        "avg_files_modified": 1.0,
        "avg_tokens": 150.0,
    }
    assert opencode.compute_efficiency([])["avg_tools"] == 0.0


def test_tool_patterns_are_counted_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(opencode.SkippedRecordWarning):
        examples = opencode.load_training_data(write_logs(tmp_path))
    patterns = opencode.analyze_tool_patterns(examples)
    assert patterns.counts["read"] == 9
    assert patterns.sequences["read", "edit", "bash"] == 6
    assert "  read -> edit -> bash: 6" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::dspy_session.opencode.sources.base.SkippedRecordWarning")
def test_logs_and_history_meet_in_one_filter(tmp_path: Path) -> None:
    history = opencode.open_source(write_logs(tmp_path))
    wanted = opencode.quality(correctness=1.0, efficiency=0.7)
    from_records = opencode.to_examples(history, where=wanted)
    loaded = [each for each in opencode.load_training_data(tmp_path / ".opencode-logs") if wanted(each)]
    assert sorted(e.task for e in from_records) == sorted(e["input"]["task"] for e in loaded)
    first = {example.task: example for example in from_records}["Fix report 1"]
    assert (
        json.loads(first.actions)
        == loaded[[e["input"]["task"] for e in loaded].index("Fix report 1")]["actions"]
    )


def answers(*, response: str) -> DummyLM:
    reply = {"reasoning": "Look, edit, test.", "actions": '[{"tool": "read"}]', "response": response}
    return DummyLM([reply] * 200)


@pytest.mark.filterwarnings("ignore::dspy_session.opencode.sources.base.SkippedRecordWarning")
def test_the_workflow_of_the_guide(tmp_path: Path) -> None:
    """Load, filter, split, compile, evaluate against the baseline, save, load, hand back to OpenCode."""
    examples = opencode.load_dspy_examples(write_logs(tmp_path))
    assert set(examples[0].inputs().keys()) == {"task", "context"}
    split = int(len(examples) * 0.8)
    train, val = examples[:split], examples[split:]
    agent = opencode.CodingAgent()
    with dspy.context(lm=answers(response="Too short.")):
        baseline = opencode.compute_success_rate(agent, val)
    with dspy.context(lm=answers(response=LONG)):
        optimizer = BootstrapFewShot(
            metric=opencode.evaluate_solution, max_bootstrapped_demos=4, max_labeled_demos=2
        )
        optimized = optimizer.compile(agent, trainset=train)
        rate = opencode.compute_success_rate(optimized, val)
        scores = [opencode.quality_score(ex, optimized(**ex.inputs())) for ex in val]
    assert (baseline, rate) == (0.0, 1.0)
    assert scores == [pytest.approx((0.5 + 1 + 1) / 3)] * len(val)
    demos = optimized.generate_solution.predict.demos
    assert len(demos) == 4

    optimized.save(tmp_path / "agent.json")
    loaded = opencode.CodingAgent()
    loaded.load(tmp_path / "agent.json")
    assert len(loaded.generate_solution.predict.demos) == 4
    written = opencode.write_agent(loaded, tmp_path, description='Fixes: "reports"', tools={"write": False})
    assert written == tmp_path / ".opencode" / "agent" / "coding-agent.md"
    text = written.read_text()
    assert text.startswith(
        '---\ndescription: "Fixes: \\"reports\\""\nmode: "all"\ntools: {"write": false}\n---\n'
    )
    assert "Solve a coding task" in text
    assert text.count("## Example ") == 4
    command = opencode.write_command(loaded, tmp_path, description="Fix", max_demos=1)
    assert command.read_text().endswith("## Task\n\n$ARGUMENTS\n")


@pytest.mark.filterwarnings("ignore::dspy_session.opencode.sources.base.SkippedRecordWarning")
def test_the_planning_agent_is_trained_likewise(tmp_path: Path) -> None:
    examples = opencode.examples_with_planning(write_logs(tmp_path))
    assert examples[0].plan.splitlines()[:3] == ["1. read", "2. edit", "3. bash"]
    reply = {"reasoning": "r", "plan": "1. read", "tools": '["read"]', "response": LONG}
    with dspy.context(lm=DummyLM([reply] * 50)):
        optimizer = BootstrapFewShot(metric=opencode.evaluate_solution, max_bootstrapped_demos=3)
        optimized = optimizer.compile(opencode.PlanningAgent(), trainset=examples)
    assert any(demo.get("augmented") for demo in optimized.planner.predict.demos)


def test_an_agent_is_shown_the_conversation_so_far(new: History) -> None:
    last = opencode.to_examples(new.session(MULTI_TURN))[-1]
    lm = answers(response=LONG)
    with dspy.context(lm=lm):
        opencode.CodingAgent()(**last.inputs())
    sent = lm.history[-1]["messages"]
    assert [message["role"] for message in sent[1:]] == ["user", "assistant"] * len(last.history.messages) + [
        "user"
    ]


def test_metrics() -> None:
    def prediction(response: str, actions: Any) -> dspy.Prediction:
        return dspy.Prediction(response=response, actions=actions)

    assert opencode.evaluate_solution(None, prediction("x" * 50, "[1]"))
    assert not opencode.evaluate_solution(None, prediction("x" * 49, "[1]"))
    assert not opencode.evaluate_solution(None, prediction("x" * 50, "[]"))
    assert not opencode.evaluate_solution(None, prediction("x" * 50, "no JSON"))
    assert opencode.quality_score(None, prediction("x" * 101, "[1]")) == 1.0
    assert opencode.quality_score(None, prediction("an error", "[1,2,3,4,5,6]")) == pytest.approx(0.5 / 3)
    assert opencode.compute_success_rate(lambda **_: prediction("x" * 51, [1]), []) == 0


def test_outliers_are_dropped() -> None:
    def made(calls: int, seconds: float) -> dict[str, Any]:
        metrics = {"timeToCompletion": seconds}
        return {"actions": [{"tool": "read"}] * calls, "outcome": {"metrics": metrics}}

    usual = [made(3 + n % 2, 20.0 + n) for n in range(10)]
    kept = opencode.without_outliers([*usual, made(90, 22.0), made(3, 4000.0)])
    assert kept == usual
    assert opencode.without_outliers(usual[:3]) == usual[:3]
