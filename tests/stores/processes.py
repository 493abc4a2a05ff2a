"""Work in real processes, which can be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ClassVar

# Children are forked from a server that imported these once. It has no threads; this process may have some, and a
# child that is forked beside running threads inherits their locks as they are, and may wait for them for ever.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["tests.stores.test_crashes", "tests.conversations.test_processes"])


def _child(pipe: Connection, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    def say(line: str) -> None:
        os.write(pipe.fileno(), f"{line}\n".encode())

    try:
        work(say, *args)
    except BaseException:
        say(f"ERROR {traceback.format_exc()!r}")
    finally:
        # Not by way of the parent's exit handlers.
        os._exit(0)


class Child:
    """A new process that runs `work(say, *args)`; what it says reaches the parent even after a kill."""

    context: ClassVar[Any] = FRESH

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        self._pipe, theirs = self.context.Pipe(duplex=False)
        self._text = b""
        self.process = self.context.Process(target=_child, args=(theirs, work, args))
        self.process.start()
        theirs.close()

    def hear(self) -> bool:
        """Wait until it says something more; False if it has ended."""
        more = os.read(self._pipe.fileno(), 65_536)
        self._text += more
        return bool(more)

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.process.pid, signal.SIGKILL)

    def lines(self) -> list[str]:
        """Everything that it said, in whole lines, once it has ended."""
        while self.hear():
            pass
        self.process.join()
        self._pipe.close()
        said = self._text.decode().split("\n")[:-1]
        errors = [line for line in said if line.startswith("ERROR")]
        assert not errors, errors
        return said


class Fork(Child):
    """A child with everything that this process has open."""

    context = multiprocessing.get_context("fork")
