"""Random operations on a stored conversation, beside the same operations on a state in memory."""

from __future__ import annotations

import itertools
import tempfile
from typing import Any

import dspy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspy_session.stores import open_store
from dspy_session.testing.lm import ScriptedLM

from .programs import chat, planned, whole

APPS = {
    "chat": chat,
    "nodes": planned,
    "episodes": lambda: planned(lifespan="episodic", consolidator=lambda past_memory, **_: past_memory + "+"),
}


class StoredBesidePlain(RuleBasedStateMachine):
    """`model` is a plain state; the stored conversation must always be the same, in the block and after it."""

    @initialize(app=st.sampled_from(sorted(APPS)), backend=st.sampled_from(["memory", "sqlite"]))
    def begin(self, app: str, backend: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        url = (
            "memory://" if backend == "memory" else f"sqlite:///{self.folder.name}/chat.db?synchronous=normal"
        )
        self.store = open_store(url)
        self.app, self.plain = APPS[app](), APPS[app]()
        # The same words get the same answer, so that both sides are told the same.
        answer = lambda chat, names: {name: f"{name} to {chat[-1]['content'][:60]}" for name in names}  # noqa: E731
        self.lm = ScriptedLM(answer)
        self.model = self.plain.new_state()
        self.block: Any = None
        self.numbers = itertools.count()

    def both(self, work: Any) -> None:
        with dspy.context(lm=self.lm, adapter=None):
            before = len(self.lm.requests)
            with self.plain.use_state(self.model):
                work(self.plain)
            sent = self.lm.requests[before:]
            if self.block is not None:
                work(self.app)
            else:
                with self.app.conversation("k", store=self.store):
                    work(self.app)
            assert self.lm.requests[before + len(sent) :] == sent

    @rule(quick=st.booleans())
    def ask(self, quick: bool) -> None:
        question = f"{'quick ' if quick else ''}question {next(self.numbers)}"
        self.both(lambda app: app(question=question))

    @rule(steps=st.integers(1, 3))
    def undo(self, steps: int) -> None:
        self.both(lambda app: app.undo(steps))

    @precondition(lambda self: len(self.model))
    @rule(place=st.integers(0, 5))
    def edit(self, place: int) -> None:
        index, text = self.model.position.start + place % len(self.model), f"edited {next(self.numbers)}"
        self.both(lambda app: app.edit_turn(index, outputs={"answer": text}))

    @precondition(lambda self: len(self.model))
    @rule()
    def retry(self) -> None:
        self.both(lambda app: app.retry())

    @rule()
    def add(self) -> None:
        text = f"by hand {next(self.numbers)}"
        self.both(lambda app: app.add_turn({"question": text}, {"answer": text}))

    @precondition(lambda self: len(self.model))
    @rule(
        place=st.integers(0, 5),
        score=st.one_of(st.none(), st.integers(0, 3)),
        feedback=st.sampled_from([None, "so"]),
    )
    def rate(self, place: int, score: int | None, feedback: str | None) -> None:
        def work(app: Any) -> None:
            turn = app.turns[place % len(app.turns)]
            turn.score, turn.feedback = score, feedback

        self.both(work)

    @rule(memory=st.sampled_from(["", "likes tea", "likes coffee"]))
    def remember(self, memory: str) -> None:
        self.both(lambda app: setattr(app.state, "l2_memory", memory))

    @rule()
    def reset(self) -> None:
        self.both(lambda app: app.reset())

    @rule(given=st.sampled_from([None, [{"question": "seed", "answer": "told"}]]))
    def lead(self, given: Any) -> None:
        history = None if given is None else dspy.History(messages=given)
        self.both(lambda app: app.state.set_head(history, {"question"}))

    @rule()
    def fork(self) -> None:
        def work(app: Any) -> None:
            other = app.fork()
            other.add_turn({"question": "elsewhere"}, {"answer": "elsewhere"})

        self.both(work)

    @precondition(lambda self: self.block is None)
    @rule(lease=st.sampled_from(["wait", None]))
    def enter(self, lease: Any) -> None:
        self.block = self.app.conversation("k", store=self.store, lease=lease)
        self.block.__enter__()

    @precondition(lambda self: self.block is not None)
    @rule()
    def leave(self) -> None:
        block, self.block = self.block, None
        block.__exit__(None, None, None)

    @invariant()
    def the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        if self.block is not None:
            assert whole(self.block.state) == whole(self.model)
            return
        with self.app.conversation("k", store=self.store, lease=None) as talk:
            assert whole(talk.state) == whole(self.model)
            assert all(turn.exact for turn in talk.state.turns)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            if self.block is not None:
                self.leave()
            assert self.store.verify().ok
            self.store.close()
            self.folder.cleanup()


StoredBesidePlain.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestStoredBesidePlain = StoredBesidePlain.TestCase
