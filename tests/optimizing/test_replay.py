"""Calls that are no turns: `replay`, `batch`, `Evaluate`; and calls that repeat a turn byte for byte."""

from __future__ import annotations

import json
import warnings
from typing import Any

import dspy
import pytest

from dspy_session import Session, SessionState, errors, sessionify, windows, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import PROGRAMS, Pair, examples, metric, tool, wire

QUESTIONS = ["Who wrote it?", "When?", "Where?", "Why?"]


def numbered(chat: Any, names: list[str]) -> dict[str, Any]:
    """Answers that tell turns apart and let an agent take a step before it ends."""
    depth = str(len(chat))
    question = text_of(chat[-1])
    answers: dict[str, Any] = {name: f"{name} {depth} to {len(question)}" for name in names}
    if "next_tool_name" in names:
        first = "observation_0" not in question
        answers["next_tool_name"] = "tool" if first else "finish"
        answers["next_tool_args"] = {"place": "Oslo"} if first else {}
    return answers


@pytest.fixture
def lm() -> Any:
    model = ScriptedLM(numbered)
    with dspy.context(lm=model, adapter=None, trace=[], callbacks=[]):
        yield model


APPS = {
    **{name: lambda name=name: sessionify(PROGRAMS[name]()) for name in PROGRAMS},
    "windowed": lambda: sessionify(Pair(), max_turns=2),
    "blocks": lambda: sessionify(Pair(), window=windows.blocks(3, 1)),
    "stored": lambda: sessionify(Pair(), max_stored_turns=2),
    "projected": lambda: sessionify(Pair(), exclude_fields={"plan"}, history_input_fields={"question"}),
    "initial": lambda: sessionify(
        Pair(), initial_history=dspy.History(messages=[{"question": "Hi", "answer": "Hello"}])
    ),
    "memory": lambda: with_memory(Pair()),
    "memory-react": lambda: with_memory(PROGRAMS["react"]()),
    "memory-shared": lambda: with_memory(Pair(), child_configs={"planner": {"isolation": "shared"}}),
    "memory-episodic": lambda: with_memory(
        Pair(), lifespan="episodic", consolidator=lambda past_memory, episode_transcript: past_memory + "+"
    ),
    "memory-windowed": lambda: with_memory(Pair(), max_turns=1),
    "nested": lambda: sessionify(Outer(sessionify(dspy.Predict("question -> plan")))),
}


class Outer(dspy.Module):
    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.writer(question=question, plan=self.part(question=question).plan)


def converse(session: Session, lm: ScriptedLM) -> list[list[Any]]:
    return [wire(lm, lambda q=q: session(question=q)) for q in QUESTIONS]  # type: ignore[misc]


def evaluator(devset: list[dspy.Example], num_threads: int) -> dspy.Evaluate:
    return dspy.Evaluate(devset=devset, metric=metric, num_threads=num_threads, display_progress=False)


@pytest.mark.parametrize("kind", APPS)
def test_every_turn_is_repeated_to_the_byte(lm: ScriptedLM, kind: str) -> None:
    session = APPS[kind]()
    sent = converse(session, lm)
    turns = session.turns
    kept = sent[-len(turns) :]
    for example, expected in reversed(list(zip(session.to_examples(), kept, strict=True))):
        assert wire(lm, lambda e=example: session(**e.inputs())) == expected  # type: ignore[misc]
    assert session.turns == turns


@pytest.mark.parametrize("kind", APPS)
def test_after_save_and_load(lm: ScriptedLM, kind: str) -> None:
    session = APPS[kind]()
    sent = converse(session, lm)
    other = APPS[kind]()
    other.load_conversation(json.loads(json.dumps(session.save_state())))
    assert [turn.exact for turn in other.turns] == [True] * len(other.turns)
    for example, expected in zip(other.to_examples(), sent[-len(other.turns) :], strict=True):
        assert wire(lm, lambda e=example: other(**e.inputs())) == expected  # type: ignore[misc]
    assert wire(lm, lambda: other(question="And?")) == wire(lm, lambda: session(question="And?"))


@pytest.mark.parametrize("kind", ["pair", "react", "memory", "memory-episodic"])
def test_on_a_fork_and_on_another_state(lm: ScriptedLM, kind: str) -> None:
    session = APPS[kind]()
    sent = converse(session, lm)
    trainset = session.to_examples()
    fork = session.fork()
    fork.undo(3)
    fork(question="Something else")
    state = session.new_state()
    restored = SessionState.from_dict(session.state.to_dict())
    for example, expected in zip(trainset, sent, strict=True):
        assert wire(lm, lambda e=example: fork(**e.inputs())) == expected  # type: ignore[misc]
        with session.use_state(state):
            assert wire(lm, lambda e=example: session(**e.inputs())) == expected  # type: ignore[misc]
    with session.use_state(restored):
        again = session.to_examples()
    for example, expected in zip(again, sent, strict=True):
        assert wire(lm, lambda e=example: session(**e.inputs())) == expected  # type: ignore[misc]
    assert len(state) == 0


@pytest.mark.parametrize("kind", ["pair", "memory", "memory-episodic"])
def test_after_undo_and_edits(lm: ScriptedLM, kind: str) -> None:
    session = APPS[kind]()
    converse(session, lm)
    session.edit_turn(1, outputs={"answer": "corrected"})
    session.undo(1)
    sent = wire(lm, lambda: session(question="Why not?"))
    example = session.to_examples()[-1]
    assert wire(lm, lambda: session(**example.inputs())) == sent


def test_a_cached_model_answers_a_replay_from_its_cache(lm: ScriptedLM) -> None:
    session = sessionify(Pair())
    sent = converse(session, lm)
    seen = {str(request) for turn in sent for request in turn}
    for example in session.to_examples():
        assert {str(r) for r in wire(lm, lambda e=example: session(**e.inputs()))} <= seen  # type: ignore[misc]


def test_a_rebuilt_turn_says_that_it_is_not_exact(lm: ScriptedLM) -> None:
    session = sessionify(dspy.Predict("question -> answer"))
    session.load_conversation(
        {"version": 1, "turns": [{"index": 0, "inputs": {"question": "Hi"}, "outputs": {"answer": "Ho"}}]}
    )
    assert [turn.exact for turn in session.turns] == [False]


# ── stateless calls ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["pair", "react", "memory"])
def test_replay_makes_calls_stateless(lm: ScriptedLM, kind: str) -> None:
    session = APPS[kind]()
    bare = wire(lm, lambda: APPS[kind]()(question="Now?"))
    converse(session, lm)
    turns, state = session.turns, session.state.fork()
    with session.replay():
        assert wire(lm, lambda: session(question="Now?")) == bare
        assert wire(lm, lambda: session(question="Now?")) == bare
    assert session.turns == turns
    assert session.state == state


def test_replay_reaches_threads_and_nothing_else(lm: ScriptedLM) -> None:
    session, other = APPS["pair"](), APPS["pair"]()
    with session.replay():
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(
            [(session, {"question": "a"}), (session.deepcopy(), {"question": "b"})]
        )
        other(question="c")
    assert len(session) == 0
    assert len(other) == 1
    session(question="d")
    assert len(session) == 1


@pytest.mark.parametrize("num_threads", [1, 3])
def test_batch_is_a_replay(lm: ScriptedLM, num_threads: int) -> None:
    session = APPS["pair"]()
    converse(session, lm)
    asked = len(lm.requests)
    answers = session.batch(examples(), num_threads=num_threads, disable_progress_bar=True)
    assert len(answers) == 6
    assert {len(request) for request in lm.requests[asked:]} == {2}
    assert len(session) == 4
    session.batch(session.to_examples(), num_threads=num_threads, disable_progress_bar=True)
    assert len(session) == 4


@pytest.mark.parametrize("num_threads", [1, 3])
def test_batch_inside_use_state_makes_turns(lm: ScriptedLM, num_threads: int) -> None:
    app = APPS["memory"]()
    state = app.new_state()
    with app.use_state(state):
        app.batch(examples(), num_threads=num_threads, disable_progress_bar=True)
    assert sorted(turn.inputs["question"] for turn in state.turns) == sorted(e.question for e in examples())
    assert [turn.index for turn in state.turns] == list(range(6))
    assert len(app.own_state) == 0


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("kind", ["pair", "memory"])
def test_evaluate_without_histories_warns_and_leaves_the_conversation(
    lm: ScriptedLM, num_threads: int, kind: str
) -> None:
    session = APPS[kind]()
    converse(session, lm)
    before, asked = session.state.fork(), len(lm.requests)
    evaluate = evaluator(examples(), num_threads)
    with pytest.warns(UserWarning, match="carry no history"):
        evaluate(session)
    assert session.state == before
    assert {len(request) for request in lm.requests[asked:]} == {2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with session.replay():
            evaluate(session)
        evaluator(session.to_examples(), 2)(session)
    assert session.state == before


def test_evaluate_with_histories_shows_them(lm: ScriptedLM) -> None:
    session = APPS["pair"]()
    sent = converse(session, lm)
    asked = len(lm.requests)
    evaluate = evaluator(session.to_examples(), 1)
    evaluate(session)
    assert lm.requests[asked:] == [request for turn in sent for request in turn]
    assert len(session) == 4


def test_evaluate_of_a_larger_program(lm: ScriptedLM) -> None:
    part = sessionify(dspy.Predict("question -> plan"))
    part.add_turn({"question": "live secret"}, {"plan": "live reply"})
    program = Outer(part)
    evaluate = evaluator(examples(), 2)
    with pytest.warns(UserWarning, match="carry no history"):
        evaluate(program)
    assert len(part) == 1
    assert "live secret" not in str(lm.requests)


def test_an_unbound_app_can_be_evaluated(lm: ScriptedLM) -> None:
    app = with_memory(Pair(), unbound="error")
    evaluate = evaluator(examples(), 2)
    with app.replay():
        assert evaluate(app).score == 0.0
        app(question="What?")
    with pytest.raises(errors.UnboundStateError):
        app(question="What?")


def test_replayed_calls_take_only_the_programs_own_inputs(lm: ScriptedLM) -> None:
    session = sessionify(dspy.ReAct("question -> answer", tools=[tool]))
    with session.replay():
        session(question="Hi", history=dspy.History(messages=[{"question": "a", "answer": "b"}]))
    assert any("answer" in text_of(m) for m in lm.requests[0] if m["role"] == "assistant")
    assert len(session) == 0
