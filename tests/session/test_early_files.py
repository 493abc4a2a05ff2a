"""Data of early versions, brought to the present one; and data that is none."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_session.codec.upgrades import checked
from dspy_session.errors import FormatError, UnsupportedVersionError

TURN = {"inputs": {"q": 1}, "outputs": {"a": 2}, "history_snapshot": {"messages": [{"q": 0}]}, "score": 0.5}


def test_a_state_of_the_first_version_and_its_nodes() -> None:
    node = {"turns": [{"inputs": None}], "l2_memory": "n"}
    data = {"turns": [TURN], "initial_history": {"messages": [{"q": "s"}]}, "node_states": {"a": node}}
    early = {"exact": False, "early": True}
    turn = {"inputs": {"q": 1}, "outputs": {"a": 2}, "index": 0, "score": 0.5, **early}
    expected = {
        "version": 3,
        "turns": [{**turn, "written_snapshot": [{"values": {"q": 0}, "inputs": None}]}],
        "initial_history": [{"values": {"q": "s"}, "inputs": None}],
    }
    bare = {"inputs": {}, "outputs": {}, "index": 0, "score": None, "written_snapshot": None, **early}
    inner = {"version": 3, "turns": [bare], "l2_memory": "n", "initial_history": None, "node_states": {}}
    for version in ({}, {"version": 1}, {"version": 2}):
        assert checked({**data, **version}, "session state") == {**expected, "node_states": {"a": inner}}


def test_a_state_may_have_a_memory_alone() -> None:
    assert checked({"l2_memory": "tea"}, "session state")["turns"] == []
    with pytest.raises(FormatError, match=r"^this is no session state: it has no list of turns$"):
        checked({"memory": "tea"}, "session state")


def test_an_option_under_its_early_name() -> None:
    early: dict[str, Any] = {"turns": [], "input_field_override": ["q"]}
    assert checked(early, "session")["history_input_fields"] == ["q"]
    assert checked({**early, "history_input_fields": ["p"]}, "session")["history_input_fields"] == ["p"]
    assert "history_input_fields" not in checked({"turns": []}, "session")


def test_the_present_version_stays_as_it_is() -> None:
    data = {"version": 3, "turns": [1], "node_states": 4}
    assert checked(data, "session") == data
    assert checked(data, "session") is not data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "^a thing is a JSON object, not a list$"),
        ({"version": "2", "turns": []}, "^this is no thing: its version is '2'$"),
        ({"version": True, "turns": []}, "^this is no thing: its version is True$"),
        ({"turns": {}}, "^this is no thing: it has no list of turns$"),
        ({"turns": [3]}, "^this is no thing: turn 0 is a int$"),
        ({"turns": [], "node_states": [1]}, "^this is no thing: node_states is a list$"),
        ({"turns": [], "node_states": {"a": {"turns": [3]}}}, "^this is no thing: turn 0 is a int$"),
        ({"turns": [], "initial_history": 3}, "^this is no thing: a history must be an object"),
        (
            {"turns": [], "initial_history": {"messages": [3]}},
            "^this is no thing: a history must be an object",
        ),
        (
            {"turns": [{"history_snapshot": {"messages": 3}}]},
            "^this is no thing: a history must be an object",
        ),
    ],
)
def test_what_is_no_such_data(data: Any, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        checked(data, "thing")


@pytest.mark.parametrize(("version", "more"), [(0, "3$"), (4, r"3 \(a newer release wrote it\)$")])
def test_versions_that_this_release_cannot_read(version: int, more: str) -> None:
    with pytest.raises(
        UnsupportedVersionError, match=f"^Unsupported thing version: {version}; .* 1 to {more}"
    ):
        checked({"version": version, "turns": []}, "thing")
