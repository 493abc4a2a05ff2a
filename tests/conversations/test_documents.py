"""What a store is given of a conversation, and what of it comes back."""

from __future__ import annotations

import warnings

import dspy
import pytest

from dspy_session import SessionState, sessionify, with_memory
from dspy_session.codec.wire import VERSION
from dspy_session.errors import UnsupportedVersionError

from .programs import chat, planned, questions


class Opaque:
    """Of a type that no store keeps."""


def test_a_conversation_keeps_its_identity_and_its_seed(memory, lm):
    seed = dspy.History(messages=[{"question": "seed", "answer": "told"}])
    app = chat(initial_history=seed)
    with app.conversation("k", store=memory) as talk:
        app(question="one")
        identity = talk.state.conversation_id
    head = memory.load("k").head
    assert list(head) == ["version", "conversation", "history_field", "turns", "initial_history"]
    assert (head["version"], head["conversation"], head["history_field"]) == (VERSION, identity, "history")
    assert [message["values"] for message in head["initial_history"]] == seed.messages
    with chat().conversation("k", store=memory) as talk:
        assert talk.state.conversation_id == identity
        assert talk.state.initial_history.messages == seed.messages


def test_a_newer_conversation_is_refused(memory, lm):
    memory.create("k", {"version": VERSION + 1, "conversation": "c", "turns": []})
    with (
        pytest.raises(UnsupportedVersionError, match="stored conversation version"),
        chat().conversation("k", store=memory),
    ):
        raise AssertionError("entered")


def test_recorded_calls_come_back(memory, lm):
    def app():
        return sessionify(dspy.ChainOfThought("question -> answer"), record="calls")

    first, second = app(), app()
    with first.conversation("k", store=memory) as talk:
        first(question="one")
        first(question="two")
    with second.conversation("k", store=memory) as again:
        assert [
            [(c.path, c.predictor, c.inputs, c.outputs, c.history) for c in t.calls]
            for t in again.state.turns
        ] == [
            [(c.path, c.predictor, c.inputs, c.outputs, c.history) for c in t.calls] for t in talk.state.turns
        ]
        assert [len(turn.calls) for turn in again.state.turns] == [1, 1]


def test_what_cannot_be_kept_is_named_with_its_turn_and_node(memory, lm):
    class Passing(dspy.Module):
        def __init__(self):
            super().__init__()
            self.node = dspy.Predict("question, thing -> answer")

        def forward(self, question):
            return self.node(question=question, thing=Opaque())

    def fail(past_memory, episode_transcript):
        raise ConnectionError

    for options, expected in (
        ({}, ["turn 0, node node, turn 0, inputs, field 'thing'"]),
        (
            {"child_configs": {"node": {"lifespan": "episodic", "consolidator": fail}}},
            ["node node, turn 0, inputs, field 'thing'"],
        ),
    ):
        app = with_memory(Passing(), **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with app.conversation(f"k{len(options)}", store=memory):
                app(question="a")
        said = {
            str(warning.message).split(": a ")[0] for warning in caught if "Opaque" in str(warning.message)
        }
        assert sorted(said) == expected
    app = chat()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with app.conversation("root", store=memory):
            app.add_turn({"question": "a"}, {"answer": Opaque()})
    assert {str(warning.message).split(": a ")[0] for warning in caught} == {
        "turn 0, outputs, field 'answer'"
    }


def test_undo_in_a_later_block_gives_back_the_memory_of_before(memory, lm):
    def remember(past_memory, episode_transcript):
        if "fail" in episode_transcript:
            raise ConnectionError
        return f"{past_memory}+{episode_transcript.count('- turn')}"

    app = planned(lifespan="episodic", consolidator=remember)
    with app.conversation("k", store=memory):
        for question in ("one", "two", "fail three", "four"):
            app(question=question)
    with app.conversation("k", store=memory) as talk:
        node = talk.state.node_states["plan"]
        turns = [turn.id for turn in talk.state.turns]
        assert (node.l2_memory, [e.turn_id for e in node.pending]) == ("+1+1", turns[2:])
        data = talk.state.to_dict()
        assert SessionState.from_dict(data).to_dict() == data
        app.undo(2)
        assert (node.l2_memory, node.pending) == ("+1+1", [])
        app.undo()
        assert (node.l2_memory, node.pending) == ("+1", [])
    with app.conversation("k", store=memory) as talk:
        assert talk.state.node_states["plan"].l2_memory == "+1"
        assert questions(talk.state) == ["one"]


def test_a_node_whose_path_has_a_space_keeps_its_memory(memory, lm):
    class Many(dspy.Module):
        def __init__(self):
            super().__init__()
            self.experts = {"of cars": dspy.Predict("question -> answer")}

        def forward(self, question):
            return self.experts["of cars"](question=question)

    app = with_memory(Many(), lifespan="episodic", consolidator=lambda **_: "about cars")
    with app.conversation("k", store=memory):
        app(question="one")
    with app.conversation("k", store=memory) as talk:
        [(path, node)] = talk.state.node_states.items()
        assert ("of cars" in path, node.l2_memory) == (True, "about cars")
