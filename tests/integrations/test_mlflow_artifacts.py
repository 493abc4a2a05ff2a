"""Conversations and examples go into MLflow's stores and come back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_session import Session, SessionState, sessionify, split_examples, with_memory
from dspy_session.errors import ConfigurationError, FormatError, SerializationError
from dspy_session.stores import open_store
from dspy_session.testing.lm import ScriptedLM


@pytest.fixture(autouse=True)
def _model(experiment: Any) -> Iterator[None]:
    before = dspy.settings.lm
    dspy.configure(lm=ScriptedLM())
    yield
    dspy.configure(lm=before)


class Place(pydantic.BaseModel):
    name: str


def talk(questions: tuple[str, ...] = ("one", "two")) -> Session:
    chat = sessionify(dspy.Predict("question -> answer"), max_turns=7)
    for question in questions:
        chat(question=question)
    return chat


def same(found: list[dspy.Example], given: list[dspy.Example]) -> bool:
    """The fields, hidden ones too, and which of them are inputs."""
    plain = [[dict(e.items(include_dspy=True)) for e in examples] for examples in (found, given)]
    for fields in (*plain[0], *plain[1]):
        if "history" in fields:
            fields["history"] = list(fields["history"].messages)
    inputs = [[set(e.inputs().keys()) for e in examples] for examples in (found, given)]
    return plain[0] == plain[1] and inputs[0] == inputs[1]


def test_a_conversation_comes_back(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import load_conversation, load_state, log_conversation

    chat = talk()
    with experiment.start_run() as run:
        uri = log_conversation(chat)
    assert uri == f"runs:/{run.info.run_id}/conversation.json"
    again = load_conversation(uri, dspy.Predict("question -> answer"))
    assert again.turns == chat.turns
    assert (again.max_turns, again.state.conversation_id) == (7, chat.state.conversation_id)
    again(question="three")
    assert again.turns[2].history_snapshot.messages[0]["question"] == "one"
    assert load_conversation(uri, dspy.Predict("question -> answer"), max_turns=1).max_turns == 1
    assert load_state(uri).turns == chat.turns


def test_the_states_of_an_app(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import load_state, log_conversation

    app = with_memory(dspy.Predict("question -> answer"), unbound="error")
    states = {name: app.new_state() for name in ("ada", "max")}
    with experiment.start_run() as run:
        for name, state in states.items():
            with app.use_state(state):
                app(question=f"I am {name}.")
            log_conversation(state, f"users/{name}.json")
        with app.use_state(states["ada"]):
            bound = log_conversation(app, "bound.json")
    for name, state in states.items():
        assert load_state(f"runs:/{run.info.run_id}/users/{name}.json") == state
    assert load_state(bound) == states["ada"]


def test_a_stored_conversation(experiment: Any) -> None:
    """What of it is loaded."""
    from dspy_session.integrations.mlflow import load_state, log_conversation

    app = with_memory(dspy.Predict("question -> answer"), unbound="error")
    with experiment.start_run(), open_store("memory://") as store:
        with app.conversation("ada", store=store):
            for question in ("one", "two", "three"):
                app(question=question)
        with app.conversation("ada", store=store, last=1) as talk:
            newest = log_conversation(talk, "newest.json")
            talk.load_older()
            everything = log_conversation(talk, "all.json")
    assert [turn.index for turn in load_state(newest).turns] == [2]
    assert [turn.inputs["question"] for turn in load_state(everything).turns] == ["one", "two", "three"]


def test_without_a_run_one_begins(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import log_conversation, log_examples

    chat = talk()
    first = log_conversation(chat)
    assert experiment.active_run().info.run_id in first
    experiment.end_run()
    with experiment.start_run() as other:
        pass
    log_examples(chat.to_examples(), run_id=other.info.run_id)
    again = log_conversation(chat, "late/talk.json", run_id=other.info.run_id)
    assert again == f"runs:/{other.info.run_id}/late/talk.json"
    assert experiment.active_run() is None
    assert len(experiment.get_run(other.info.run_id).inputs.dataset_inputs) == 1


@pytest.mark.parametrize("path", ["talk.txt", "/talk.json", "../talk.json", "talk"])
def test_a_path_that_is_none(experiment: Any, path: str) -> None:
    from dspy_session.integrations.mlflow import log_conversation

    with pytest.raises(ConfigurationError, match="relative path"):
        log_conversation(talk(), path)
    assert experiment.active_run() is None


def test_another_file_is_refused_by_its_address(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import load_conversation, load_examples, load_state

    with experiment.start_run() as run:
        experiment.log_dict({"metadata": {}}, "weights.json")
        experiment.log_text("{}\n{", "broken.json")
        experiment.log_text('{"inputs": {"q": "a"}}\nno\n', "rows.jsonl")
        experiment.log_text('{"question": "a"}\n', "other.jsonl")
        experiment.log_text('{"inputs": {"q": {"$type": "date", "iso": "x"}}}\n', "values.jsonl")
    address = f"runs:/{run.info.run_id}"
    program = dspy.Predict("question -> answer")
    with pytest.raises(FormatError, match=f"^{address}/weights.json holds weights"):
        load_conversation(f"{address}/weights.json", program)
    with pytest.raises(FormatError, match=f"^{address}/broken.json is damaged"):
        load_state(f"{address}/broken.json")
    with pytest.raises(FormatError, match=f"^{address}/rows.jsonl:2 is damaged"):
        load_examples(f"{address}/rows.jsonl")
    with pytest.raises(FormatError, match=f"^{address}/other.jsonl:1 has no inputs"):
        load_examples(f"{address}/other.jsonl")
    with pytest.raises(FormatError, match=f"^{address}/values.jsonl:1, field 'q': damaged date"):
        load_examples(f"{address}/values.jsonl")


def test_a_trainset_is_a_dataset_of_the_run(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import load_examples, log_examples

    examples = [*talk().to_examples(), *talk(("three", "four")).to_examples()]
    with experiment.start_run() as run:
        uri = log_examples(examples, "handbook-v1", context="evaluation")
    assert uri == f"runs:/{run.info.run_id}/datasets/handbook-v1.jsonl"
    (used,) = experiment.get_run(run.info.run_id).inputs.dataset_inputs
    assert (used.dataset.name, json.loads(used.dataset.profile)) == ("handbook-v1", {"num_rows": 4})
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "evaluation")]
    source = experiment.data.get_source(used)
    assert source.uri == uri
    assert len(Path(source.load()).read_text(encoding="utf-8").splitlines()) == 4

    found = load_examples(uri)
    assert same(found, examples)
    assert isinstance(found[0].history, dspy.History)
    assert [len(part) for part in split_examples(found, ratio=0.5)] == [2, 2]


# Some releases of MLflow warn of a source of their own that does not answer.
@pytest.mark.filterwarnings("ignore:Failed to determine whether UCVolumeDatasetSource")
def test_the_sources_of_other_datasets_mean_what_they_meant(experiment: Any) -> None:
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    assert resolve_dataset_source("https://example.org/x.csv").url == "https://example.org/x.csv"
    with pytest.raises(experiment.MlflowException, match="Could not find"):
        resolve_dataset_source("runs:/0123/x.csv")


def test_the_same_examples_have_the_same_digest(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import log_examples

    examples = talk().to_examples()
    with experiment.start_run() as run:
        for given in (examples, examples, examples[:1]):
            log_examples(given, f"set-{len(given)}")
        log_examples(examples, "another-name")
    used = experiment.get_run(run.info.run_id).inputs.dataset_inputs
    digests = {one.dataset.name: one.dataset.digest for one in used}
    assert digests["set-2"] == digests["another-name"] != digests["set-1"]


def test_values_keep_their_types(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import load_examples, log_examples

    given = [
        dspy.Example(
            place=Place(name="Tromsø\u2028\ud83d"),
            day=date(2026, 1, 2),
            many=(1, 2.5),
            none=None,
            answer="ja",
        ).with_inputs("place", "day", "none"),
        dspy.Example(place="Oslo", answer="").with_inputs("place"),
    ]
    with experiment.start_run():
        uri = log_examples(given)
    found = load_examples(uri, types=[Place])
    assert same(found, given)


def test_examples_that_cannot_be_kept_leave_no_trace(experiment: Any) -> None:
    from dspy_session.integrations.mlflow import log_examples

    with experiment.start_run() as run:
        with pytest.raises(
            ConfigurationError, match=r"example 1 must be a dspy\.Example that knows its inputs"
        ):
            log_examples([dspy.Example(a=1).with_inputs("a"), dspy.Example(a=2)])
        with pytest.raises(ConfigurationError, match="example 0"):
            log_examples([{"a": 1}])
        with pytest.raises(ConfigurationError, match="name must be"):
            log_examples([], "../x")
        with pytest.raises(SerializationError, match="example 0, field 'a'"):
            log_examples([dspy.Example(a=object()).with_inputs("a")], strict=True)
    assert experiment.get_run(run.info.run_id).inputs.dataset_inputs == []
    assert experiment.MlflowClient().list_artifacts(run.info.run_id) == []


def test_an_evaluation_dataset_in_mlflows_store(experiment: Any) -> None:
    from mlflow.genai import datasets

    from dspy_session.integrations.mlflow import from_records, to_records

    examples = [*talk().to_examples(), *talk(("three", "four")).to_examples()]
    examples.append(dspy.Example(question="five").with_inputs("question"))
    made = datasets.create_dataset(name="handbook")
    made.merge_records(to_records(examples))
    kept = datasets.get_dataset(dataset_id=made.dataset_id)
    found = from_records(kept)
    order = [example.question for example in examples]
    assert same(sorted(found, key=lambda example: order.index(example.question)), examples)
    talks = [example for example in found if example.labels()]
    assert [len(part) for part in split_examples(talks, ratio=0.5)] == [2, 2]


def test_records_that_others_wrote() -> None:
    from dspy_session.integrations.mlflow import from_records

    nan = float("nan")
    rows = [
        {"inputs": {"q": "a"}, "expectations": {"expected_response": "b"}, "tags": {"team": "x"}},
        {"inputs": {"q": "c"}, "expectations": None, "tags": nan, "source": "HUMAN"},
    ]
    first, second = from_records(rows)
    assert (dict(first.inputs()), dict(first.labels())) == ({"q": "a"}, {"expected_response": "b"})
    assert (dict(second.items(include_dspy=True)), dict(second.inputs())) == ({"q": "c"}, {"q": "c"})
    with pytest.raises(FormatError, match="record 0 has no inputs"):
        from_records([{"question": "a"}])


def test_mlflow_evaluates_a_session(logged: Any, experiment: Any) -> None:
    """Each record is answered with its own history; the live conversation stays as it is."""
    from mlflow.genai import scorer

    from dspy_session.integrations.mlflow import predict_fn, to_records

    lm, chat = dspy.settings.lm, talk()
    records = to_records(chat.to_examples())

    @scorer
    def answered(outputs: Any, expectations: Any) -> bool:
        return set(outputs) == set(expectations) == {"answer"}

    before = len(lm.requests)
    results = experiment.genai.evaluate(data=records, predict_fn=predict_fn(chat), scorers=[answered])
    assert results.metrics == {"answered/mean": 1.0}
    assert len(chat) == 2
    shown = [sum(m["role"] == "assistant" for m in messages) for messages in lm.requests[before:]]
    assert sorted(set(shown)) == [0, 1]
    turns = [trace for trace in logged() if "mlflow.trace.session" in trace.info.trace_metadata]
    assert len(turns) == 2


def test_predictions_of_programs_are_plain() -> None:
    from dspy_session.integrations.mlflow import predict_fn

    class Text(dspy.Module):
        def forward(self, day: date) -> Any:
            return f"{day:%A}"

    assert predict_fn(Text())(day={"$type": "date", "iso": "2026-01-02"}) == "Friday"
    assert predict_fn(dspy.Predict("q -> a"))(q="one") == {"a": "a 1"}


def test_a_state_logged_is_a_state_file(experiment: Any, tmp_path: Path) -> None:
    from dspy_session.integrations.mlflow import log_conversation

    state = talk().state
    with experiment.start_run():
        uri = log_conversation(state)
    path = experiment.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path))
    assert SessionState.load_from(path) == state
