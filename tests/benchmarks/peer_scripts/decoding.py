"""Every row of `message` and `part` of an OpenCode database, decoded by msgspec."""

from __future__ import annotations

import sqlite3
import time

import msgspec
from answering import answer


def decode(path: str) -> list[float]:
    """The seconds of processor time that it takes."""
    start = time.process_time()
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for table in ("message", "part"):
        for (data,) in db.execute(f"select data from {table}"):
            msgspec.json.decode(data)
    db.close()
    return [time.process_time() - start]


if __name__ == "__main__":
    answer({"decode": decode})
