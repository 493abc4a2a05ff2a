"""Every optimizer compiles a session as it compiles the bare program: the same requests come out of both."""

from __future__ import annotations

import random
import threading
from typing import Any

import dspy
import pytest

from dspy_session import Session, sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.benchmarks import optimizers as benchmark
from tests.optimizing.programs import (
    OPTIMIZERS,
    PROGRAMS,
    Desk,
    Pair,
    Tunable,
    examples,
    learnt,
    metric,
    session_examples,
    wire,
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_session_sends_what_the_compiled_program_sends(
    model: ScriptedLM, name: str, optimizer: str
) -> None:
    bare = PROGRAMS[name]()
    plain = wire(model, lambda: bare(question="What?"))
    random.seed(0)
    compiled_bare = OPTIMIZERS[optimizer](PROGRAMS[name](), examples())
    expected = wire(model, lambda: compiled_bare(question="What?"))
    assert expected != plain

    session = sessionify(PROGRAMS[name]())
    session.add_turn({"question": "live secret"}, {"answer": "live reply"})
    live, state = session.turns, session.dump_state()
    trainset = session_examples(session)
    before = len(model.requests)
    random.seed(0)
    compiled = OPTIMIZERS[optimizer](session, trainset)
    assert "live secret" not in str(model.requests[before:])
    assert session.turns == live
    assert session.dump_state() == state
    assert isinstance(compiled, Session)
    assert len(compiled) == 0
    sent = wire(model, lambda: compiled(question="What?"))
    assert sent == expected
    assert len(compiled) == 1
    assert len(session.turns) == 1
    compiled(question="And now?")
    last = model.requests[-1]
    assert any("What?" in text_of(m) for m in last[1:-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_app_with_memories(model: ScriptedLM, optimizer: str) -> None:
    random.seed(0)
    compiled_bare = OPTIMIZERS[optimizer](Pair(), examples())
    expected = wire(model, lambda: compiled_bare(question="What?"))
    app = with_memory(Pair())
    state = app.new_state()
    with app.use_state(state):
        app(question="live secret")
    weights, before = app.dump_state(), state.fork()
    random.seed(0)
    trainset = session_examples(sessionify(Pair()))
    asked = len(model.requests)
    compiled = OPTIMIZERS[optimizer](app, trainset)
    assert "live secret" not in str(model.requests[asked:])
    assert app.dump_state() == weights
    assert state == before
    fresh = compiled.new_state()
    with compiled.use_state(fresh):
        assert wire(model, lambda: compiled(question="What?")) == expected
        assert len(fresh) == 1
        assert {path: len(node) for path, node in fresh.node_states.items()} == {
            "planner.predict": 1,
            "writer": 1,
        }
        compiled(question="And now?")
    assert any("What?" in text_of(m) for m in model.requests[-1][1:-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["predict", "pair"])
def test_a_session_inside_a_larger_program(model: ScriptedLM, name: str, optimizer: str) -> None:
    random.seed(0)
    compiled_bare = OPTIMIZERS[optimizer](Desk(PROGRAMS[name]()), examples())
    expected = wire(model, lambda: compiled_bare(question="What?"))
    part = sessionify(PROGRAMS[name]())
    part.add_turn({"question": "live secret"}, {"answer": "live reply"})
    desk = Desk(part)
    live, weights = part.turns, part.dump_state()
    random.seed(0)
    asked = len(model.requests)
    compiled = OPTIMIZERS[optimizer](desk, examples())
    assert "live secret" not in str(model.requests[asked:])
    assert part.turns == live
    assert part.dump_state() == weights
    assert wire(model, lambda: compiled(question="What?")) == expected
    compiled(question="And now?")
    assert any("What?" in text_of(m) for request in model.requests[-3:] for m in request[1:-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["predict", "pair"])
def test_trainsets_without_a_history_do_not_leak(model: ScriptedLM, name: str, optimizer: str) -> None:
    random.seed(0)
    compiled_bare = OPTIMIZERS[optimizer](PROGRAMS[name](), examples())
    trained = model.requests[:]
    expected = wire(model, lambda: compiled_bare(question="What?"))
    session = sessionify(PROGRAMS[name]())
    session.add_turn({"question": "live secret"}, {"answer": "live reply"})
    random.seed(0)
    asked = len(model.requests)
    compiled = OPTIMIZERS[optimizer](session, examples())
    sent = model.requests[asked:]
    assert "live secret" not in str(sent)
    # An example that saw another one would have a past.
    lengths = {len(request) for request in trained}
    assert {len(request) for request in sent} <= lengths
    assert len(session) == 1
    assert len(compiled) == 0
    assert wire(model, lambda: compiled(question="What?")) == expected


def test_histories_of_the_examples_reach_training_calls(model: ScriptedLM) -> None:
    session = sessionify(dspy.Predict("question -> answer"))
    session(question="Who wrote it?")
    session(question="When?")
    asked = len(model.requests)
    dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=2, max_labeled_demos=0).compile(
        session, trainset=session.to_examples()
    )
    trained = model.requests[asked:]
    assert [len(request) for request in trained] == [2, 4]
    assert "Who wrote it?" in text_of(trained[1][1])


def test_demos_are_shown_with_their_history(model: ScriptedLM) -> None:
    session = sessionify(dspy.Predict("question -> answer"))
    session(question="Who wrote it?")
    session(question="When?")
    compiled = dspy.LabeledFewShot(k=2).compile(session, trainset=session.to_examples())
    assert compiled.dump_state() != session.dump_state()
    request = wire(model, lambda: compiled(question="What?"))[0]
    told = [text_of(m) for m in request if "another conversation" in text_of(m)]
    assert len(told) == 1
    assert "Who wrote it?" in told[0]
    assert "messages" not in told[0]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("teaching", ["bare", "session"])
@pytest.mark.parametrize("studying", ["bare", "session"])
def test_teachers(model: ScriptedLM, name: str, teaching: str, studying: str) -> None:
    def bootstrap(student: Any, teacher: Any) -> Any:
        for predictor in teacher.predictors():
            outputs = dict.fromkeys(predictor.signature.output_fields, "kiwi")
            predictor.demos = [dspy.Example({"question": "Teach me", "plan": "kiwi", **outputs})]
        optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=2)
        return optimizer.compile(student, teacher=teacher, trainset=examples())

    def make(kind: str) -> Any:
        return PROGRAMS[name]() if kind == "bare" else sessionify(PROGRAMS[name]())

    random.seed(0)
    compiled_bare = bootstrap(PROGRAMS[name](), PROGRAMS[name]())
    expected = wire(model, lambda: compiled_bare(question="What?"))
    student, teacher = make(studying), make(teaching)
    if teaching == "session":
        teacher.add_turn({"question": "live secret"}, {"answer": "live reply"})
    random.seed(0)
    asked = len(model.requests)
    compiled = bootstrap(student, teacher)
    assert "live secret" not in str(model.requests[asked:])
    assert wire(model, lambda: compiled(question="What?")) == expected
    if teaching == "session":
        assert len(teacher) == 1


def test_an_ensemble_asks_each_session_and_is_none(model: ScriptedLM) -> None:
    first = dspy.LabeledFewShot(k=2).compile(sessionify(PROGRAMS["predict"]()), trainset=examples())
    second = sessionify(PROGRAMS["predict"]())
    ensemble = dspy.Ensemble(reduce_fn=dspy.majority).compile([first, second, second.fork()])
    assert not isinstance(ensemble, Session)
    assert ensemble(question="What?").answer == "some answer"
    assert [len(program) for program in ensemble.programs] == [1, 1, 1]
    ensemble(question="And now?")
    assert all(any("What?" in text_of(m) for m in request[1:-1]) for request in model.requests[-3:])


@pytest.mark.parametrize("name", ["predict", "cot", "pair"])
@pytest.mark.parametrize("direct", [True, False])
def test_bootstrap_finetune(name: str, direct: bool) -> None:
    taken: dict[str, list[Any]] = {}
    sent: dict[str, list[Any]] = {}
    for kind in ("bare", "session"):
        lm = Tunable()
        with dspy.context(lm=lm, adapter=None, trace=[]):
            program = PROGRAMS[name]() if kind == "bare" else sessionify(PROGRAMS[name]())
            program.set_lm(lm)
            optimizer = dspy.BootstrapFinetune(num_threads=4)
            trainset = examples() if kind == "bare" else session_examples(program)
            if kind == "session" and not direct:
                program.add_turn({"question": "live secret"}, {"answer": "live reply"})
                compiled = program.optimize(optimizer, trainset, conversation="fresh")
                assert len(program) == 1
                assert program.predictors()[-1].lm is lm
                assert "live secret" not in str(lm.requests)
            else:
                compiled = optimizer.compile(program, trainset=trainset)
            taken[kind] = lm.taken
            compiled(question="What?")
            tuned = compiled.predictors()[-1].lm
            assert tuned.model == "tuned"
            sent[kind] = tuned.requests
    assert taken["session"] == taken["bare"]
    assert sent["session"] == sent["bare"]


@pytest.mark.parametrize("by_session", [False, True])
def test_finetuning_data_is_what_the_session_sent(by_session: bool) -> None:
    lm = Tunable()
    with dspy.context(lm=lm, adapter=None, trace=[]):
        session = sessionify(dspy.ChainOfThought("question -> answer"))
        session(question="Who wrote it?")
        session(question="When?")
        session.set_lm(lm)
        sent = lm.requests[:]
        trainset = session.to_examples()
        asked = len(lm.requests)
        optimizer = dspy.BootstrapFinetune(num_threads=1)
        if by_session:
            session.optimize(optimizer)
        else:
            optimizer.compile(session, trainset=trainset)
        assert lm.requests[asked:] == sent
    trained = [chat["messages"][:-1] for chat in lm.taken]
    assert sorted(map(str, trained)) == sorted(map(str, sent))


@pytest.mark.parametrize("kind", ["bare", "session"])
def test_better_together(kind: str) -> None:
    lm = Tunable()
    with dspy.context(lm=lm, adapter=None, trace=[]):
        program = PROGRAMS["pair"]() if kind == "bare" else sessionify(PROGRAMS["pair"]())
        program.set_lm(lm)
        trainset = examples() if kind == "bare" else session_examples(program)
        if kind == "session":
            program.add_turn({"question": "live secret"}, {"answer": "live reply"})
        optimizer = dspy.BetterTogether(
            metric=metric,
            p=dspy.BootstrapFewShotWithRandomSearch(
                metric=metric, max_bootstrapped_demos=1, max_labeled_demos=2, num_candidate_programs=1
            ),
            w=dspy.BootstrapFinetune(metric=metric, num_threads=4),
        )
        compiled = optimizer.compile(program, trainset=trainset, valset=trainset[:3], strategy="w -> p")
        assert not compiled.flag_compilation_error_occurred
        assert "live secret" not in str(lm.requests)
        assert metric(None, compiled(question="What?")) == 1.0
        if kind == "session":
            assert len(program) == 1
            assert len(compiled) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_session_costs_an_optimizer_what_the_program_costs(optimizer: str) -> None:
    lm = ScriptedLM(learnt)
    with dspy.context(lm=lm, adapter=None, trace=[]):
        assert benchmark.score(Pair()) == benchmark.score(sessionify(Pair())) == 0
        conversations = benchmark.recorded()
    bare = benchmark.measured(optimizer, Pair(), examples())
    session = benchmark.measured(optimizer, sessionify(Pair()), examples())
    talked = benchmark.measured(optimizer, sessionify(Pair()), conversations)
    for row in (session, talked):
        assert (row.metric_calls, row.model_calls) == (bare.metric_calls, bare.model_calls)
        assert row.score == bare.score == 100


def test_users_go_on_while_an_optimizer_compiles_in_another_thread() -> None:
    session = sessionify(Pair())
    lm, slow = ScriptedLM(learnt), ScriptedLM(learnt, delay=0.005)
    compiled: list[Any] = []

    def compile_it() -> None:
        with dspy.context(lm=slow, adapter=None, trace=[]):
            compiled.append(OPTIMIZERS["random"](session, examples()[:3]))

    thread = threading.Thread(target=compile_it)
    with dspy.context(lm=lm, adapter=None, trace=[]):
        thread.start()
        for number in range(10):
            session(question=f"live {number}")
        thread.join()
    assert [turn.inputs["question"] for turn in session.turns] == [f"live {i}" for i in range(10)]
    assert len(lm.requests[-1]) == 2 + 2 * 9
    assert len(compiled[0]) == 0
    assert "live" not in str(slow.requests)


def test_a_compiled_session_serves_while_its_thread_compiles_something_else(model: ScriptedLM) -> None:
    compiled = OPTIMIZERS["bootstrap"](sessionify(Pair()), examples())
    compiling, served = threading.Event(), threading.Event()

    def serve() -> None:
        compiling.wait(60)
        with dspy.context(lm=model, adapter=None, trace=[]):
            compiled(question="What?")
        served.set()

    def waits(*_: Any) -> bool:
        compiling.set()
        return served.wait(60)

    thread = threading.Thread(target=serve)
    thread.start()
    dspy.BootstrapFewShot(metric=waits, max_labeled_demos=0).compile(
        PROGRAMS["predict"](), trainset=examples()
    )
    thread.join()
    assert [turn.inputs["question"] for turn in compiled.turns] == ["What?"]


class Declared(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


class TakesHistory(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step = dspy.Predict(Declared)

    def forward(self, question: str, history: dspy.History | None = None) -> Any:
        return self.step(question=question, history=history or dspy.History(messages=[]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [lambda: dspy.Predict(Declared), TakesHistory])
def test_programs_that_declare_a_history_themselves(model: ScriptedLM, make: Any, optimizer: str) -> None:
    session = sessionify(make())
    for question in ("first?", "second?", "kiwi?"):
        session(question=question)
    for index in range(3):
        session.edit_turn(index, outputs={"answer": "kiwi"})
    compiled = OPTIMIZERS[optimizer](session, session.to_examples() * 2)
    asked = len(model.requests)
    assert compiled(question="What?").answer == "kiwi"
    assert '"messages"' not in str(model.requests[asked:])
    assert (len(session), len(compiled)) == (3, 1)


def test_nodes_are_shown_in_training_what_they_had(model: ScriptedLM) -> None:
    app = with_memory(Pair())
    state = app.new_state()
    with app.use_state(state):
        sent = [wire(model, lambda q=q: app(question=q)) for q in ("first?", "second?", "third?")]
        trainset = app.to_examples()
    asked = len(model.requests)
    optimizer = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=3, max_labeled_demos=0)
    optimizer.compile(app, trainset=trainset)
    assert model.requests[asked:] == [request for turn in sent for request in turn]


def test_a_program_that_compiles_for_each_call_serves_many_users(model: ScriptedLM) -> None:
    compiled = OPTIMIZERS["knn"](with_memory(Pair()), examples())
    states = [compiled.new_state() for _ in range(3)]
    for place in range(2):
        for number, state in enumerate(states):
            with compiled.use_state(state):
                compiled(question=f"user {number} says {place}")
    for number, state in enumerate(states):
        assert [t.inputs["question"] for t in state.turns] == [f"user {number} says {i}" for i in range(2)]
        assert [len(node) for node in state.node_states.values()] == [2, 2]
    assert len(compiled.own_state) == 0
