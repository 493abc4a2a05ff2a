"""What tests look at: the programs, a scripted model for all of them, and what every request must satisfy."""

from __future__ import annotations

import re
import warnings
from typing import Any

import dspy

from dspy_session.testing.lm import ScriptedLM, text_of

FORBIDDEN = re.compile(r"\bNone\b|\bnull\b|not supplied|Not supplied")
REMINDED = {
    "chat": re.compile(r"`\[\[ ## (\w+) ## \]\]`"),
    "xml": re.compile(r"`<(\w+)>`"),
    "json": re.compile(r"`(\w+)`"),
}


def search(query: str) -> str:
    """Find a fact."""
    return f"found {query}"


class Interpreter:
    """Runs no code: whatever is submitted has the same answer."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}

    def start(self) -> None:
        pass

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        from dspy.primitives.code_interpreter import FinalOutput

        return FinalOutput({"answer": "computed"}) if "SUBMIT" in code else "42"

    def shutdown(self) -> None:
        pass


class Script:
    """Answers every predictor of `PROGRAMS`; what it says is numbered, so that no two answers are equal."""

    def __init__(self) -> None:
        self.said = 0

    def __call__(self, chat: Any, names: list[str]) -> Any:
        if not names:
            self.said += 1
            return f"free text {self.said}"
        return {name: self._field(name, chat) for name in names}

    def _field(self, name: str, chat: Any) -> Any:
        self.said += 1
        fixed: dict[str, Any] = {
            "next_tool_name": "finish",
            "next_tool_args": {},
            "finished": True,
            "generated_code": "```python\nSUBMIT({'answer': 1})\n```",
            "code": "```python\nSUBMIT({'answer': 1})\n```",
            "advice": {"predict": "be brief"},
        }
        if name == "tool_calls":
            # First a tool, then the answer: two steps in each turn.
            stepped = "found" in text_of(chat[-1]) + text_of(chat[-2])
            call = (
                {"name": "submit", "args": {"answer": f"answer {self.said}"}}
                if stepped
                else {"name": "search", "args": {"query": f"fact {self.said}"}}
            )
            return {"tool_calls": [call]}
        return fixed.get(name, f"{name} {self.said}")


class Planner(dspy.Module):
    """Two predictors one after the other: the first has no field of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.write = dspy.ChainOfThought("question, plan -> answer")

    def forward(self, question):
        return self.write(question=question, plan=self.plan(question=question).plan)

    async def aforward(self, question):
        plan = await self.plan.acall(question=question)
        return await self.write.acall(question=question, plan=plan.plan)


class Text(dspy.Module):
    """Returns a plain string."""

    def __init__(self) -> None:
        super().__init__()
        self.advisor = dspy.Predict("question -> advice_text")

    def forward(self, question):
        return self.advisor(question=question).advice_text

    async def aforward(self, question):
        return (await self.advisor.acall(question=question)).advice_text


class Compared(dspy.Module):
    """Several chains of thought, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
        self.compare = dspy.MultiChainComparison("question -> answer", M=2)

    def forward(self, question):
        thoughts = [self.think(question=question) for _ in range(2)]
        return self.compare(thoughts, question=question)


def _deprecated(make: Any) -> Any:
    with warnings.catch_warnings():
        # DSPy announces that this program ends with 3.5.
        warnings.simplefilter("ignore", DeprecationWarning)
        return make()


PROGRAMS = {
    "Predict": lambda: dspy.Predict("question -> answer"),
    "ChainOfThought": lambda: dspy.ChainOfThought("question -> answer"),
    "ReAct": lambda: dspy.ReAct("question -> answer", tools=[search]),
    "ReActV2": lambda: dspy.ReActV2("question -> answer", tools=[search]),
    "ProgramOfThought": lambda: _deprecated(
        lambda: dspy.ProgramOfThought("question -> answer", interpreter_factory=Interpreter)
    ),
    "CodeAct": lambda: _deprecated(
        lambda: dspy.CodeAct("question -> answer", tools=[search], interpreter_factory=Interpreter)
    ),
    "RLM": lambda: dspy.RLM("question -> answer", interpreter_factory=Interpreter),
    "BestOfN": lambda: dspy.BestOfN(
        dspy.ChainOfThought("question -> answer"), N=2, reward_fn=lambda args, pred: 0.0, threshold=1.0
    ),
    "Refine": lambda: dspy.Refine(
        dspy.ChainOfThought("question -> answer"), N=2, reward_fn=lambda args, pred: 0.0, threshold=1.0
    ),
    "MultiChainComparison": Compared,
    "composed": Planner,
    "string": Text,
}


def model() -> ScriptedLM:
    return ScriptedLM(Script())


def reminded(text: str) -> set[str]:
    """The output fields that a past user message asks for."""
    asked = text.rsplit("Respond with", 1)
    if len(asked) < 2:
        return set()
    for pattern in REMINDED.values():
        if names := {name for name in pattern.findall(asked[1]) if name != "completed"}:
            return names
    return set()


def mentions(text: str, field: str) -> bool:
    """Whether a message shows a field, in the style of any of DSPy's adapters."""
    return any(mark in text for mark in (f"## {field} ##", f"<{field}>", f'"{field}"', f"{field}:"))


def check_past(past: list[dict[str, Any]]) -> None:
    """What holds for the messages between the system prompt and the present request."""
    if past:
        assert past[0]["role"] == "user"
    for before, message in zip([None, *past], past, strict=False):
        text = text_of(message)
        assert text.strip(), "an empty message"
        assert not FORBIDDEN.search(text), text
        if message["role"] == "assistant":
            asked = reminded(text_of(before))
            assert all(mentions(text, field) for field in asked), f"asked for {asked}, shown {text}"
