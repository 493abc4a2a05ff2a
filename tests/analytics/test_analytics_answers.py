"""The answers on one session: their shapes, to the key, and what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opencode_recordings import unpack

from dspy_session.errors import UnknownPathError
from dspy_session.opencode import History, open_source
from dspy_session.opencode.analytics.answers import Answers
from dspy_session.opencode.analytics.warehouse import Warehouse


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with open_source(unpack("v1.18.33", tmp_path_factory.mktemp("recording"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(history: History) -> Iterator[Answers]:
    warehouse = Warehouse()
    warehouse.sync(history)
    yield Answers(warehouse)
    warehouse.close()


def titled(history: History, title: str) -> str:
    return next(record.id for record in history.sessions() if record.title == title)


def keys(value: Any) -> Any:
    """The keys of an answer, with those of the first of each list."""
    if isinstance(value, dict):
        return {name: keys(each) for name, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [keys(value[0])]
    return None


TOKENS = dict.fromkeys(("input", "output", "reasoning", "cache_read", "cache_write"))
SHAPES = {
    "get_session_reasoning": {
        "meta": dict.fromkeys(("session_id", "count", "generated_at")),
        "summary": dict.fromkeys(("total_entries", "signed_entries", "total_chars")),
        "details": [dict.fromkeys(("id", "text", "signature", "timestamp", "has_signature"))],
    },
    "get_session_steps": {
        "meta": dict.fromkeys(("session_id", "count", "generated_at")),
        "summary": dict.fromkeys(
            (
                "total_steps",
                "total_cost",
                "total_tokens_input",
                "total_tokens_output",
                "total_tokens_reasoning",
                "total_tokens",
            )
        ),
        "details": [
            {
                **dict.fromkeys(("id", "event_type", "reason", "snapshot_hash", "cost")),
                "tokens": TOKENS,
                "timestamp": None,
            }
        ],
    },
    "get_session_git_history": {
        "meta": dict.fromkeys(("session_id", "commits", "generated_at")),
        "summary": dict.fromkeys(("total_commits", "unique_files", "files_list")),
        "details": [dict.fromkeys(("id", "hash", "files", "file_count", "timestamp"))],
    },
    "get_session_precise_cost": {
        "meta": dict.fromkeys(("session_id", "source", "generated_at")),
        "precise": dict.fromkeys(
            (
                "cost_usd",
                "tokens_input",
                "tokens_output",
                "tokens_reasoning",
                "tokens_cache_read",
                "tokens_cache_write",
                "step_count",
            )
        ),
        "estimated": dict.fromkeys(("cost_usd", "tokens_input", "tokens_output")),
        "comparison": dict.fromkeys(("difference_usd", "difference_pct", "has_precise_data")),
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str, answers: Answers, history: History) -> None:
    answer = getattr(answers, name)(titled(history, "Fix total_value quantity bug"))
    assert keys(answer) == SHAPES[name]
    assert json.loads(json.dumps(answer)) == answer


def test_steps_have_the_tokens_of_the_records(answers: Answers, history: History) -> None:
    for record in history.sessions():
        answer = answers.get_session_steps(record.id)
        ends = [step for step in record.steps if step.finish is not None and not step.copied]
        finished = [each for each in answer["details"] if each["event_type"] == "finish"]
        assert [each["tokens"]["cache_read"] for each in finished] == [s.tokens.cache_read for s in ends]
        assert [each["cost"] for each in finished] == [step.cost for step in ends]
        assert answer["summary"]["total_steps"] == len(ends)
        assert answer["summary"]["total_cost"] == pytest.approx(sum(step.cost for step in ends), abs=1e-6)
        assert answer["summary"]["total_tokens"] == sum(
            step.tokens.input + step.tokens.output + step.tokens.reasoning for step in ends
        )


def test_precise_cost_is_that_of_the_steps(answers: Answers, history: History) -> None:
    for record in history.sessions():
        answer = answers.get_session_precise_cost(record.id)
        ends = [step for step in record.steps if step.finish is not None and not step.copied]
        assert answer["precise"]["cost_usd"] == pytest.approx(sum(step.cost for step in ends), abs=1e-6)
        assert answer["precise"]["tokens_cache_read"] == sum(step.tokens.cache_read for step in ends)
        assert answer["meta"]["source"] == ("step_events" if ends else "messages")
        assert answer["comparison"]["has_precise_data"] is bool(ends)


def test_a_session_without_ends_is_not_given_those_of_its_messages(answers: Answers) -> None:
    answer = answers.get_session_precise_cost("ses_none", strict=False)
    assert answer["meta"]["source"] == "messages"
    assert answer["precise"]["cost_usd"] == 0


@pytest.mark.parametrize("name", SHAPES)
def test_an_unknown_session(name: str, answers: Answers) -> None:
    with pytest.raises(UnknownPathError, match="ses_none"):
        getattr(answers, name)("ses_none")
    assert getattr(answers, name)("ses_none", strict=False)["meta"]["error"]


def test_sources_are_not_needed_any_more(tmp_path: Path) -> None:
    path = unpack("v1.3.2", tmp_path)
    with open_source(path) as history:
        warehouse = Warehouse()
        warehouse.sync(history)
        ids = [record.id for record in history.sessions()]
    path.unlink()
    assert [Answers(warehouse).get_session_steps(each)["meta"]["session_id"] for each in ids] == ids
    warehouse.close()
