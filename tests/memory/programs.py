"""What the tests of memories look at: programs, and how to read what reached the model."""

from __future__ import annotations

import re
from typing import Any

import dspy

from dspy_session.testing.lm import ScriptedLM, text_of


class Agent(dspy.Module):
    """A planner and a writer."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.writer(question=question, plan=self.planner(question=question).plan)

    async def aforward(self, question: str) -> Any:
        plan = await self.planner.acall(question=question)
        return await self.writer.acall(question=question, plan=plan.plan)


def contents(request: list[dict[str, Any]]) -> list[str]:
    """The texts of a request's messages, the system message left out."""
    return [text_of(message) for message in request if message["role"] != "system"]


def past(request: list[dict[str, Any]]) -> list[str]:
    """The texts before the last message: what the model was shown of earlier calls."""
    return contents(request)[:-1]


def fields(text: str) -> dict[str, str]:
    """The fields of a message in the chat adapter's style."""
    found = re.findall(r"\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n|\Z)", text, re.S)
    return {name: value.strip() for name, value in found if name != "completed"}


def wanted(request: list[dict[str, Any]], name: str) -> bool:
    """Whether a request asks for an output field."""
    return f"`[[ ## {name} ## ]]`" in text_of(request[-1])


def of_node(lm: ScriptedLM, output: str) -> list[list[dict[str, Any]]]:
    """The requests that ask for an output field, in order."""
    return [request for request in lm.requests if wanted(request, output)]


def shown(request: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The fields of each message before the last."""
    return [fields(text) for text in past(request)]
