"""Examples as records of evaluation datasets, in the form that MLflow gave them, and back; answers to records.

A record is a JSON object:

| key | value |
|---|---|
| `inputs` | the input fields of the example |
| `expectations` | the other fields |
| `tags` | what DSPy keeps to itself: the conversation and the turn that the example comes from |

Values are written as `dspy_session.codec.values` says, so that a history comes back as `dspy.History`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dspy

from dspy_session._base import SessionBase
from dspy_session.codec.values import Decoder, Encoder
from dspy_session.errors import ConfigurationError, FormatError


def to_records(examples: Iterable[dspy.Example], *, strict: bool = False) -> list[dict[str, Any]]:
    """Examples as records of an MLflow evaluation dataset: `dataset.merge_records(to_records(trainset))`.

    MLflow keeps one record of those whose inputs are the same.

    Args:
        examples: with input keys, as `to_examples` gives them.
        strict: raise `SerializationError` for a value that cannot keep its type, instead of writing its text.

    Raises:
        ConfigurationError: an example does not say which of its fields are inputs.
    """
    encoder = Encoder(strict=strict)
    return [record(each, encoder, f"example {i}") for i, each in enumerate(examples)]


def record(given: dspy.Example, encoder: Encoder, place: str) -> dict[str, Any]:
    """One example as a record; `place` says for errors which."""
    if not isinstance(given, dspy.Example) or given._input_keys is None:
        raise ConfigurationError(
            f"{place} must be a dspy.Example that knows its inputs (example.with_inputs(…)): {given!r}"
        )
    hidden = {k: v for k, v in given.items(include_dspy=True) if k.startswith("dspy_") and isinstance(v, str)}
    return {
        "inputs": encoder.fields(dict(given.inputs().items()), place),
        "expectations": encoder.fields(dict(given.labels().items()), place),
        "tags": hidden,
    }


def from_records(records: Any, *, types: Iterable[type] = ()) -> list[dspy.Example]:
    """Examples from the records of an MLflow evaluation dataset; their input keys are the records' inputs.

    Args:
        records: an evaluation dataset, or its records: mappings with `inputs`, and perhaps `expectations` and
            `tags`, as `to_records` gives them. Records that others wrote are read as well.
        types: classes of your own that may come back.

    Raises:
        FormatError: a record has no inputs, or a value is damaged.
    """
    rows = records.to_df().to_dict("records") if hasattr(records, "to_df") else records
    decoder = Decoder(types)
    return [example(row, decoder, f"record {i}") for i, row in enumerate(rows)]


def example(row: Any, decoder: Decoder, place: str) -> dspy.Example:
    """One record as an example; `place` says for errors which."""
    if not isinstance(row, Mapping) or not isinstance(row.get("inputs"), Mapping):
        raise FormatError(f"{place} has no inputs")
    # Where one record has none, MLflow's table has None or not-a-number.
    parts = {
        name: row[name] if isinstance(row.get(name), Mapping) else {} for name in ("expectations", "tags")
    }
    hidden = {name: value for name, value in parts["tags"].items() if str(name).startswith("dspy_")}
    inputs = decoder.fields(row["inputs"], place)
    labels = decoder.fields(parts["expectations"], place)
    return dspy.Example({**labels, **inputs, **hidden}).with_inputs(*inputs)


def predict_fn(program: Any, *, types: Iterable[type] = ()) -> Callable[..., Any]:
    """A program as the `predict_fn` of `mlflow.genai.evaluate`, for records that `to_records` made.

    A session answers each record with the history that the record has, or none, and records no turn. MLflow asks in
    threads of its own, where `dspy.configure` reaches and `dspy.context` does not.

    Args:
        program: a session or any other DSPy program.
        types: classes of your own that may be among the inputs.

    Returns:
        A function of a record's inputs that gives the prediction's fields.
    """
    encoder, decoder = Encoder(), Decoder(types)

    def predict(**inputs: Any) -> Any:
        given = decoder.fields(inputs, "the record")
        if not isinstance(program, SessionBase):
            return _plain(program(**given), encoder)
        with program.replay():
            return _plain(program(**given), encoder)

    return predict


def _plain(result: Any, encoder: Encoder) -> Any:
    if isinstance(result, dspy.Example):
        return encoder.fields(dict(result.items()), "the prediction")
    return encoder.value(result, "the prediction")
