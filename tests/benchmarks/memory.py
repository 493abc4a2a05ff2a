"""What serving many users from one app costs, beside the bare program.

    python tests/benchmarks/memory.py [--quick]

One process, one event loop, 200 users at a time, each with a state of his own that is bound for each call. The
model answers at once, so that all time is DSPy's and the library's. Bare and app are measured by turns in one run:
trust the ratios. The bare program is given no history, so each ratio includes what rendering a history costs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import dspy

from dspy_session import SessionState, with_memory

AT_A_TIME = 200
TURNS = 2
QUESTION = "What should I pack for the weather on day {} of the trip, and where do I buy it?"
REPLY = "\n\n".join(
    f"[[ ## {name} ## ]]\nLayers: a light sweater." for name in ("plan", "answer", "completed")
)


class InstantLM(dspy.BaseLM):
    """Answers at once, without looking."""

    def __init__(self) -> None:
        super().__init__("instant", "chat", 0.0, 1_000, False)

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        choice = SimpleNamespace(
            message=SimpleNamespace(content=REPLY, tool_calls=None), finish_reason="stop"
        )
        return SimpleNamespace(choices=[choice], usage={}, model="instant")

    async def aforward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        await asyncio.sleep(0)
        return self.forward(prompt, messages, **options)


class Agent(dspy.Module):
    """Two predictors, each with a memory of its own under an app."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict("question -> plan")
        self.writer = dspy.Predict("question, plan -> answer")

    async def aforward(self, question: str) -> Any:
        plan = await self.planner.acall(question=question)
        return await self.writer.acall(question=question, plan=plan.plan)


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


def bare_seconds(program: dspy.Module, users: int) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            await program.acall(question=QUESTION.format(turn))

    return asyncio.run(all_users(users, one))


def app_seconds(app: Any, states: list[SessionState]) -> float:
    async def one(number: int) -> None:
        for turn in range(TURNS):
            async with app.use_state(states[number]):
                await app.acall(question=QUESTION.format(turn))

    seconds = asyncio.run(all_users(len(states), one))
    assert all(len(state) == TURNS for state in states)
    return seconds


def bytes_of_users(make: Callable[[], dspy.Module], users: int) -> float:
    """Bytes that each user's state takes, after its turns."""
    app = with_memory(make(), unbound="error")
    app_seconds(app, [app.new_state() for _ in range(AT_A_TIME)])
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    states = [app.new_state() for _ in range(users)]
    app_seconds(app, states)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / users


def measure(make: Callable[[], dspy.Module], users: int, rounds: int) -> tuple[float, float]:
    """Turns a second, of the bare program and of the app."""
    app, program = with_memory(make(), unbound="error"), make()
    bare, with_states = [], []
    for _ in range(rounds):
        bare.append(bare_seconds(program, users))
        with_states.append(app_seconds(app, [app.new_state() for _ in range(users)]))
    turns = users * TURNS
    return turns / statistics.median(bare), turns / statistics.median(with_states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the users")
    few, many = (100, 1_000) if parser.parse_args().quick else (1_000, 10_000)
    warnings.filterwarnings("ignore", message="Implementing custom LMs")
    dspy.configure(lm=InstantLM(), disable_history=True)
    print(
        f"{AT_A_TIME} users at a time, {TURNS} turns each; turns a second, the app's share of the bare program's"
    )
    print("| program | users | bare | app | app / bare |")
    print("|---|--:|--:|--:|--:|")
    for name, make in PROGRAMS.items():
        shares = {}
        for users in (few, many):
            bare, with_states = measure(make, users, 3 if users == few else 1)
            shares[users] = with_states / bare
            print(f"| {name} | {users:,} | {bare:,.0f} | {with_states:,.0f} | {shares[users]:.2f} |")
        print(f"| {name} | {many:,} : {few:,} | | | {shares[many] / shares[few]:.2f} |")
    print("\n| program | users | bytes a user |")
    print("|---|--:|--:|")
    for name, make in PROGRAMS.items():
        sizes = {users: bytes_of_users(make, users) for users in (few, many)}
        for users, size in sizes.items():
            print(f"| {name} | {users:,} | {size:,.0f} |")
        print(f"| {name} | {many:,} : {few:,} | {sizes[many] / sizes[few]:.2f} |")


if __name__ == "__main__":
    main()
