"""A session's weights are its program's, in memory and in files; programs are exchanged beneath it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt.bootstrap_trace import bootstrap_trace_data

from dspy_session import Session, errors, sessionify, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import (
    OPTIMIZERS,
    PROGRAMS,
    Desk,
    Pair,
    Reflection,
    Tunable,
    examples,
    feedback,
    metric,
    wire,
)
from tests.optimizing.test_replay import numbered


class Described(dspy.Signature):
    """Answer in one word."""

    question: str = dspy.InputField(desc="what is asked")
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField(desc="one word")


class Middle(dspy.Signature):
    """Answer in one word."""

    context: str = dspy.InputField(desc="what is known")
    question: str = dspy.InputField(desc="what is asked")
    answer: str = dspy.OutputField(desc="one word")


ALL = {
    **PROGRAMS,
    "described": lambda: dspy.Predict(Described),
    "desk": lambda: Desk(dspy.Predict("question -> answer")),
}


def trained(program: Any) -> Any:
    """The program with demos and instructions of its own."""
    for number, predictor in enumerate(program.predictors()):
        signature = predictor.signature.with_instructions(f"Trained {number}.")
        predictor.signature = signature.with_updated_fields("question", desc=f"question {number}") if (
            "question" in signature.fields
        ) else signature  # fmt: skip
        fields = {name: f"{name} of demo {number}" for name in signature.fields if name != "history"}
        if "history" not in predictor.signature.fields:
            predictor.demos = [dspy.Example(fields)]
    return program


@pytest.mark.parametrize("name", ALL)
def test_states_go_both_ways(model: ScriptedLM, name: str) -> None:
    bare = trained(ALL[name]())
    expected = wire(model, lambda: bare(question="What?"))
    session = sessionify(ALL[name]())
    session.load_state(bare.dump_state())
    assert session.dump_state() == bare.dump_state()
    assert [n for n, _ in session.named_predictors()] == [n for n, _ in bare.named_predictors()]
    assert wire(model, lambda: session(question="What?")) == expected
    back = ALL[name]()
    back.load_state(session.dump_state())
    assert back.dump_state() == bare.dump_state()
    assert wire(model, lambda: back(question="What?")) == expected
    around = sessionify(bare)
    assert around.dump_state() == bare.dump_state()
    assert wire(model, lambda: around(question="What?")) == expected
    # The program itself goes on as it was.
    assert wire(model, lambda: bare(question="What?")) == expected


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("suffix", [".json", ".pkl"])
def test_files_go_both_ways(model: ScriptedLM, name: str, suffix: str, tmp_path: Path) -> None:
    bare = trained(ALL[name]())
    expected = wire(model, lambda: bare(question="What?"))
    bare_file, session_file = tmp_path / f"bare{suffix}", tmp_path / f"session{suffix}"
    options = {"allow_pickle": True} if suffix == ".pkl" else {}
    bare.save(bare_file)
    session = sessionify(ALL[name]())
    session.load(bare_file, **options)
    assert wire(model, lambda: session(question="What?")) == expected
    session.save_weights(session_file)
    if suffix == ".json":
        assert json.loads(session_file.read_text()) == json.loads(bare_file.read_text())
    back = ALL[name]()
    back.load(session_file, **options)
    assert wire(model, lambda: back(question="What?")) == expected
    assert len(session) == 1


def test_a_weight_file_reads_over_a_conversation(model: ScriptedLM, tmp_path: Path) -> None:
    trained(Pair()).save(tmp_path / "bare.json")
    session = sessionify(Pair())
    session(question="Who wrote it?")
    session.load(tmp_path / "bare.json")
    assert len(session) == 1
    request = wire(model, lambda: session(question="When?"))[0]
    assert "Trained 0." in text_of(request[0])
    assert any("Who wrote it?" in text_of(m) for m in request)


def test_the_kinds_of_file_are_not_mixed_up(model: ScriptedLM, tmp_path: Path) -> None:
    session = sessionify(Pair())
    session(question="Who wrote it?")
    session.save(tmp_path / "talk.json")
    session.save_weights(tmp_path / "weights.json")
    with pytest.raises(errors.FormatError, match="load_from"):
        session.load(tmp_path / "talk.json")
    with pytest.raises(errors.FormatError, match=r"session\.load"):
        Session.load_from(tmp_path / "weights.json", Pair())


LOADER = """
import sys, dspy, json
sys.path.insert(0, sys.argv[2])
from dspy_session.testing.lm import ScriptedLM
from tests.optimizing.test_replay import numbered
program = dspy.load(sys.argv[1], allow_pickle=True)
lm = ScriptedLM(numbered)
with dspy.context(lm=lm):
    program(question="What?")
    program(question="And?")
print(json.dumps({"requests": lm.requests, "turns": len(program), "type": type(program).__name__}))
"""


@pytest.mark.parametrize("name", ["predict", "cot", "pair", "react"])
def test_a_program_folder_is_read_by_another_process(name: str, tmp_path: Path) -> None:
    lm = ScriptedLM(numbered)
    with dspy.context(lm=lm, adapter=None):
        session = sessionify(trained(PROGRAMS[name]()), max_turns=5)
        session(question="live secret")
        session.save(tmp_path / "program", save_program=True)
        twin = session.fork()
        twin.reset()
        lm.requests.clear()
        expected = [*wire(lm, lambda: twin(question="What?")), *wire(lm, lambda: twin(question="And?"))]
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADER, str(tmp_path / "program"), root],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["turns"] == 2
    assert told["type"] == "Session"
    assert "live secret" not in str(told)
    assert told["requests"] == expected


def test_dspy_load_gives_a_bare_folder_to_a_session(model: ScriptedLM, tmp_path: Path) -> None:
    bare = trained(dspy.ChainOfThought(Middle))
    bare.save(tmp_path / "bare", save_program=True)
    loaded = sessionify(dspy.load(tmp_path / "bare", allow_pickle=True))
    given = {"question": "What?", "context": "all"}
    assert wire(model, lambda: loaded(**given)) == wire(model, lambda: bare(**given))


# ── hot swap ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["bare", "compiled", "session", "compiled session"])
def test_update_module_goes_on_with_the_conversation(model: ScriptedLM, kind: str) -> None:
    session = sessionify(Pair(), max_turns=4, record="calls")
    session(question="Who wrote it?")
    session.rate(0, 0.5)
    new: Any = trained(Pair())
    if kind == "compiled":
        new = dspy.LabeledFewShot(k=2).compile(new, trainset=examples())
    elif "session" in kind:
        new = sessionify(new)
        new(question="other secret")
        if kind == "compiled session":
            new = dspy.LabeledFewShot(k=2).compile(new, trainset=examples())
    weights = new.dump_state()
    options, turns = session.options, session.turns
    session.update_module(new)
    assert session.turns == turns
    assert session.options == options
    assert session.dump_state() == weights
    asked = len(model.requests)
    session(question="When?")
    sent = model.requests[asked:]
    assert all(any("Who wrote it?" in text_of(m) for m in request) for request in sent)
    assert "other secret" not in str(sent)
    assert "Trained 0." in text_of(sent[0][0])
    assert len(session) == 2
    assert [call.path for call in session.turns[-1].calls] == ["planner.predict", "writer"]
    # The given program is not the session's: it can be used and changed by itself.
    new.predictors()[0].demos = []
    assert session.dump_state() == weights


@pytest.mark.parametrize("kind", ["bare", "session", "app"])
def test_update_module_keeps_nodes_and_policies(model: ScriptedLM, kind: str) -> None:
    app = with_memory(Pair(), child_configs={"planner": {"lifespan": "stateless"}})
    state = app.new_state()
    with app.use_state(state):
        app(question="Who wrote it?")
    new = trained(Pair())
    wrapped = {"bare": lambda: new, "session": lambda: sessionify(new), "app": lambda: with_memory(new)}
    app.update_module(wrapped[kind]())
    with app.use_state(state):
        planner, writer = wire(model, lambda: app(question="When?"))
    assert not any("Who wrote it?" in text_of(m) for m in planner)
    assert any("Who wrote it?" in text_of(m) for m in writer)
    assert len(state) == 2
    assert len(state.node_states["writer"]) == 2


def test_update_module_refuses_what_does_not_fit(model: ScriptedLM) -> None:
    app = with_memory(Pair(), child_configs={"planner": {"lifespan": "stateless"}})
    with pytest.raises(errors.UnknownPathError, match="planner"):
        app.update_module(dspy.Predict("question -> answer"))
    with pytest.raises(errors.ConfigurationError, match=r"dspy\.Module"):
        app.update_module("no program")  # type: ignore[arg-type]
    assert isinstance(app.module, Pair)
    app(question="What?")
    assert len(app) == 1


class Support(dspy.Signature):
    """You are a customer support agent for a SaaS product."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.mark.parametrize("optimizer", ["gepa", "bootstrap", "finetune"])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_bare_program_compiles_on_the_histories(model: ScriptedLM, optimizer: str, loaded: bool) -> None:
    session = sessionify(dspy.Predict(Support))
    sent = [wire(model, lambda q=q: session(question=q))[0] for q in ("I cannot log in.", "I did.")]
    trainset = session.to_examples()
    if loaded:
        copied = sessionify(dspy.Predict(Support))
        copied.load_conversation(json.loads(json.dumps(session.save_state())))
        trainset = copied.to_examples()
    bare = dspy.Predict(Support)
    asked = len(model.requests)
    if optimizer == "gepa":
        gepa = dspy.GEPA(metric=feedback, max_metric_calls=8, reflection_lm=Reflection(), num_threads=1)
        compiled = gepa.compile(bare, trainset=trainset)
    elif optimizer == "bootstrap":
        bootstrap = dspy.BootstrapFewShot(metric=lambda *_: True, max_labeled_demos=0)
        compiled = bootstrap.compile(bare, trainset=trainset)
    else:
        tunable = Tunable()
        bare.set_lm(tunable)
        compiled = dspy.BootstrapFinetune(num_threads=1).compile(bare, trainset=trainset)
        assert sorted(str(chat["messages"][:-1]) for chat in tunable.taken) == sorted(map(str, sent))
        assert "history" not in str(tunable.taken)
        model.requests.extend(tunable.requests)
    trained_on = model.requests[asked:]
    # Each training call is the recorded one: the second with the first exchange in front of it.
    lengths = [len(request) for request in trained_on]
    assert {2, 4} <= set(lengths)
    assert all(request in sent for request in trained_on[:2])
    session.update_module(compiled)
    request = wire(compiled.lm or model, lambda: session(question="The email never arrived."))[0]
    past = [text_of(m) for m in request if m["role"] == "user"]
    assert any("I cannot log in." in text for text in past[:-1])
    assert len(session) == 3
    if optimizer == "gepa":
        assert "Say kiwi." in text_of(request[0])


def test_a_bare_program_without_a_sessions_history_is_dspys_own(model: ScriptedLM) -> None:
    bare = dspy.Predict(Support)
    bare(question="Hi")
    first = model.requests[-1]
    assert len(first) == 2
    assert "history" not in str(first)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_session_around_a_program_that_compiles_for_each_call(model: ScriptedLM, name: str) -> None:
    bare = OPTIMIZERS["knn"](PROGRAMS[name](), examples())
    expected = wire(model, lambda: bare(question="What?"))
    session = sessionify(bare)
    assert wire(model, lambda: session(question="What?")) == expected
    request = wire(model, lambda: session(question="And now?"))[-1]
    assert any("What?" in text_of(m) for m in request[1:-1])
    assert len(session) == 2


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_session_around_a_program_that_was_traced(model: ScriptedLM, name: str) -> None:
    bare = PROGRAMS[name]()
    bootstrap_trace_data(program=bare, dataset=examples(), metric=metric, num_threads=1)
    session = sessionify(bare)
    session(question="What?")
    assert all(
        any("What?" in text_of(m) for m in request[1:-1])
        for request in wire(model, lambda: session(question="And now?"))
    )
    session.update_module(bare)
    assert len(wire(model, lambda: session(question="And then?"))[0]) >= 6
