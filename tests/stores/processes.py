"""Work in real processes, forked from this one so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")


class Child:
    """A forked process that runs `work(say, *args)`; what it says reaches the parent even after a kill."""

    def __init__(self, work: Callable[..., None], *args: Any) -> None:
        self._read, write = os.pipe()
        self._text = b""

        def run() -> None:
            os.close(self._read)
            try:
                work(lambda line: os.write(write, f"{line}\n".encode()), *args)
            except BaseException:
                os.write(write, f"ERROR {traceback.format_exc()!r}\n".encode())
            finally:
                # Not by way of the parent's exit handlers.
                os._exit(0)

        self.process = FORK.Process(target=run)
        self.process.start()
        os.close(write)

    def hear(self) -> bool:
        """Wait until it says something more; False if it has ended."""
        more = os.read(self._read, 65_536)
        self._text += more
        return bool(more)

    def without_connection(self) -> bool:
        """Whether all that it said is that its pool gave it no connection; it has ended then."""
        if not (self._text.startswith(b"ERROR") and b"PoolTimeout" in self._text):
            return False
        self.process.join()
        os.close(self._read)
        return True

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.process.pid or 0, signal.SIGKILL)

    def lines(self) -> list[str]:
        """Everything that it said, in whole lines, once it has ended."""
        while self.hear():
            pass
        self.process.join()
        os.close(self._read)
        said = self._text.decode().split("\n")[:-1]
        errors = [line for line in said if line.startswith("ERROR")]
        assert not errors, errors
        return said
