"""Programs, optimizers, and a model that knows the answer only from demos or instructions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dspy

from dspy_session import Session
from dspy_session.testing.lm import ScriptedLM, text_of

# One question gives the answer away: some optimizers need runs that differ.
COLOURS = ["red", "kiwi", "green", "blue", "black", "white"]


def learnt(chat: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """A model that knows the code word only if the prompt holds it, and that proposes it for instructions."""
    last = text_of(chat[-1])
    told = "kiwi" in "".join(text_of(m) for m in chat[:-1]) or "kiwi" in last.split("Respond with")[0]
    answers: dict[str, Any] = {}
    for name in names:
        if "instruction" in name or name in (
            "natural_language_rules",
            "observations",
            "summary",
            "program_description",
        ):
            answers[name] = "Say kiwi."
        elif name == "next_tool_name":
            answers[name] = "finish"
        elif name == "next_tool_args":
            answers[name] = {}
        elif name == "module_advice":
            answers[name] = {"self": "Say kiwi.", "predict": "Say kiwi.", "writer": "Say kiwi."}
        else:
            answers[name] = "kiwi" if told else f"some {name}"
    return answers


class Pair(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.ChainOfThought("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.writer(question=question, plan=self.planner(question=question).plan)


class Frozen(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> plan")
        self.first.demos = [dspy.Example(question="q", plan="p")]
        self.frozen = Inner(self.first)
        self.frozen._compiled = True
        self.writer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.writer(question=question, plan=self.frozen(question=question).plan)


class Inner(dspy.Module):
    def __init__(self, step: Any) -> None:
        super().__init__()
        self.step = step

    def forward(self, question: str) -> Any:
        return self.step(question=question)


def tool(place: str) -> str:
    """Look something up."""
    return place


PROGRAMS: dict[str, Callable[[], dspy.Module]] = {
    "predict": lambda: dspy.Predict("question -> answer"),
    "cot": lambda: dspy.ChainOfThought("question -> answer"),
    "react": lambda: dspy.ReAct("question -> answer", tools=[tool], max_iters=2),
    "pair": Pair,
    "frozen": Frozen,
}


def metric(example: Any, prediction: Any, trace: Any = None, *_: Any) -> float:
    return float("kiwi" in str(prediction.answer))


def feedback(
    example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
) -> Any:
    return dspy.Prediction(score=metric(example, prediction), feedback="Say kiwi.")


def examples() -> list[dspy.Example]:
    return [dspy.Example(question=f"{c}?", answer="kiwi").with_inputs("question") for c in COLOURS]


def knn_vector(texts: list[str]) -> Any:
    import numpy as np

    return np.array([[len(text), text.count("e")] for text in texts], dtype=float)


FENCED = "```\nSay kiwi.\n```"


class Reflection(ScriptedLM):
    """GEPA's reflection model: proposes an instruction, fenced for the versions of GEPA that want it so."""

    def __init__(self) -> None:
        super().__init__(lambda chat, names: dict.fromkeys(names, "Say kiwi.") if names else FENCED)


Compile = Callable[[Any, list[dspy.Example]], Any]


def by(optimizer: Callable[[], Any], **kwargs: Any) -> Compile:
    return lambda program, trainset: optimizer().compile(program, trainset=trainset, **kwargs)


# fmt: off
OPTIMIZERS: dict[str, Compile] = {
    "labeled": by(lambda: dspy.LabeledFewShot(k=3)),
    "bootstrap": by(
        lambda: dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=2)
    ),
    "random": by(
        lambda: dspy.BootstrapFewShotWithRandomSearch(
            metric=metric, max_bootstrapped_demos=1, max_labeled_demos=2, num_candidate_programs=2,
            num_threads=1,
        )
    ),
    "mipro": by(
        lambda: dspy.MIPROv2(metric=metric, auto=None, num_candidates=2, max_bootstrapped_demos=1,
                             max_labeled_demos=1, num_threads=1, seed=1, init_temperature=1.0),
        num_trials=3, minibatch=False,
        data_aware_proposer=False, program_aware_proposer=True, tip_aware_proposer=False,
    ),
    "copro": by(
        lambda: dspy.COPRO(metric=metric, breadth=2, depth=1),
        eval_kwargs={"num_threads": 1, "display_progress": False},
    ),
    "simba": by(lambda: dspy.SIMBA(metric=metric, bsize=6, num_candidates=2, max_steps=1,
                               num_threads=2), seed=1),
    "gepa": by(
        lambda: dspy.GEPA(metric=feedback, max_metric_calls=24, reflection_lm=Reflection(),
                          num_threads=1, seed=1)
    ),
    "infer": by(
        lambda: dspy.InferRules(metric=metric, num_candidates=1, num_rules=1, num_threads=1,
                                max_bootstrapped_demos=1, max_labeled_demos=2),
        valset=examples()[:2],
    ),
    "knn": lambda program, trainset: dspy.KNNFewShot(
        k=2, trainset=trainset, vectorizer=dspy.Embedder(knn_vector), metric=metric, max_bootstrapped_demos=1
    ).compile(program),
}
# fmt: on


def session_examples(session: Session) -> list[dspy.Example]:
    """The same examples as single turns: each has an empty history."""
    made = []
    for example in examples():
        single = session.fork()
        single.reset()
        single.add_turn({"question": example.question}, {"answer": example.answer})
        made += single.to_examples()
    return made


def wire(lm: ScriptedLM, call: Callable[[], Any]) -> list[Any]:
    before = len(lm.requests)
    call()
    return lm.requests[before:]


class Desk(dspy.Module):
    """A larger program, of which one part may be a session."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part
        self.polish = dspy.Predict("draft -> answer")

    def forward(self, question: str) -> Any:
        return self.polish(draft=self.part(question=question).answer)


class Tunable(ScriptedLM):
    """A model that takes training data and comes back under another name, knowing the answer."""

    def __init__(self, taken: list[Any] | None = None, *, tuned: bool = False) -> None:
        super().__init__(tuned_script if tuned else learnt, model="tuned" if tuned else "scripted")
        self.taken: list[Any] = [] if taken is None else taken

    def launch(self, *_: Any) -> None:
        pass

    kill = launch

    def finetune(self, train_data: Any, **_: Any) -> Any:
        self.taken.extend(train_data)
        thread = threading.Thread(target=lambda: None)
        thread.start()
        return SimpleNamespace(result=lambda: Tunable(self.taken, tuned=True), thread=thread)


def tuned_script(chat: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    return {**learnt(chat, names), "answer": "kiwi"}
