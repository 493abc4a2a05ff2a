"""A process that measures what it is asked to: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from importlib import metadata
from typing import Any


def answer(jobs: dict[str, Callable[..., Any]]) -> None:
    """Do the jobs that standard input names, until it ends. Libraries may print: that goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = {"answer": {"versions": versions, **jobs}[asked["job"]](**asked["arguments"])}
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=out, flush=True)


def versions(packages: list[str]) -> list[str]:
    """The versions of installed packages."""
    return [metadata.version(package) for package in packages]


def seconds_of(times: int, work: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> list[float]:
    """The seconds of so many calls, with the collector off."""
    taken = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(times):
            prepare()
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return taken


@contextmanager
def weighing() -> Any:
    """A list that holds, after the block, the bytes that the block left behind."""
    gc.collect()
    tracemalloc.start()
    before, held = tracemalloc.get_traced_memory()[0], []
    try:
        yield held
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
