"""A conversation with OpenCode goes on as a session."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_session import opencode
from dspy_session.errors import ConfigurationError
from dspy_session.opencode import History

MULTI_TURN = "ses_e04b96fcfffeDvpwFe7eVcUM5g"


def look(path: str) -> str:
    """Look at a file."""
    return f"content of {path}"


def test_turns_become_turns_of_the_session(new: History) -> None:
    record = new.session(MULTI_TURN)
    chat = opencode.seed_session(dspy.Predict("task, context -> response"), record)
    assert [turn.inputs["task"] for turn in chat.turns] == [turn.prompt for turn in record.turns]
    assert [turn.outputs["response"] for turn in chat.turns] == [turn.response for turn in record.turns]


def test_the_session_goes_on_and_is_exported_like_any(new: History) -> None:
    record = new.session(MULTI_TURN)
    chat = opencode.seed_session(dspy.Predict("task, context -> response"), record)
    model = DummyLM([{"response": "It is done."}] * 3)
    with dspy.context(lm=model):
        assert chat(task="Is it done?", context="{}").response == "It is done."
    sent = "\n".join(message["content"] for message in model.history[-1]["messages"])
    assert all(turn.response[:40] in sent for turn in record.turns)
    assert len(chat.turns) == len(record.turns) + 1
    fork = chat.fork()
    fork.undo(1)
    assert len(fork.turns) == len(record.turns)
    examples = chat.to_examples()
    assert len(examples[-1].history.messages) == len(record.turns)


def test_a_react_program_is_seeded(new: History) -> None:
    program = dspy.ReAct("task, context -> response", tools=[look])
    chat = opencode.seed_session(program, new.session(MULTI_TURN))
    assert chat.turns[0].outputs["response"]


def test_fields_are_matched_by_name_or_as_told(new: History) -> None:
    record = new.session("ses_e04b9acfbffeLmotmnHFTzqKK2")
    (turn,) = opencode.seed_session(dspy.Predict("question -> answer"), record).turns
    assert turn.inputs == {"question": record.turns[0].prompt}
    assert turn.outputs == {"answer": record.turns[0].response}
    (turn,) = opencode.seed_session(dspy.Predict("wish -> reasoning, fulfilment"), record).turns
    assert turn.inputs == {"wish": record.turns[0].prompt}
    assert turn.outputs["fulfilment"] == record.turns[0].response
    assert turn.outputs["reasoning"].startswith("The user says the total is wrong.")
    told: dict[str, Any] = {
        "goal": "prompt",
        "count": lambda turn: str(len(turn.tool_calls)),
        "end": "response",
    }
    program = dspy.Predict("goal -> count, end")
    (turn,) = opencode.seed_session(program, record, fields=told).turns
    assert turn.outputs == {"count": "7", "end": record.turns[0].response}


def test_wrong_fields_are_refused(new: History) -> None:
    record, program = new.session(MULTI_TURN), dspy.Predict("question -> answer")
    with pytest.raises(ConfigurationError, match=r"not in the module's signature: \['reply'\]"):
        opencode.seed_session(program, record, fields={"reply": "response"})
    with pytest.raises(ConfigurationError, match="none of"):
        opencode.seed_session(program, record, fields={"answer": "respons"})


def test_undone_turns_are_not_seeded(new: History) -> None:
    record = new.session("ses_e04b0e2d7ffeVBMomTHVyWj7zO")
    chat = opencode.seed_session(dspy.Predict("question -> answer"), record)
    assert len(chat.turns) == 1 < len(record.turns)


def test_a_fork_is_seeded_with_what_it_copied(new: History) -> None:
    record = new.session("ses_e04b3a4f7ffe9zSZb0vPMAWB0C")
    assert record.is_fork
    chat = opencode.seed_session(dspy.Predict("question -> answer"), record)
    assert len(chat.turns) == 2


def test_a_conversation_as_initial_history(new: History) -> None:
    record = new.session(MULTI_TURN)
    chat = opencode.seed_session(dspy.Predict("question -> answer"), record, as_history=True)
    assert len(chat.turns) == 0
    model = DummyLM([{"answer": "Yes."}])
    with dspy.context(lm=model):
        chat(question="And now?")
    assert record.turns[0].prompt in str(model.history[-1]["messages"])


def test_examples_are_split_by_conversation(new: History) -> None:
    examples = opencode.to_examples(new)
    train, val = opencode.split_examples(examples, ratio=0.8, seed=3)
    assert (train, val) == opencode.split_examples(examples, ratio=0.8, seed=3)
    assert len(train) + len(val) == len(examples)
    groups = [{e["dspy_session_conversation"] for e in part} for part in (train, val)]
    assert groups[0] & groups[1] == set()
    folds = opencode.kfold_examples(examples, k=3, seed=1)
    assert sorted(e["dspy_session_turn"] for _, held in folds for e in held) == sorted(
        e["dspy_session_turn"] for e in examples
    )
