"""A session against a simple model of one, in every order of doing things."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import dspy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from dspy_session import Session, sessionify
from dspy_session.testing.lm import ScriptedLM

TEXT = st.text(alphabet="abcé\n\"'{}[]#☃", max_size=6)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2) | st.tuples(inner),
    max_leaves=4,
)

POLICIES = ["override", "use_if_provided", "replace_session"]


def program():
    return dspy.Predict("question -> answer")


class Told:
    """What is known of one turn."""

    def __init__(self, index, question, answer, snapshot, score=None):
        self.index, self.question, self.answer = index, question, answer
        self.snapshot, self.score = copy.deepcopy(snapshot), score

    def message(self):
        return {"question": self.question, "answer": self.answer}


class Model:
    """A session as a plain list."""

    def __init__(self, seed, most, window):
        self.seed, self.most, self.window = seed, most, window
        self.turns = []

    def shown(self):
        everything = self.seed + [turn.message() for turn in self.turns]
        return everything[-self.window :] if self.window else everything

    def add(self, question, answer):
        index = self.turns[-1].index + 1 if self.turns else self.next_index
        self.turns.append(Told(index, question, answer, self.shown()))
        if self.most:
            self.turns = self.turns[-self.most :]
        self.next_index = index + 1

    next_index = 0

    def undo(self, steps):
        count = min(steps, len(self.turns))
        self.next_index -= count
        del self.turns[len(self.turns) - count :]

    def fork(self):
        twin = copy.deepcopy(self)
        return twin


class Conversations(RuleBasedStateMachine):
    sessions = Bundle("sessions")

    @initialize()
    def prepare(self):
        self.lm = ScriptedLM()
        self.pairs = []
        self.held = []
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _keep(self, session, model):
        self.pairs.append((session, model))
        return len(self.pairs) - 1

    @rule(
        target=sessions,
        seeds=st.integers(0, 2),
        most=st.none() | st.integers(1, 4),
        window=st.none() | st.integers(1, 3),
    )
    def new(self, seeds, most, window):
        seed = [{"question": f"seed {n}", "answer": "told"} for n in range(seeds)]
        session = sessionify(
            program(),
            initial_history=dspy.History(messages=copy.deepcopy(seed)) if seeds else None,
            max_stored_turns=most,
            max_turns=window,
        )
        return self._keep(session, Model(seed, most, window))

    @rule(at=sessions, question=TEXT)
    def ask(self, at, question):
        session, model = self.pairs[at]
        with dspy.context(lm=self.lm, adapter=None):
            answer = session(question=question).answer
        model.add(question, answer)
        self.held.append((session.turns[-1], model.turns[-1]))

    @rule(at=sessions, question=VALUE, answer=VALUE)
    def add(self, at, question, answer):
        session, model = self.pairs[at]
        turn = session.add_turn({"question": question}, {"answer": answer})
        model.add(question, answer)
        self.held.append((turn, model.turns[-1]))

    @rule(at=sessions, question=TEXT, given=st.lists(TEXT, max_size=2), policy=st.sampled_from(POLICIES))
    def ask_with_a_history(self, at, question, given, policy):
        session, model = self.pairs[at]
        history = [{"question": text, "answer": "told"} for text in given]
        session.history_policy = policy
        with dspy.context(lm=self.lm, adapter=None):
            answer = session(question=question, history=dspy.History(messages=copy.deepcopy(history))).answer
        if policy == "use_if_provided":
            model.add(question, answer)
            model.turns[-1].snapshot = history
            self.held.append((session.turns[-1], model.turns[-1]))
        elif policy == "replace_session":
            model.seed, model.turns, model.next_index = history, [], 0
            model.add(question, answer)

    @rule(at=sessions, window=st.none() | st.integers(1, 3))
    def look_through_another_window(self, at, window):
        session, model = self.pairs[at]
        session.max_turns = model.window = window

    @rule(at=sessions, which=st.integers(-5, 5), answer=VALUE)
    def edit(self, at, which, answer):
        session, model = self.pairs[at]
        if not model.turns:
            return
        place = which % len(model.turns)
        old = model.turns[place]
        session.edit_turn(old.index, outputs={"answer": answer})
        model.turns[place] = Told(old.index, old.question, answer, old.snapshot)

    @rule(at=sessions, steps=st.integers(0, 3))
    def undo(self, at, steps):
        session, model = self.pairs[at]
        removed = session.undo(steps)
        assert len(removed) == min(steps, len(model.turns))
        model.undo(steps)

    @rule(at=sessions)
    def reset(self, at):
        session, model = self.pairs[at]
        session.reset()
        model.turns, model.next_index = [], 0

    @rule(at=sessions, which=st.integers(0, 5), score=st.floats(0, 1))
    def rate(self, at, which, score):
        session, model = self.pairs[at]
        if not model.turns:
            return
        turn = model.turns[which % len(model.turns)]
        session.rate(turn.index, score)
        turn.score = score

    @rule(target=sessions, at=sessions)
    def fork(self, at):
        session, model = self.pairs[at]
        return self._keep(session.fork(), model.fork())

    @rule(target=sessions, at=sessions)
    def save_and_load(self, at):
        session, model = self.pairs[at]
        path = Path(self.folder.name) / "conversation.json"
        session.save(path)
        loaded = Session.load_from(path, program())
        assert loaded.save_state() == session.save_state()
        return self._keep(loaded, model.fork())

    @rule(at=sessions)
    def retry(self, at):
        session, model = self.pairs[at]
        if not model.turns or not isinstance(model.turns[-1].question, str):
            return
        last = model.turns[-1]
        count = len(session.branches)
        with dspy.context(lm=self.lm, adapter=None):
            answer = session.retry().answer
        assert len(session.branches) == count + 1
        assert session.branches[-1].turns[-1].outputs == {"answer": last.answer}
        model.undo(1)
        model.add(last.question, answer)

    @invariant()
    def every_session_is_as_the_model_says(self):
        for session, model in getattr(self, "pairs", ()):
            turns = session.turns
            assert len(session) == len(turns) == len(model.turns)
            for turn, told in zip(turns, model.turns, strict=True):
                assert turn.index == told.index
                assert turn.inputs == {"question": told.question}
                assert turn.outputs == {"answer": told.answer}
                assert turn.score == told.score
                assert turn.history_snapshot.messages == told.snapshot
            assert session.session_history.messages == model.shown()

    @invariant()
    def whoever_holds_a_turn_holds_what_it_was(self):
        for turn, told in getattr(self, "held", ()):
            assert turn.history_snapshot.messages == told.snapshot


Conversations.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestConversations = Conversations.TestCase
