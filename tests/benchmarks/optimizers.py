"""What optimizers do with a session, beside the bare program.

The model knows the code word that scores only if the instructions or the demos of its prompt give it away: it
can learn in no other way. Each optimizer compiles, with the same settings and seeds,

- the bare program, on examples that stand alone;
- the session, on the same examples;
- the session, on recorded conversations of three turns, whose answers a human corrected afterwards.

For each: how often the metric and the model were called while compiling, how many tokens were sent
(characters by four), and the score of the outcome on questions that were held out. The model that proposes
for GEPA is not counted. Two optimizers ask nothing when they compile: `labeled` takes the answers as they
are, `knn` compiles for each call. The first rows are the program before compiling.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import dspy

from dspy_session import Session, sessionify
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.benchmarks.report import Item, Ratio, Table
from tests.benchmarks.suites import Run, alone
from tests.optimizing import programs

HELD_OUT = [
    dspy.Example(question=f"{colour}?").with_inputs("question") for colour in ("grey", "brown", "gold")
]


@dataclass
class Row:
    """What one compilation took and gave."""

    metric_calls: int
    model_calls: int
    tokens: int
    score: float


class Counted:
    """A metric that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, example: Any, prediction: Any, trace: Any = None, *_: Any) -> float:
        self.calls += 1
        return float("kiwi" in str(prediction.answer))


def score(program: Any) -> float:
    """The share of held-out questions that the program answers well."""
    right = 0
    for example in HELD_OUT:
        session = isinstance(program, Session)
        answer = program.fork()(**example.inputs()) if session else program(**example.inputs())
        right += "kiwi" in answer.answer
    return 100 * right / len(HELD_OUT)


def recorded() -> list[dspy.Example]:
    """Two conversations of three turns, corrected afterwards: the histories show what was said then."""
    found: list[dspy.Example] = []
    for start in (0, 3):
        session = sessionify(programs.Pair())
        for colour in programs.COLOURS[start : start + 3]:
            session(question=f"{colour}?")
        for index in range(3):
            session.edit_turn(index, outputs={"answer": "kiwi"})
        found += session.to_examples()
    return found


def measured(optimizer: str, program: Any, trainset: list[dspy.Example]) -> Row:
    """Compile, counting what it takes."""
    lm, counted = ScriptedLM(programs.learnt), Counted()
    random.seed(0)
    with (
        mock.patch.object(programs, "metric", counted),
        dspy.context(lm=lm, adapter=None, trace=[], callbacks=[]),
    ):
        compiled = programs.OPTIMIZERS[optimizer](program, trainset)
        took = Row(counted.calls, len(lm.requests), sum(map(size, lm.requests)), 0.0)
        took.score = score(compiled)
    return took


def size(request: list[dict[str, Any]]) -> int:
    """Tokens of a request, at four characters each."""
    return sum(len(text_of(message)) for message in request) // 4


def baseline() -> list[list[Any]]:
    """Rows of the program before compiling."""
    kinds: dict[str, Any] = {"bare": programs.Pair(), "session": sessionify(programs.Pair())}
    return [["uncompiled", kind, None, None, None, score(program)] for kind, program in kinds.items()]


def measure(run: Run) -> Iterator[Item]:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with dspy.context(lm=ScriptedLM(programs.learnt), adapter=None, trace=[]):
        rows = baseline()
        conversations = recorded()
    kinds: dict[str, Callable[[], tuple[Any, list[dspy.Example]]]] = {
        "bare": lambda: (programs.Pair(), programs.examples()),
        "session": lambda: (sessionify(programs.Pair()), programs.examples()),
        "session, conversations": lambda: (sessionify(programs.Pair()), conversations),
    }
    ratios = []
    for optimizer in run.pick(list(programs.OPTIMIZERS), ["labeled", "bootstrap"]):
        took: dict[str, Row] = {}
        for kind, make in kinds.items():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                row = took[kind] = measured(optimizer, *make())
            rows.append([optimizer, kind, row.metric_calls, row.model_calls, row.tokens, row.score])
        if took["bare"].tokens:
            share = took["session"].tokens / took["bare"].tokens
            ratios.append(Ratio(f"tokens of compiling with `{optimizer}`", "bare program", share))
    yield Table(
        "Compiling",
        ("optimizer", "program", "metric calls|,", "model calls|,", "tokens sent|,", "score, %|.0f"),
        rows,
        [
            f"A program of two predictors, {len(programs.COLOURS)} examples. Conversations are longer than examples."
        ],
        ratios,
    )


if __name__ == "__main__":
    alone(measure)
