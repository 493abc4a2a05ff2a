"""What `make demo` shows: conversations with an agent and with a composed program, kept and gone on with.

Without a network it talks to `_scripts/offline.py`, a model that can answer only from the messages that it is
sent. `MODEL=provider/name make demo` asks a real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any

import dspy
from _scripts.offline import model

from dspy_session import Session, sessionify


def weather(city: str) -> str:
    """The weather in a city now."""
    return {"Lisbon": "21 °C and sunny", "Oslo": "4 °C and cloudy"}.get(city, "15 °C and windy")


def agent() -> dspy.Module:
    """An agent with one tool."""
    return dspy.ReAct("user -> assistant", tools=[weather])


class TravelAdvisor(dspy.Module):
    """A program of two steps that returns plain text. It knows nothing of conversations."""

    def __init__(self) -> None:
        super().__init__()
        self.topic = dspy.Predict("question -> topic")
        self.advise = dspy.ChainOfThought("question, topic -> advice")

    def forward(self, question: str) -> str:
        topic = self.topic(question=question).topic
        return str(self.advise(question=question, topic=topic).advice)


def title(text: str) -> None:
    print(f"\n{text}\n{'─' * len(text)}")


def ask(program: dspy.Module, **inputs: str) -> None:
    """One call, printed as a dialogue."""
    result = program(**inputs)
    answer = result if isinstance(result, str) else result.assistant
    for who, said in (("you", next(iter(inputs.values()))), ("model", answer)):
        print(textwrap.indent(textwrap.fill(said, 92), " " * 9).replace(" " * 9, f"{who:>6} │ ", 1))


def show_turns(session: Session) -> None:
    for turn in session.turns:
        given = len(turn.history_snapshot.messages)
        requests = turn.usage.calls if turn.usage else 0
        print(f"  turn {turn.index}: given {given} earlier exchanges; {requests} requests")
        print(f"    inputs  {turn.inputs}\n    outputs {turn.outputs}")
        if turn.extras:
            print(f"    extras  {', '.join(turn.extras)} (kept, not sent again)")


def show_examples(session: Session) -> None:
    def names_a_name(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
        return "Max" in prediction.assistant

    examples = session.to_examples(metric=names_a_name)
    for example, turn in zip(examples, session.turns, strict=True):
        inputs = ", ".join(sorted(example.inputs().keys()))
        given = f"inputs ({inputs}) with {len(example.history.messages)} earlier exchanges"
        print(f"  {given} → {example.assistant!r}, score {turn.score}")


def first_run(path: Path) -> None:
    title("An agent that remembers")
    chat = sessionify(agent())
    ask(chat, user="Hi! My name is Max and I am in Lisbon.")
    ask(chat, user="What is the weather like here?")
    ask(chat, user="What is my name?")

    title("The same question without a session")
    ask(agent(), user="What is my name?")

    title("Its turns")
    show_turns(chat)

    title("The same turns as training examples")
    show_examples(chat)

    title("A composed program, wrapped as it is")
    travel = sessionify(TravelAdvisor())
    ask(travel, question="I am planning a trip to Oslo.")
    ask(travel, question="What should I pack?")
    print(f"\n  {travel!r}")

    chat.save(path)
    title(f"A second run: another process goes on from {path.name}")


def second_run(path: Path) -> None:
    chat = Session.load_from(path, agent())
    ask(chat, user="Hello again. What was my name?")
    print(f"\n  {chat!r}")


def main() -> None:
    warnings.filterwarnings("ignore", message="Implementing custom LMs")
    name = os.environ.get("MODEL")
    dspy.configure(lm=dspy.LM(name) if name else model())
    if len(sys.argv) > 1:
        second_run(Path(sys.argv[1]))
        return
    print(
        f"The model: {name}"
        if name
        else "The model: an offline one, which knows only the messages it is sent."
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talk.json"
        first_run(path)
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, str(path)], check=True)


if __name__ == "__main__":
    main()
