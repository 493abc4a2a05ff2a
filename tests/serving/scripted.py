"""The model of the served app: it answers from the question alone, slowly where the question says so."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import dspy

from dspy_session.testing.lm import ScriptedLM, text_of

QUESTION = re.compile(r"\[\[ ## question ## \]\]\n(.*?)(?=\n\n)", re.DOTALL)


def reply(chat: Any, names: list[str]) -> dict[str, str]:
    earlier = sum(1 for message in chat if message["role"] == "user") - 1
    asked = QUESTION.findall(text_of(chat[-1]))[-1]
    return {name: f"{name} to {asked} after {earlier}" for name in names}


class ModelResponseStream:
    """A piece of a reply, of the shape that DSPy's stream listeners look for."""

    def __init__(self, text: str, predictor: Any) -> None:
        self.predict_id = id(predictor)
        self.choices = [SimpleNamespace(delta=SimpleNamespace(content=text))]


ModelResponseStream.__module__ = "litellm.types.utils"


class Unhurried(ScriptedLM):
    """Takes a while, and very long for a question with `forever` in it."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        await asyncio.sleep(3600 if "forever" in text_of(messages[-1]) else 0.01)
        answer = self._answer(messages, options)
        if (stream := dspy.settings.send_stream) is not None:
            for piece in re.findall(r"\S+\s*|\s+", answer.choices[0].message.content):
                await stream.send(ModelResponseStream(piece, dspy.settings.caller_predict))
        return answer


def model() -> ScriptedLM:
    return Unhurried(reply)
