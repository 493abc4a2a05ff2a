"""What a store is given of a conversation, and what of it comes back."""

from __future__ import annotations

import enum
import warnings

import dspy
import pytest

from dspy_session import SessionState, sessionify, with_memory
from dspy_session.codec.wire import VERSION
from dspy_session.errors import UnsupportedVersionError
from dspy_session.stores.redaction import RedactingStore

from .programs import Opaque, Passing, chat, opaque_places, planned, questions


class Size(enum.Enum):
    BIG = "big"


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


def told(call):
    return call.path, call.predictor, call.inputs, call.outputs, call.history, call.seconds


def test_recorded_calls_come_back(memory, lm):
    def app():
        return sessionify(dspy.ChainOfThought("question -> answer"), record="calls")

    first, second = app(), app()
    with first.conversation("k", store=memory) as talk:
        first(question="one")
        first(question="two")
    with second.conversation("k", store=memory) as again:
        assert [list(map(told, turn.calls)) for turn in again.state.turns] == [
            list(map(told, turn.calls)) for turn in talk.state.turns
        ]
        assert [len(turn.calls) for turn in again.state.turns] == [1, 1]


def test_what_cannot_be_kept_is_named_with_its_turn_and_node(memory, lm):
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
        said = opaque_places(caught)
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


def test_redaction_is_seen_in_a_talk_that_was_loaded_in_part(memory, lm):
    def redact(kind, document):
        if kind == "turn" and "1234" in document["inputs"]["question"]:
            document["inputs"]["question"] = "my card is ****"
        return document

    app, safe = chat(max_turns=2), RedactingStore(memory, redact)
    with app.conversation("k", store=safe):
        for question in ("a", "b", "c", "my card is 1234", "d", "e", "f", "g"):
            app(question=question)
    with app.conversation("k", store=safe, last=7) as talk:
        assert [turn.index for turn in talk.state.turns] == [1, 2, 3, 4, 5, 6, 7]
        assert [turn.exact for turn in talk.state.turns] == [False, False, False, False, False, True, True]


def test_the_place_of_a_turn_is_that_which_the_store_says(memory, lm):
    def forget(kind, document):
        for turn in (document, *(t for node in document.get("nodes", {}).values() for t in node["turns"])):
            turn.pop("index", None)
        return document

    app, store = planned(), RedactingStore(memory, forget)
    with app.conversation("k", store=store):
        for question in ("one", "quick two", "three"):
            app(question=question)
    with app.conversation("k", store=store) as talk:
        assert [turn.index for turn in talk.state.turns] == [0, 1, 2]
        assert [turn.index for turn in talk.state.node_states["plan"].turns] == [0, 1]


def test_node_turns_of_a_redacted_turn_are_not_exact_either(memory, lm):
    def redact(kind, document):
        if kind == "turn" and "1234" in document["inputs"]["question"]:
            document["inputs"]["question"] = "my card is ****"
        return document

    app, store = planned(), RedactingStore(memory, redact)
    with app.conversation("k", store=store):
        for question in ("one", "my card is 1234", "three"):
            app(question=question)
    with app.conversation("k", store=store) as talk:
        for state in (talk.state, *talk.state.node_states.values()):
            assert [turn.exact for turn in state.turns] == [True, False, False]


def test_a_turn_is_as_exact_as_its_nodes(memory, lm):
    app = planned(max_turns=1, child_configs={"plan": {"max_turns": 50}})
    with app.conversation("k", store=memory):
        for number in range(4):
            app(question=f"question {number}")
    with app.conversation("k", store=memory, last=3) as talk:
        assert [turn.exact for turn in talk.state.node_states["plan"].turns] == [False] * 3
        assert [turn.exact for turn in talk.state.turns] == [False] * 3


def test_undo_in_a_loaded_talk_leaves_the_nodes_as_they_were(memory, lm):
    class Often(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question):
            for part in range(3):
                last = self.ask(question=f"{question} {part}")
            return last

    def nodes(state):
        return {path: (questions(node), node.l2_memory) for path, node in state.node_states.items()}

    for config, left, places in (
        ({}, ["a 0", "a 1", "a 2"], [0, 1, 2, 3, 4, 5]),
        ({"max_stored_turns": 2}, [], [4, 5]),
    ):
        app, key = with_memory(Often(), child_configs={"ask": config}), f"k{len(config)}"
        with app.conversation(key, store=memory):
            app(question="a")
            app(question="b")
        with app.conversation(key, store=memory) as talk:
            app.undo()
            assert nodes(talk.state)["ask"][1] == ""
            found = nodes(talk.state)["ask"][0]
            assert found[: len(left)] == left
            app(question="c")
            assert [turn.index for turn in talk.state.node_states["ask"].turns] == places
        with app.conversation(key, store=memory) as talk:
            app.undo(2)
            assert nodes(talk.state) == {"ask": ([], "")}


def test_types_of_values_are_given_by_name(memory, lm):
    app = chat()
    with app.conversation("k", store=memory):
        app.add_turn({"question": Size.BIG}, {"answer": "yes"})
    with app.conversation("k", store=memory, types=[Size]) as talk:
        assert talk.state.turns[0].inputs == {"question": Size.BIG}


def test_a_seed_that_cannot_be_kept_is_named(memory, lm):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app = chat(initial_history=dspy.History(messages=[{"question": Opaque()}]))
        with app.conversation("k", store=memory):
            app.add_turn({"question": "a"}, {"answer": "b"})
    assert {str(warning.message).split(": a ")[0] for warning in caught} == {"history, field 'question'"}


def test_undo_in_a_talk_that_was_loaded_in_part_leaves_the_places_of_node_turns(memory, lm):
    app = planned()
    with app.conversation("k", store=memory):
        for question in ("one", "two", "three"):
            app(question=question)
    with app.conversation("k", store=memory, last=1) as talk:
        app.undo()
        app(question="anew")
        assert [turn.index for turn in talk.state.node_states["plan"].turns] == [2]


def test_a_document_repeats_nothing_that_stands_elsewhere(memory, lm):
    def fail(past_memory, episode_transcript):
        raise ConnectionError

    def documents(key):
        return [turn.data for turn in memory.load(key).turns]

    few = chat(max_stored_turns=2)
    with few.conversation("few", store=memory):
        for question in "abcdef":
            few(question=question)
    first, *others = documents("few")
    assert not {"nodes", "snapshots", "score", "calls"} & set(first)
    assert not any("nodes" in document for document in others)
    # A state keeps more turns than it shows, until they outweigh those: what it still has is written by its place.
    assert [document["snapshot"]["runs"] for document in others[:3]] == [
        [[0, 0, 1]],
        [[0, 0, 2]],
        [[0, 1, 3]],
    ]
    assert [set(document["snapshots"]) for document in others[:3]] == [{"projections"}] * 3
    app = planned(lifespan="episodic", consolidator=fail)
    with app.conversation("episodic", store=memory):
        for question in "ab":
            app(question=question)
    for document in documents("episodic"):
        assert all(set(node) == {"start", "before", "after", "turns"} for node in document["nodes"].values())


def test_a_turn_that_was_moved_behind_another_refers_to_what_stands_there(memory, lm):
    ours, theirs = chat(), chat()
    with ours.conversation("k", store=memory):
        ours(question="one")
    with ours.conversation("k", store=memory, lease=None, on_conflict="append"):
        ours(question="two")
        with theirs.conversation("k", store=memory, lease=None):
            theirs(question="theirs")
        ours(question="three")
    documents = [turn.data for turn in memory.load("k").turns]
    assert [document["inputs"]["question"] for document in documents] == ["one", "two", "theirs", "three"]
    assert [document["snapshot"].get("runs") for document in documents] == [
        None,
        [[0, 0, 1]],
        [[0, 0, 2]],
        [[0, 0, 2]],
    ]
    assert not any("past" in document.get("snapshots", {}) for document in documents)


@pytest.mark.parametrize("redact", [lambda node: node.pop("turns"), lambda node: node.update(turns=[])])
def test_nodes_whose_turns_redaction_took_keep_the_others(redact, memory, lm):
    def hook(kind, document):
        if kind == "turn" and document["inputs"]["question"] == "secret":
            for node in document["nodes"].values():
                redact(node)
        return document

    def app():
        return with_memory(dspy.ChainOfThought("question -> answer"))

    store = RedactingStore(memory, hook)
    first, second = app(), app()
    with first.conversation("k", store=store):
        for question in ("one", "two", "secret"):
            first(question=question)
    with second.conversation("k", store=store) as talk:
        (node,) = talk.state.node_states.values()
        assert [turn.inputs["question"] for turn in node.turns] == ["one", "two"]
