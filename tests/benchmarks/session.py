"""What a session costs, beside the same work without one.

    python tests/benchmarks/session.py [--quick]

Everything is measured in one process and by turns, a bare call and then a session's call, so that a busy
machine slows both: trust the ratios. Times are the lower quartile of the repetitions.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import itertools
import json
import os
import platform
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import dspy

from dspy_session import Session, sessionify, windows
from dspy_session._rendered import RENDERED

QUESTION = "What should I pack for the weather on the fourth day of the trip, and where do I buy it? ({})"
ANSWER = "Layers: a light sweater, a rain jacket and two shirts; any department store has them. ({})"
REPLY = "[[ ## answer ## ]]\nfine\n\n[[ ## completed ## ]]"


class InstantLM(dspy.BaseLM):
    """Answers at once, without looking."""

    def __init__(self) -> None:
        super().__init__("instant", "chat", 0.0, 1_000, False)

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        message = SimpleNamespace(content=REPLY, tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={}, model="instant")


def engine_lm() -> Any:
    """A `dspy.LM` with an engine that answers at once; None where this DSPy has no engines of one's own."""
    if "engine" not in inspect.signature(dspy.LM.__init__).parameters:
        return None
    from dspy.lm15 import Message, Response, TextPart, Usage

    class Engine:
        def complete(self, request: Any) -> Any:
            return Response(
                id=None,
                model="instant",
                message=Message.assistant([TextPart(REPLY)]),
                finish_reason="stop",
                usage=Usage(input_tokens=0, output_tokens=0, total_tokens=0),
            )

        def close(self) -> None:
            pass

    return dspy.LM("openai/instant", engine=Engine(), cache=False)


class Echo(dspy.Module):
    """A program without a predictor: what is left of a call is the session's own part."""

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=question)


def lower_quartile(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=4)[0] if len(seconds) > 1 else seconds[0]


def side_by_side(
    *tasks: tuple[Callable[[], Any], Callable[[], Any]], seconds: float, most: int = 400
) -> list[float]:
    """Run (prepare, timed) pairs in turns and give the lower quartile of each, in seconds."""
    for prepare, timed in tasks:
        for _ in range(3):
            prepare()
            timed()
    taken: list[list[float]] = [[] for _ in tasks]
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        while len(taken[0]) < 8 or (time.perf_counter() < end and len(taken[0]) < most):
            for place, (prepare, timed) in enumerate(tasks):
                prepare()
                start = time.perf_counter()
                timed()
                taken[place].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return [lower_quartile(times) for times in taken]


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(head)} |\n|{'|'.join(' --: ' for _ in head)}|")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    if note:
        print(f"\n{note}")


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


def call_row(lm: Any, turns: int, seconds: float) -> tuple[Any, ...]:
    """A bare predictor that is given a history, and a session that has one, of the same length.

    Before each session call its newest turn is replaced by one that was never rendered, as in a live
    conversation, in which the last answer is new to the prompt each time.
    """
    bare = dspy.Predict("question, history: dspy.History -> answer")
    session = filled(dspy.Predict("question -> answer"), turns)
    history = dspy.History(messages=[dict(message) for message in session.session_history.messages])
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        without, with_session = side_by_side(
            (lambda: None, lambda: bare(question="And tomorrow?", history=history)),
            (renewing(session), lambda: session(question="And tomorrow?")),
            seconds=seconds,
        )
    lm.history.clear()
    return (
        f"{turns:,}",
        f"{without * 1e6:,.0f}",
        f"{with_session * 1e6:,.0f}",
        f"{without / with_session:.2f}",
    )


def calls(seconds: float) -> None:
    head = ("turns", "bare, µs", "session, µs", "bare ÷ session")
    lengths = (1, 10, 100, 1_000)
    table(
        "A session call and a bare `dspy.Predict` with the same history; a `BaseLM` that answers at once",
        head,
        (call_row(InstantLM(), turns, seconds) for turns in lengths),
    )
    lm = engine_lm()
    if lm is None:
        print(f"\n(`dspy.LM` is not measured: DSPy {dspy.__version__} takes no engine of one's own.)")
        return
    table(
        "The same with `dspy.LM(engine=…)`",
        head,
        (call_row(lm, turns, seconds) for turns in lengths),
    )


def overhead(seconds: float) -> None:
    """What a session adds to a program that asks no model: inputs, view, frame, record."""
    bare = Echo()
    rows = []
    first = None
    for turns in (1, 10, 100, 1_000, 5_000):
        session = filled(Echo(), turns)
        without, with_session = side_by_side(
            (lambda: None, lambda: bare(question="one")),
            (renewing(session), lambda session=session: session(question="one")),
            seconds=seconds,
        )
        added = with_session - without
        first = first or added
        rows.append((f"{turns:,}", f"{without * 1e6:,.0f}", f"{added * 1e6:,.0f}", f"{added / first:.2f}"))
    table(
        "What a session adds to a call, rendering apart",
        ("turns", "bare program, µs", "added, µs", "against 1 turn"),
        rows,
    )


# ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────


def memory(turns: int = 3_000, size: int = 1_024) -> None:
    """Recorded turns, every snapshot and every past message held, against the text in them."""
    half = size // 2
    filled(Echo(), 3)
    session = sessionify(Echo())
    text = turns * size
    rows = [("the text alone", f"{text / 1e6:.1f}", "1.00")]

    def weigh(what: str) -> None:
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        rows.append((what, f"{held / 1e6:.1f}", f"{held / text:.2f}"))

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
    table(f"Memory of {turns:,} turns of {size:,} bytes", ("what", "MB", "against the text"), rows)


def render_cache() -> None:
    """That the cache of rendered turns keeps its cap."""
    from dspy_session._rendered import CACHE_BYTES

    RENDERED.clear()
    with dspy.context(lm=InstantLM()):
        gc.collect()
        tracemalloc.start()
        for number in range(6):
            session = sessionify(dspy.Predict("question -> answer"))
            for turn in range(80):
                session.add_turn({"question": f"{number}{turn:02}" * 50_000}, {"answer": "yes"})
            session.preview(question="one")
            del session
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        RENDERED.clear()
        gc.collect()
        freed = held - tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    table(
        "Rendered turns of 6 conversations, all of them dropped",
        ("cached, MB", "cap, MB"),
        [(f"{freed / 1e6:.1f}", f"{CACHE_BYTES / 1e6:.1f}")],
    )


def saved() -> None:
    rows = []
    first = None
    for turns in (250, 500, 1_000, 2_000, 4_000):
        session = filled(Echo(), turns)
        start = time.perf_counter()
        size = len(json.dumps(session.save_state()))
        seconds = time.perf_counter() - start
        each = size / turns
        first = first or each
        rows.append(
            (f"{turns:,}", f"{size:,}", f"{each:,.0f}", f"{each / first:.3f}", f"{seconds / turns * 1e6:.0f}")
        )
    table("A saved conversation", ("turns", "bytes", "bytes a turn", "against 250", "µs a turn"), rows)


def forks(seconds: float) -> None:
    short = filled(dspy.Predict("question -> answer"), 1)
    long = filled(dspy.Predict("question -> answer"), 5_000)
    results = side_by_side(
        (lambda: None, short.fork),
        (lambda: None, long.fork),
        (lambda: None, short.state.fork),
        (lambda: None, long.state.fork),
        seconds=seconds,
    )
    names = (
        "session, 1 turn",
        "session, 5,000 turns",
        "state alone, 1 turn",
        "state alone, 5,000 turns",
    )
    table("A fork", ("of", "µs"), [(n, f"{s * 1e6:,.0f}") for n, s in zip(names, results, strict=True)])


def prompt_caching(turns: int = 100) -> None:
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
        rows.append((f"`{name}`", f"{same / total:.1%}", f"{total - same:,}", f"{total:,}"))
    table(
        f"Windows and prompt caching over {turns} turns",
        ("window", "reusable", "characters not reusable", "characters sent"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: rougher figures")
    warnings.filterwarnings("ignore", message="Implementing custom LMs")
    seconds = 0.5 if parser.parse_args().quick else 4.0
    dspy.configure(adapter=dspy.ChatAdapter(), warn_on_type_mismatch=False)
    print(f"DSPy {dspy.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    calls(seconds)
    overhead(seconds)
    memory()
    render_cache()
    saved()
    forks(seconds)
    prompt_caching()


if __name__ == "__main__":
    main()
