"""A conversation, by a `Session` or by hand; the same script for this library and the published one.

    talks.py session|bare

Only what the published README shows is used.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import dspy
from answering import answer, seconds_of, weighing
from instant import ANSWER, QUESTION, InstantLM


class ByHand:
    """What one writes without a library: a `dspy.History` that is passed on and appended to."""

    def __init__(self) -> None:
        self.predict = dspy.Predict("question, history: dspy.History -> answer")
        self.history = dspy.History(messages=[])

    def __call__(self, question: str) -> Any:
        result = self.predict(question=question, history=self.history)
        self.add_turn({"question": question}, dict(result.items()))
        return result

    def __len__(self) -> int:
        return len(self.history.messages)

    def add_turn(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        self.history.messages.append({**inputs, **outputs})

    def undo(self, steps: int) -> None:
        del self.history.messages[-steps:]

    def save(self, path: str) -> None:
        with open(path, "w") as file:
            json.dump(self.history.messages, file)


def session() -> Any:
    from dspy_session import sessionify

    return sessionify(dspy.Predict("question -> answer"))


def load(path: str) -> Any:
    """A conversation from its file."""
    if MAKE is session:
        from dspy_session import Session

        return Session.load_from(path, dspy.Predict("question -> answer"))
    talk = ByHand()
    with open(path) as file:
        talk.history = dspy.History(messages=json.load(file))
    return talk


def filled(turns: int, size: int = 0) -> Any:
    """A conversation; with a size, each turn holds so many characters of its own."""
    talk, half = MAKE(), size // 2
    for number in range(turns):
        question = f"{number:>{half}}" if size else QUESTION.format(number)
        reply = f"{number:<{half}}" if size else ANSWER.format(number)
        talk.add_turn({"question": question}, {"answer": reply})
    return talk


def renewing(talk: Any) -> Callable[[], None]:
    """Bring a conversation back to its length, give or take a tenth, with a newest turn that no call has seen."""
    turns, numbers = len(talk), itertools.count()

    def renew() -> None:
        number = next(numbers)
        if len(talk) > turns + turns // 10:
            talk.undo(len(talk) - turns + 1)
        talk.add_turn({"question": QUESTION.format(number)}, {"answer": ANSWER.format(number)})

    return renew


kept: dict[int, tuple[Any, Callable[[], None]]] = {}


def turn(turns: int, times: int) -> list[float]:
    """The seconds of whole turns, call and record, in a conversation of that length."""
    if turns not in kept:
        kept.clear()
        talk = filled(turns)
        kept[turns] = talk, renewing(talk)
    talk, renew = kept[turns]
    return seconds_of(times, lambda: talk(question="And tomorrow?"), renew)


def memory(turns: int, size: int) -> int:
    """The bytes that a conversation takes in memory."""
    filled(2, size)
    with weighing() as held:
        talk = filled(turns, size)
    assert len(talk) == turns
    return int(held[0])


def file(turns: int) -> dict[str, float]:
    """Of a saved conversation: its bytes, and the seconds of saving and of loading it, the least of three."""
    talk = filled(turns)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "talk.json")
        saving, loading = [], []
        for _ in range(3):
            start = time.perf_counter()
            talk.save(path)
            saving.append(time.perf_counter() - start)
            start = time.perf_counter()
            loaded = load(path)
            loading.append(time.perf_counter() - start)
        assert len(loaded) == turns
        return {"bytes": os.path.getsize(path), "save": min(saving), "load": min(loading)}


MAKE: Callable[[], Any] = {"session": session, "bare": ByHand}[sys.argv[1]]

if __name__ == "__main__":
    dspy.configure(lm=InstantLM(), adapter=dspy.ChatAdapter(), disable_history=True)
    answer({"turn": turn, "memory": memory, "file": file})
