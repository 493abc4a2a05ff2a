"""Programs for the tests of stored conversations, and stores that watch what they are asked or fail."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import dspy

from dspy_session import Session, sessionify, with_memory
from dspy_session.errors import StoreUnavailableError
from dspy_session.stores._wrapping import WrappedStore


class Planned(dspy.Module):
    """Two predictors: a plan, then an answer; a question with `quick` in it needs no plan."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.reply = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        plan = "none" if "quick" in question else self.plan(question=question).plan
        return self.reply(question=question, plan=plan)


def chat(**options: Any) -> Session:
    """A session of one predictor."""
    return sessionify(dspy.Predict("question -> answer"), **options)


def planned(**options: Any) -> Session:
    """An app whose two nodes have memories of their own."""
    return with_memory(Planned(), **options)


def questions(state: Any) -> list[str]:
    return [turn.inputs["question"] for turn in state.turns]


def whole(state: Any) -> Any:
    """All that there is to a state, to compare states by."""
    return (
        [
            (turn.index, turn.inputs, turn.outputs, turn.score, turn.feedback, turn.history_snapshot.messages)
            for turn in state.turns
        ],
        state.l2_memory,
        [[(r.exchange.inputs, r.exchange.outputs) for r in episode.records] for episode in state.pending],
        state.initial_history and state.initial_history.messages,
        {path: whole(node) for path, node in sorted(state.node_states.items())},
    )


class Watched(WrappedStore):
    """Notes which operation was asked for, with what."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.loads: list[int | None] = []
        self.commits: list[tuple[int, int | None, list[str]]] = []

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> Any:
        self.loads.append(last)
        return super().load(key, scope=scope, last=last)

    def append(self, key: str, turns: Any = (), **options: Any) -> str:
        kinds = sorted(note["kind"] for note in options.get("annotations", ()))
        self.commits.append((len(turns), options.get("keep"), kinds))
        return super().append(key, turns, **options)


class Broken(WrappedStore):
    """Fails some of its commits: before it has written (`"before"`), or after (`"after"`)."""

    def __init__(self, inner: Any, *plan: str | None, error: Callable[[], Exception] | None = None) -> None:
        super().__init__(inner)
        self.plan = list(plan)
        self.error = error or (lambda: StoreUnavailableError("the line is cut"))

    def _commit(self, work: Callable[[], str]) -> str:
        step = self.plan.pop(0) if self.plan else None
        if step == "before":
            raise self.error()
        revision = work()
        if step == "after":
            raise self.error()
        return revision

    def create(self, *args: Any, **options: Any) -> str:
        return self._commit(lambda: super(Broken, self).create(*args, **options))

    def append(self, *args: Any, **options: Any) -> str:
        return self._commit(lambda: super(Broken, self).append(*args, **options))

    def fork(self, *args: Any, **options: Any) -> str:
        return self._commit(lambda: super(Broken, self).fork(*args, **options))


class Opaque:
    """Of a type that neither files nor stores keep."""


class Passing(dspy.Module):
    """Hands its node a value of such a type."""

    def __init__(self) -> None:
        super().__init__()
        self.node = dspy.Predict("question, thing -> answer")

    def forward(self, question: str) -> Any:
        return self.node(question=question, thing=Opaque())


def opaque_places(caught: Iterable[warnings.WarningMessage]) -> set[str]:
    """Where such values were, as warnings name it."""
    told = [str(warning.message) for warning in caught]
    return {each.split(": a ")[0] for each in told if "Opaque" in each}
