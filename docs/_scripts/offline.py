"""A model that works without a network and knows only what is in the messages that it is sent.

It looks for names, places and weather reports in the user messages of the request, and answers from those
alone. Take the past turns away from it, and it no longer knows who is talking.
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
    if re.search(r"\bmy name\?", question):
        return f"Your name is {name}." if name else "You have not told me your name."
    if "weather" in question:
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
