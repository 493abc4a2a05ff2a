"""Training data per predictor, and chats to fine-tune on."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_session import errors, sessionify, split_examples, with_memory
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import PROGRAMS, Pair, Tunable, learnt, metric, tool, wire
from tests.optimizing.test_replay import numbered


@pytest.fixture
def lm() -> Any:
    model = ScriptedLM(numbered)
    with dspy.context(lm=model, adapter=None, trace=[], callbacks=[]):
        yield model


def talked(program: Any, **options: Any) -> Any:
    session = sessionify(program, record="calls", **options)
    session(question="Who wrote it?")
    session(question="When?")
    return session


def test_each_turn_keeps_the_calls_of_its_predictors(lm: ScriptedLM) -> None:
    session = talked(Pair())
    planner, writer = session.turns[1].calls
    assert [planner.path, writer.path] == [name for name, _ in session.named_predictors()]
    assert planner.inputs == {"question": "When?"}
    assert set(planner.outputs) == {"reasoning", "plan"}
    assert writer.inputs == {"question": "When?", "plan": planner.outputs["plan"]}
    assert writer.outputs == {"answer": session.turns[1].outputs["answer"]}
    assert planner.history is not None
    assert [m["question"] for m in planner.history] == ["Who wrote it?"]
    assert sessionify(Pair()).options.record == "turns"


def test_each_call_tells_how_long_it_took(lm: ScriptedLM) -> None:
    started = time.perf_counter()
    session = talked(Pair())
    elapsed = time.perf_counter() - started
    seconds = [call.seconds or 0.0 for turn in session.turns for call in turn.calls]
    assert all(each > 0 for each in seconds)
    assert sum(seconds) < elapsed


def test_files_that_do_not_tell_how_long_a_call_took(lm: ScriptedLM) -> None:
    saved = json.loads(json.dumps(talked(Pair()).save_state()))
    for turn in saved["turns"]:
        for call in turn["calls"]:
            assert call.pop("seconds") > 0
    other = sessionify(Pair(), record="calls")
    other.load_conversation(saved)
    assert [call.seconds for turn in other.turns for call in turn.calls] == [None] * 4


def test_an_agents_tool_calls_are_kept(lm: ScriptedLM) -> None:
    session = talked(dspy.ReAct("question -> answer", tools=[tool], max_iters=3))
    calls = session.turns[1].calls
    assert [call.path for call in calls] == ["react", "react", "extract.predict"]
    assert calls[0].outputs["next_tool_name"] == "tool"
    assert calls[0].outputs["next_tool_args"] == {"place": "Oslo"}
    assert "observation_0" in str(calls[1].inputs["trajectory"])


def test_a_turn_prints_its_calls_as_a_tree(lm: ScriptedLM, capsys: pytest.CaptureFixture[str]) -> None:
    session = talked(Pair())
    session.turns[1].print_calls()
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith("Turn 1")
    assert [line.split()[1] for line in lines if line[0] in "├└"] == ["planner.predict", "writer"]
    assert "When?" in printed
    assert "[history 1]" in printed


def test_calls_of_parallel_and_async_programs(lm: ScriptedLM) -> None:
    class Fan(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = [dspy.Predict("question -> note"), dspy.Predict("question -> note")]
            self.last = dspy.Predict("notes -> answer")

        def forward(self, question: str) -> Any:
            pairs = [(step, {"question": question}) for step in self.steps]
            notes = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
            return self.last(notes=str([note.note for note in notes]))

        async def aforward(self, question: str) -> Any:
            notes = await asyncio.gather(*(step.acall(question=question) for step in self.steps))
            return await self.last.acall(notes=str([note.note for note in notes]))

    session = sessionify(Fan(), record="calls")
    session(question="Who?")
    asyncio.run(session.acall(question="When?"))
    for turn in session.turns:
        paths = [call.path for call in turn.calls]
        assert sorted(paths[:2]) == ["steps[0]", "steps[1]"]
        assert paths[2] == "last"


def test_calls_survive_files_and_forks(lm: ScriptedLM) -> None:
    session = talked(Pair())
    other = sessionify(Pair(), record="calls")
    other.load_conversation(json.loads(json.dumps(session.save_state())))
    for turn, loaded in zip(session.turns, other.turns, strict=True):
        assert [(c.path, dict(c.inputs), dict(c.outputs), c.history, c.seconds) for c in turn.calls] == [
            (c.path, dict(c.inputs), dict(c.outputs), c.history, c.seconds) for c in loaded.calls
        ]
    assert session.fork().turns[0].calls == session.turns[0].calls
    by_path = other.to_examples(by="predictor")
    assert {path: len(found) for path, found in by_path.items()} == {"planner.predict": 2, "writer": 2}


@pytest.mark.parametrize("name", ["predict", "cot", "pair", "react", "memory"])
def test_examples_by_predictor_repeat_each_predictors_requests(lm: ScriptedLM, name: str) -> None:
    if name == "memory":
        session = with_memory(Pair(), record="calls")
    else:
        session = sessionify(PROGRAMS[name](), record="calls")
    sent = [wire(lm, lambda q=q: session(question=q)) for q in ("Who wrote it?", "When?")]
    found = session.to_examples(by="predictor")
    expected = [request for turn in sent for request in turn]
    for alone in (copy.deepcopy, lambda predictor: dspy.Predict(predictor.signature)):
        repeated = []
        for path, predictor in session.named_predictors():
            single = alone(predictor)
            for example in found[path]:
                repeated += wire(lm, lambda e=example, p=single: p(**e.inputs()))
        assert sorted(map(str, repeated)) == sorted(map(str, expected))


def test_each_trainset_compiles_its_predictor_alone() -> None:
    lm = ScriptedLM(learnt)
    with dspy.context(lm=lm, adapter=None, trace=[]):
        session = talked(Pair())
        trainsets = session.to_examples(by="predictor")
        assert list(trainsets) == [name for name, _ in session.named_predictors()]
        for path, trainset in trainsets.items():
            asked = len(lm.requests)
            predictor = dict(session.named_predictors())[path]
            compiled = dspy.BootstrapFewShot(metric=lambda *_: True, max_labeled_demos=0).compile(
                predictor.deepcopy(), trainset=trainset
            )
            assert len(compiled.demos) == 2
            assert [len(request) for request in lm.requests[asked:]] == [2, 4]
            predictor.demos = compiled.demos
        asked = len(lm.requests)
        session(question="Now?")
        for request in lm.requests[asked:]:
            assert any("another conversation" in text_of(m) for m in request)
        assert len(session) == 3


def test_filters_and_provenance_hold_for_calls(lm: ScriptedLM) -> None:
    session = talked(Pair())
    session.rate(0, 1.0)
    session.rate(1, 0.0)
    kept = session.to_examples(by="predictor", min_score=0.5)
    assert {path: [e.question for e in found] for path, found in kept.items()} == {
        "planner.predict": ["Who wrote it?"],
        "writer": ["Who wrote it?"],
    }
    everything = session.to_examples(by="predictor")["writer"]
    first, second = split_examples(everything, 0.5)
    assert (first, second) == (everything, []) or (first, second) == ([], everything)


def test_turns_without_calls_are_refused(lm: ScriptedLM) -> None:
    session = sessionify(Pair())
    session(question="Who wrote it?")
    with pytest.raises(errors.ConfigurationError, match='record="calls"'):
        session.to_examples(by="predictor")
    with pytest.raises(errors.ConfigurationError, match="by"):
        session.to_examples(by="node")


# ── fine-tuning ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["predict", "cot", "pair", "react"])
def test_chats_are_the_requests_and_their_answers(lm: ScriptedLM, name: str) -> None:
    session = sessionify(PROGRAMS[name](), record="calls")
    sent = [r for q in ("Who wrote it?", "When?") for r in wire(lm, lambda q=q: session(question=q))]
    chats = session.to_finetune(adapter=dspy.ChatAdapter())
    assert [chat["messages"][:-1] for chat in chats] == sent
    for chat in chats:
        assert chat["messages"][-1]["role"] == "assistant"
    assert [m["role"] for m in chats[-1]["messages"]][:3] == ["system", "user", "assistant"]
    first = dict(session.turns[0].calls[0].outputs)
    assert all(
        str(value) in chats[0]["messages"][-1]["content"]
        for value in first.values()
        if isinstance(value, str)
    )


@pytest.mark.parametrize("name", ["predict", "cot", "pair"])
def test_chats_are_what_dspy_itself_trains_on(name: str) -> None:
    lm = Tunable()
    with dspy.context(lm=lm, adapter=None, trace=[]):
        session = sessionify(PROGRAMS[name](), record="calls")
        session.set_lm(lm)
        session(question="Who wrote it?")
        session(question="When?")
        chats = session.to_finetune()
        dspy.BootstrapFinetune(num_threads=4).compile(session, trainset=session.to_examples())
    assert sorted(map(str, lm.taken)) == sorted(map(str, chats))


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_the_adapter_decides_the_format(lm: ScriptedLM, adapter: Any, tmp_path: Path) -> None:
    session = sessionify(dspy.ChainOfThought("question -> answer"))
    with dspy.context(adapter=adapter):
        sent = [r for q in ("Who wrote it?", "When?") for r in wire(lm, lambda q=q: session(question=q))]
    chats = session.to_finetune(tmp_path / "chats.jsonl", adapter=adapter)
    assert [chat["messages"][:-1] for chat in chats] == sent
    lines = (tmp_path / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == chats
    answer = adapter.parse(session.module.predict.signature, chats[1]["messages"][-1]["content"])
    assert answer["answer"] == session.turns[1].outputs["answer"]


def test_only_good_turns(lm: ScriptedLM) -> None:
    session = sessionify(dspy.Predict("question -> answer"))
    for question in ("Who wrote it?", "When?"):
        session(question=question)
    session.rate(1, 1.0)
    assert len(session.to_finetune(min_score=0.5)) == 1
    assert session.score(metric) == [0.0, 0.0]
    unrecorded = sessionify(Pair())
    unrecorded(question="Who wrote it?")
    with pytest.raises(errors.ConfigurationError, match='record="calls"'):
        unrecorded.to_finetune()


def test_memories_of_nodes_are_in_their_chats(lm: ScriptedLM) -> None:
    app = with_memory(Pair(), record="calls")
    sent = [r for q in ("Who wrote it?", "When?") for r in wire(lm, lambda q=q: app(question=q))]
    assert [chat["messages"][:-1] for chat in app.to_finetune()] == sent
