"""Reading many sessions in processes of their own, as making rows takes Python longer than all else.

The workers are plain subprocesses that are told what to read through a pipe. So nothing is forked, the caller's
`__main__` is not imported, and it works in notebooks, in `python -c` and under threads. What a worker that died
did not deliver is read here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import IO, Any

from dspy_session.opencode.analytics._batches import Batch, Job, batches

FEWEST = 400
"""Fewer sessions are read sooner than workers start."""
PROCESSES = 2
STRETCH = 50
"""Sessions are dealt out in stretches: neighbours stay together, and the work is shared evenly."""

_PROGRAM = "from dspy_session.opencode.analytics._workers import work; work()"


def read(jobs: Sequence[Job]) -> Iterator[Batch]:
    """The sessions in batches, read by workers if there are many."""
    if len(jobs) < FEWEST or _processors() < PROCESSES:
        yield from batches(jobs)
        return
    workers: list[_Worker] = []
    try:
        workers += (_Worker(each) for each in _dealt(jobs))
        yield from _gathered(workers)
    finally:
        for worker in workers:
            worker.stop()


def work() -> None:
    """What a worker does: jobs come through standard input, batches go through standard output."""
    import gc

    # It lives for a minute at most, makes no circles, and would spend half of it looking for some.
    gc.disable()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for batch in batches(pickle.load(sys.stdin.buffer)):
        pickle.dump(batch, out, pickle.HIGHEST_PROTOCOL)
        out.flush()
    out.close()


class _Worker:
    """A process that reads some sessions; if it cannot be started, it delivers nothing."""

    def __init__(self, jobs: list[Job]) -> None:
        self.waiting = {job.record.id: job for job in jobs}
        self.process = _started(jobs)

    def batch(self) -> Batch | None:
        """The next batch; None after the last, or if the process is gone."""
        if self.process is None:
            return None
        try:
            found: Batch = pickle.load(_pipe(self.process.stdout))
        except (EOFError, pickle.UnpicklingError, OSError, ValueError):
            return None
        for session_id in chain(found.read, found.failed):
            self.waiting.pop(session_id, None)
        return found

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            _pipe(self.process.stdout).close()
            self.process.wait()


def _gathered(workers: list[_Worker]) -> Iterator[Batch]:
    """The batches of all workers as they come. The next of each is fetched while one is worked on."""
    with ThreadPoolExecutor(len(workers)) as threads:
        asked: dict[Future[Batch | None], _Worker] = {threads.submit(each.batch): each for each in workers}
        try:
            while asked:
                for done in wait(asked, return_when=FIRST_COMPLETED).done:
                    worker, batch = asked.pop(done), done.result()
                    if batch is None:
                        yield from batches(list(worker.waiting.values()))
                        continue
                    asked[threads.submit(worker.batch)] = worker
                    yield batch
        finally:
            for worker in workers:
                worker.stop()


def _dealt(jobs: Sequence[Job]) -> list[list[Job]]:
    dealt: list[list[Job]] = [[] for _ in range(PROCESSES)]
    for start in range(0, len(jobs), STRETCH):
        dealt[start // STRETCH % PROCESSES] += jobs[start : start + STRETCH]
    return dealt


def _started(jobs: list[Job]) -> subprocess.Popen[bytes] | None:
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    process = None
    try:
        told = pickle.dumps(jobs, pickle.HIGHEST_PROTOCOL)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        with _pipe(process.stdin) as stdin:
            stdin.write(told)
    except (OSError, pickle.PicklingError, TypeError, AttributeError):
        if process is not None:
            process.kill()
            process.wait()
        return None
    return process


def _pipe(stream: IO[bytes] | None) -> IO[Any]:
    assert stream is not None
    return stream


def _processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
