"""Measuring by turns: what is compared takes turns within one run, so that a busy machine slows all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Work = Callable[[], Iterable[float]]


def lower_quartile(seconds: Sequence[float]) -> float:
    """What it takes when nothing disturbs much."""
    return statistics.quantiles(seconds, n=4)[0] if len(seconds) > 1 else seconds[0]


def timed(timed: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> Work:
    """The seconds of one call."""

    def work() -> list[float]:
        prepare()
        start = time.perf_counter()
        timed()
        return [time.perf_counter() - start]

    return work


def in_turns(
    works: Mapping[str, Work], *, seconds: float, least: int = 8, most: int = 400, warm: int = 3
) -> dict[str, float]:
    """Run all works in turns and give the lower quartile of the seconds of each.

    Args:
        works: each call gives one or more measurements.
        seconds: how long to go on.
        least: rounds, however long they take.
        most: rounds, however short they are.
        warm: rounds before, that do not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warm):
        for work in works.values():
            work()
    gc.collect()
    gc.disable()
    try:
        rounds, end = 0, time.perf_counter() + seconds
        while rounds < least or (time.perf_counter() < end and rounds < most):
            for name, work in works.items():
                taken[name] += work()
            rounds += 1
    finally:
        gc.enable()
    return {name: lower_quartile(found) for name, found in taken.items()}
