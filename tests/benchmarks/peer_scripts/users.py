"""Many users of one program, in one process and one event loop, 200 at a time.

    users.py app|forks|hand|bare

`app` is a `with_memory` app that is given each user's state for each call. `forks` is a session for each user, forked
from one, which is how the published package serves many: it has no `with_memory`. `hand` is DSPy with a
`dspy.History` for each user and predictor, passed on and appended to by hand. `bare` is the program alone, without a
history.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import dspy
from answering import answer, weighing
from instant import QUESTION, InstantLM

AT_A_TIME = 200
TURNS = 2


class Agent(dspy.Module):
    """Two predictors, each with a memory of its own under an app."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    async def aforward(self, question: str) -> Any:
        plan = await self.planner.acall(question=question)
        return await self.writer.acall(question=question, plan=plan.plan)


class ByHand:
    """A program whose predictors have a history field, and the histories of one user for a call."""

    def __init__(self, program: str) -> None:
        nodes = ["question -> plan", "question, plan -> answer"]
        chain = nodes if program == "two nodes" else ["question -> answer"]
        self.predictors = [dspy.Predict(f"history: dspy.History, {signature}") for signature in chain]

    def new_state(self) -> list[dspy.History]:
        return [dspy.History(messages=[]) for _ in self.predictors]

    async def acall(self, state: list[dspy.History], question: str) -> None:
        given = {"question": question}
        for predictor, history in zip(self.predictors, state, strict=True):
            result = dict((await predictor.acall(history=history, **given)).items())
            history.messages.append({**given, **result})
            given |= result


PROGRAMS: dict[str, Callable[[], dspy.Module]] = {
    "one predictor": lambda: dspy.Predict("question -> answer"),
    "two nodes": Agent,
}


async def all_users(users: int, one: Callable[[int], Awaitable[None]]) -> float:
    """Serve all users, so many at a time; gives the seconds that it took."""
    numbers = iter(range(users))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_A_TIME)))
    return time.perf_counter() - begun


def bare_seconds(program: Any, users: int) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            await program.acall(question=QUESTION.format(turn))

    return asyncio.run(all_users(users, one))


def app_seconds(app: Any, states: list[Any]) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            async with app.use_state(states[number]):
                await app.acall(question=QUESTION.format(turn))

    seconds = asyncio.run(all_users(len(states), one))
    checked(states)
    return seconds


def checked(states: list[Any]) -> None:
    """That every user has the turns that were his."""
    wrong = sum(len(state.turns) != TURNS for state in states)
    if wrong:
        raise RuntimeError(f"{wrong} of {len(states)} users do not have their {TURNS} turns")


def hand_seconds(program: ByHand, states: list[list[dspy.History]]) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            await program.acall(states[number], question=QUESTION.format(turn))

    seconds = asyncio.run(all_users(len(states), one))
    assert all(len(history.messages) == TURNS for state in states for history in state)
    return seconds


def forks_seconds(_: Any, forks: list[Any]) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            await forks[number].acall(question=QUESTION.format(turn))

    seconds = asyncio.run(all_users(len(forks), one))
    checked(forks)
    return seconds


class Forks:
    """A session that each user has a fork of."""

    def __init__(self, program: str) -> None:
        from dspy_session import sessionify

        self.new_state = sessionify(PROGRAMS[program]()).fork


def app(program: str) -> Any:
    from dspy_session import with_memory

    return with_memory(PROGRAMS[program]())


KINDS = {"app": (app, app_seconds), "forks": (Forks, forks_seconds), "hand": (ByHand, hand_seconds)}


def serve(program: str, users: int) -> list[float]:
    """The seconds of a turn, when so many users have two each."""
    if KIND == "bare":
        seconds = bare_seconds(PROGRAMS[program](), users)
    else:
        make, served = KINDS[KIND]
        made = make(program)
        seconds = served(made, [made.new_state() for _ in range(users)])
    return [seconds / users / TURNS]


def weigh(program: str, users: int) -> float:
    """The bytes that each user's state takes, after its turns."""
    make, served = KINDS[KIND]
    made = make(program)
    served(made, [made.new_state() for _ in range(min(users, AT_A_TIME))])
    with weighing() as held:
        states = [made.new_state() for _ in range(users)]
        served(made, states)
    return float(held[0] / users)


KIND = sys.argv[1]

if __name__ == "__main__":
    dspy.configure(lm=InstantLM(), adapter=dspy.ChatAdapter(), disable_history=True)
    answer({"serve": serve, "weigh": weigh})
