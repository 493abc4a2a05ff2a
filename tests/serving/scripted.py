"""The model of the served app: it answers from the question alone, slowly where the question says so."""

from __future__ import annotations

import re
from typing import Any

from dspy_session.testing.lm import ScriptedLM, text_of

QUESTION = re.compile(r"\[\[ ## question ## \]\]\n(.*?)(?=\n\n)", re.DOTALL)


def reply(chat: Any, names: list[str]) -> dict[str, str]:
    earlier = sum(1 for message in chat if message["role"] == "user") - 1
    asked = QUESTION.findall(text_of(chat[-1]))[-1]
    return {name: f"{name} to {asked} after {earlier}" for name in names}


class Unhurried(ScriptedLM):
    """Takes a while, and very long for a question with `forever` in it."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        import asyncio

        await asyncio.sleep(3600 if "forever" in text_of(messages[-1]) else 0.01)
        return self._answer(messages, options)


def model() -> ScriptedLM:
    return Unhurried(reply)
