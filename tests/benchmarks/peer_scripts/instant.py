"""A model that answers at once, so that all time is DSPy's and the library's. Imports DSPy alone."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import dspy

QUESTION = "What should I pack for the weather on the fourth day of the trip, and where do I buy it? ({})"
ANSWER = "Layers: a light sweater, a rain jacket and two shirts; any department store has them. ({})"
REPLY = "\n\n".join(
    f"[[ ## {name} ## ]]\nLayers: a light sweater." for name in ("plan", "answer", "completed")
)

warnings.filterwarnings("ignore", message="Implementing custom LMs")


class InstantLM(dspy.BaseLM):
    """Answers at once, without looking; gives `plan` and `answer`."""

    def __init__(self) -> None:
        super().__init__("instant", "chat", 0.0, 1_000, False)

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        message = SimpleNamespace(content=REPLY, tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={}, model="instant")

    async def aforward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        await asyncio.sleep(0)
        return self.forward(prompt, messages, **options)


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
