"""What a session costs, beside the same call without one.

Everything is measured in one process and by turns, a bare call and then a session's call. The bare
`dspy.Predict` is given a `dspy.History` of the same length. The model answers at once. Before each session call
its newest turn is replaced by one that was never rendered, as in a live conversation, in which the last answer is
new to the prompt each time. Times are lower quartiles of the repetitions.
"""

from __future__ import annotations

import gc
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import dspy

from dspy_session import Session, sessionify, windows
from dspy_session._rendered import CACHE_BYTES, RENDERED
from tests.benchmarks.peer_scripts.instant import ANSWER, QUESTION, InstantLM, engine_lm
from tests.benchmarks.report import Item, Missing, Ratio, Table
from tests.benchmarks.suites import Run, alone
from tests.benchmarks.timing import in_turns, timed


class Echo(dspy.Module):
    """A program without a predictor: what is left of a call is the session's own part."""

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=question)


def measure(run: Run) -> Iterator[Item]:
    dspy.configure(adapter=dspy.ChatAdapter(), warn_on_type_mismatch=False, disable_history=True)
    seconds = run.pick(4.0, 0.1)
    yield from calls(run, seconds)
    yield overhead(run.pick((1, 10, 100, 1_000, 5_000), (1, 10)), seconds)
    yield memory(run.pick(3_000, 30))
    yield render_cache(run.pick(50_000, 500))
    yield saved(run.pick((250, 500, 1_000, 2_000, 4_000), (10, 20)))
    yield forks(run.pick(5_000, 50), seconds)
    yield prompt_caching(run.pick(100, 10))


def filled(module: dspy.Module, turns: int, **options: Any) -> Session:
    """A session with so many turns."""
    session = sessionify(module, **options)
    for number in range(turns):
        session.add_turn({"question": QUESTION.format(number)}, {"answer": ANSWER.format(number)})
    return session


def renewing(session: Session) -> Callable[[], None]:
    """Bring a session back to its length, with a newest turn that no call has seen.

    It may be a tenth longer: taking turns back and adding others branches the log, which copies it.
    """
    turns = len(session)
    numbers = itertools.count(turns)

    def renew() -> None:
        number = next(numbers)
        if len(session) > turns + turns // 10:
            session.undo(len(session) - turns + 1)
        session.add_turn({"question": QUESTION.format(number)}, {"answer": ANSWER.format(number)})

    return renew


def in_common(one: str, other: str) -> int:
    """The length of the beginning that two texts share."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────


def call_row(lm: Any, turns: int, seconds: float) -> list[Any]:
    """A bare predictor that is given a history, and a session that has one, of the same length."""
    bare = dspy.Predict("question, history: dspy.History -> answer")
    session = filled(dspy.Predict("question -> answer"), turns)
    history = dspy.History(messages=[dict(message) for message in session.session_history.messages])
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        found = in_turns(
            {
                "bare": timed(lambda: bare(question="And tomorrow?", history=history)),
                "session": timed(lambda: session(question="And tomorrow?"), renewing(session)),
            },
            seconds=seconds,
        )
    lm.history.clear()
    return [turns, found["bare"] * 1e6, found["session"] * 1e6, found["session"] / found["bare"]]


def call_table(title: str, lm: Any, lengths: tuple[int, ...], seconds: float) -> Table:
    rows = [call_row(lm, turns, seconds) for turns in lengths]
    name = type(lm).__name__
    ratios = [
        Ratio(f"a call with {row[0]:,} turns before it (`{name}`)", "bare DSPy", row[3]) for row in rows
    ]
    return Table(
        title, ("turns|,", "bare, µs|,.0f", "session, µs|,.0f", "session ÷ bare|.2f"), rows, [], ratios
    )


def calls(run: Run, seconds: float) -> Iterator[Item]:
    lengths = run.pick((1, 10, 100, 1_000), (1, 10))
    yield call_table(
        "A session call and a bare `dspy.Predict`, with a `BaseLM`", InstantLM(), lengths, seconds
    )
    lm = engine_lm()
    if lm is None:
        yield Missing("calls with `dspy.LM`", f"DSPy {dspy.__version__} takes no engine of one's own")
        return
    yield call_table("A session call and a bare `dspy.Predict`, with `dspy.LM`", lm, lengths, seconds)


def overhead(lengths: tuple[int, ...], seconds: float) -> Table:
    """What a session adds to a program that asks no model: inputs, view, frame, record."""
    bare = Echo()
    rows: list[list[Any]] = []
    for turns in lengths:
        session = filled(Echo(), turns)
        found = in_turns(
            {
                "bare": timed(lambda: bare(question="one")),
                "session": timed(lambda session=session: session(question="one"), renewing(session)),
            },
            seconds=seconds,
        )
        added = (found["session"] - found["bare"]) * 1e6
        rows.append([turns, found["bare"] * 1e6, added, added / rows[0][2] if rows else 1.0])
    return Table(
        "What a session adds to a call, rendering apart",
        ("turns|,", "bare program, µs|,.0f", "added, µs|,.0f", "against the first|.2f"),
        rows,
        [
            "The program asks no model. The last column is flat at 1: "
            "what is added does not grow with the conversation."
        ]
        if all(0.8 < row[3] < 1.25 for row in rows)
        else ["The last column is 1 where what is added does not grow with the conversation."],
    )


# ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────


def memory(turns: int, size: int = 1_024) -> Table:
    """Recorded turns, every snapshot and every past message held, against the text in them."""
    half = size // 2
    filled(Echo(), 3)
    session = sessionify(Echo())
    text = turns * size
    rows: list[list[Any]] = [["the text alone", text / 1e6, 1.0]]

    def weigh(what: str) -> None:
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        rows.append([what, held / 1e6, held / text])

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(turns):
        # Every input and every answer is a text of its own, as it is with a model.
        session.add_turn({"question": f"{number:>{half}}"}, {"answer": f"{number:<{half}}"})
    weigh("recorded turns with their snapshots")
    shown = len(session.session_history.view.messages())  # type: ignore[attr-defined]
    weigh("and the messages that the last snapshot was made into")
    held = [(turn, turn.history_snapshot) for turn in session.turns]
    weigh("and a `Turn` and a `History` held for each")
    tracemalloc.stop()
    assert shown == len(held) == turns
    return Table(
        "What recorded turns take in memory",
        ("what", "MB|.2f", "against the text|.2f"),
        rows,
        [f"{turns:,} turns of {size:,} characters."],
    )


def render_cache(repeats: int) -> Table:
    """That the cache of rendered turns keeps its cap."""
    RENDERED.clear()
    with dspy.context(lm=InstantLM()):
        gc.collect()
        tracemalloc.start()
        for number in range(6):
            session = sessionify(dspy.Predict("question -> answer"))
            for turn in range(80):
                session.add_turn({"question": f"{number}{turn:02}" * repeats}, {"answer": "yes"})
            session.preview(question="one")
            del session
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        RENDERED.clear()
        gc.collect()
        freed = held - tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return Table(
        "What the cache of rendered turns holds",
        ("rendered, MB|.1f", "cached, MB|.1f", "cap, MB|.1f"),
        [[6 * 80 * 3 * repeats / 1e6, freed / 1e6, CACHE_BYTES / 1e6]],
        ["The turns of 6 conversations, all of them dropped."],
    )


def saved(lengths: tuple[int, ...]) -> Table:
    rows: list[list[Any]] = []
    for turns in lengths:
        session = filled(Echo(), turns)
        start = time.perf_counter()
        size = len(json.dumps(session.save_state()))
        seconds = time.perf_counter() - start
        each = size / turns
        rows.append([turns, size, each, each / rows[0][2] if rows else 1.0, seconds / turns * 1e6])
    return Table(
        "A saved conversation, by its length",
        ("turns|,", "bytes|,", "bytes a turn|,.0f", "against the first|.3f", "µs a turn|.0f"),
        rows,
    )


def forks(turns: int, seconds: float) -> Table:
    short = filled(dspy.Predict("question -> answer"), 1)
    long = filled(dspy.Predict("question -> answer"), turns)
    works = {
        "session, 1 turn": timed(short.fork),
        f"session, {turns:,} turns": timed(long.fork),
        "state alone, 1 turn": timed(short.state.fork),
        f"state alone, {turns:,} turns": timed(long.state.fork),
    }
    found = in_turns(works, seconds=seconds)
    return Table("A fork", ("of", "µs|,.1f"), [[name, taken * 1e6] for name, taken in found.items()])


def prompt_caching(turns: int) -> Table:
    """How much of each request is the beginning of the request before it, which providers can reuse."""
    rows = []
    for name, window in (
        ("none", None),
        ("turns(20)", windows.turns(20)),
        ("blocks(high=20, low=10)", windows.blocks(high=20, low=10)),
        ("blocks(high=30, low=10)", windows.blocks(high=30, low=10)),
        ("tokens(1000)", windows.tokens(1_000)),
    ):
        session = sessionify(dspy.Predict("question -> answer"), window=window)
        before, same, total = "", 0, 0
        for number in range(turns):
            prompt = json.dumps(session.preview(question=QUESTION.format(number)), ensure_ascii=False)
            same += in_common(before, prompt)
            total += len(prompt)
            before = prompt
            session.add_turn({"question": QUESTION.format(number)}, {"answer": ANSWER.format(number)})
        rows.append([f"`{name}`", same / total, total - same, total])
    return Table(
        "Windows and prompt caching",
        ("window", "reusable|.1%", "characters not reusable|,", "characters sent|,"),
        rows,
        [
            f"{turns} turns. Reusable is what a request has in common with the beginning of the one before it: "
            "providers that cache prompts charge less for it."
        ],
    )


if __name__ == "__main__":
    alone(measure)
