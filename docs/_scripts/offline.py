"""A model that works without a network and knows only what is in the messages that it is sent.

It looks for names, places and weather reports in the user messages of the request, and answers from those
alone. Take the past turns away from it, and it no longer knows who is talking. It has learnt a few facts by heart;
some of them make sense only after something that was said before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dspy_session.testing.lm import Chat, ScriptedLM, text_of

NAME = re.compile(r"[Mm]y name is (\w+)")
PLACE = re.compile(r"(?:trip to|going to|am in|live in) ([A-Z]\w+)")
REPORT = re.compile(r"\d+ °C and \w+")
# What is asked, what must have been said at some time before, and the answer.
FACTS = (
    (r"capital of France", r"", "The capital of France is Paris."),
    (r"What about Germany", r"capital of", "The capital of Germany is Berlin."),
    (r"What is Python", r"", "Python is a programming language."),
    (r"Who created it", r"Python", "Guido van Rossum created Python."),
    (r"beginner programming language", r"", "Python: it reads almost like English."),
    (r"Why do you recommend that", r"programming language", "Its syntax does not stand in your way."),
    (r"What is a derivative", r"", "A derivative says how fast a function changes."),
    (r"example with f\(x\) = x²", r"derivative", "The derivative of x² is 2x."),
    (r"derivative of x³", r"", "The derivative of x³ is 3x²."),
    (r"boundaries", r"overwhelmed", "That is a big step. How did your manager take it?"),
    (r"reset email", r"log in", "Let us track down that reset email. Which address did you give?"),
    (r"CSV file", r"", "import csv"),
    (r"file is really large", r"CSV", "import csv, and read one row at a time."),
    (r"filter rows", r"CSV", "import csv, and keep a row if int(row['age']) > 30."),
    (r"^Hello$", r"", "Hello! How can I help you?"),
)
FIRST_FIELD = re.compile(r"(?:\[\[ ## \w+ ## \]\]|<\w+>)\n(.*?)(?=\n\n|\n</|$)", re.DOTALL)


def answer(chat: Chat, names: list[str]) -> Mapping[str, Any]:
    """Answer the newest user message, field by field."""
    request = text_of(chat[-1])
    found = FIRST_FIELD.search(request)
    question = found[1] if found else request
    told = "\n".join(text_of(message) for message in chat if message["role"] == "user")
    reply = _reply(question, told, request)
    fields: dict[str, Any] = dict.fromkeys(names, reply)
    if "next_tool_name" in names:
        fields.update(_step(question, told, request))
    if "reasoning" in names:
        fields["reasoning"] = "I looked through the messages."
    return fields


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return found[-1] if found else None


def _reply(question: str, told: str, request: str) -> str:
    name, place = _last(NAME, told), _last(PLACE, told)
    for asked, before, fact in FACTS:
        if re.search(asked, question) and re.search(before, told):
            return fact
    if re.search(r"\bmy name\?", question):
        return f"Your name is {name}." if name else "You have not told me your name."
    if "weather" in question and "pack" not in question:
        report = _last(REPORT, request)
        return f"In {place} it is {report}." if report else "I do not know."
    if question.endswith("?"):
        return (
            f"For {place}: a light sweater and a rain jacket."
            if place
            else "For where? You have not told me."
        )
    return f"Nice to meet you, {name}." if name else "Noted."


def _step(question: str, told: str, request: str) -> dict[str, Any]:
    place = _last(PLACE, told)
    if "weather" in question and place and not REPORT.search(request):
        return {
            "next_thought": f"The user spoke of {place}.",
            "next_tool_name": "weather",
            "next_tool_args": json.dumps({"city": place}),
        }
    return {"next_thought": "I know enough.", "next_tool_name": "finish", "next_tool_args": "{}"}


def model() -> ScriptedLM:
    """The model."""
    return ScriptedLM(answer, model="offline")
