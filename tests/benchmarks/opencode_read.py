"""How fast a large history is read: 5,000 sessions, about 280,000 parts, 300 MB.

    python tests/benchmarks/opencode_read.py [--sessions 5000] [--database PATH]

Measured side by side in one run, in processor time, each the best of three:
- floor: `json.loads` of every row of `message` and `part`, and nothing else;
- msgspec: the same with `msgspec.json.decode`, if it is installed;
- records: every session read through `open_source`, every field of every record looked at, turns made;
- stats: `opencode stats` in wall time, if `OPENCODE_BINARY` names a program.
The promise is that records take at most 4 times the floor, in memory that does not grow with the history.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "opencode"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import opencode_layouts as layouts

from dspy_session.opencode import open_source
from dspy_session.opencode._fields import Field, Record

MOST = 4.0
TOLD = {
    "floor": "json.loads of every row",
    "msgspec": "msgspec.json.decode of every row",
    "records": f"every field of every record (at most {MOST})",
}
WORDS = ["total", "stock", "item", "price", "report", "render", "quantity", "line", "returns", "module"]
START = 1_764_000_000_000


def generate(path: Path, sessions: int, seed: int = 0) -> None:
    """Write a database like that of a year's work."""
    rng = random.Random(seed)
    layouts.database(path)
    db = sqlite3.connect(path)
    db.execute("pragma synchronous=off")
    with db:
        for number in range(sessions):
            layouts.add_to_database(db, conversation(number, rng))
            if number % 500 == 0:
                print(f"  generated {number} of {sessions} sessions", file=sys.stderr)
    db.close()


def conversation(number: int, rng: random.Random) -> layouts.Conversation:
    """One session: about 9 messages and 55 parts."""
    session, at = f"ses_{number:08d}", START + number * 6_000_000
    info: dict[str, Any] = {"id": session, "slug": "s", "projectID": f"p{number % 20}", "directory": "/work"}
    info |= {
        "title": f"Session {number}",
        "version": "1.18.33",
        "time": {"created": at, "updated": at + 9_000},
    }
    made: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for turn in range(rng.randint(1, 3)):
        at += 1000
        prompt = f"msg_{number:08d}{turn:02d}a"
        head = {"id": prompt, "sessionID": session, "role": "user", "time": {"created": at}, "agent": "build"}
        made.append((head, numbered(prompt, session, [{"type": "text", "text": text(rng, 40)}])))
        for step in range(rng.randint(2, 6)):
            at += 1000
            made.append(reply(f"msg_{number:08d}{turn:02d}b{step:02d}", session, prompt, at, rng))
    return layouts.Conversation(info, made)


def reply(message: str, session: str, prompt: str, at: int, rng: random.Random) -> tuple[Any, Any]:
    tokens = {
        "total": 9430,
        "input": 928,
        "output": 266,
        "reasoning": 44,
        "cache": {"read": 8192, "write": 0},
    }
    head: dict[str, Any] = {"id": message, "sessionID": session, "role": "assistant", "parentID": prompt}
    head |= {"agent": "build", "mode": "build", "path": {"cwd": "/work", "root": "/work"}, "cost": 0.0098916}
    head |= {"tokens": tokens, "modelID": "large", "providerID": "lab", "finish": "tool-calls"}
    head["time"] = {"created": at, "completed": at + 900}
    parts: list[dict[str, Any]] = [
        {"type": "step-start", "snapshot": "ab63dc5abd29afa3e15bb97ff3e584c174c7126b"}
    ]
    parts.append({"type": "reasoning", "text": text(rng, 60), "time": {"start": at, "end": at + 5}})
    parts.append({"type": "text", "text": text(rng, 30), "time": {"start": at, "end": at + 5}})
    for call in range(rng.randint(1, 4)):
        state: dict[str, Any] = {
            "status": "completed",
            "input": {"filePath": f"/work/{rng.choice(WORDS)}.py"},
        }
        state |= {"output": text(rng, 180), "title": "read", "time": {"start": at, "end": at + 9}}
        state["metadata"] = {"preview": text(rng, 60), "truncated": False, "loaded": []}
        parts.append({"type": "tool", "tool": "read", "callID": f"call_{message}{call}", "state": state})
    end = {"type": "step-finish", "reason": "tool-calls", "cost": 0.0098916, "tokens": tokens}
    return head, numbered(message, session, [*parts, end])


def numbered(message: str, session: str, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = {"sessionID": session, "messageID": message}
    return [{**part, "id": f"prt_{message[4:]}{place:03d}", **ids} for place, part in enumerate(parts)]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(words // 2, words * 2)))


def scan(path: Path, decode: Callable[[Any], Any]) -> None:
    """The floor: decode every row."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for table in ("message", "part"):
        for (data,) in db.execute(f"select data from {table}"):
            decode(data)
    db.close()


FIELDS: dict[type, tuple[str, ...]] = {}


def fields_of(kind: type[Record]) -> tuple[str, ...]:
    if kind not in FIELDS:
        FIELDS[kind] = tuple(
            name for base in kind.__mro__ for name, value in vars(base).items() if isinstance(value, Field)
        )
    return FIELDS[kind]


def read(path: Path, progress: bool = False) -> int:
    """Every field of every record; how many parts there were."""
    seen = 0
    with open_source(path) as history:
        for number, record in enumerate(history.sessions()):
            for message in record.messages:
                for name in fields_of(type(message)):
                    getattr(message, name)
                for part in message.parts:
                    for name in fields_of(type(part)):
                        getattr(part, name)
                seen += len(message.parts)
            _ = (record.usage, record.turns, record.created_at, record.todos, record.is_fork)
            if progress and number % 1000 == 0:
                print(f"  read {number} sessions", file=sys.stderr)
    return seen


def side_by_side(works: dict[str, Callable[[], Any]], times: int = 3) -> dict[str, float]:
    """The least processor time of each, in seconds, taken in turns: other programs disturb all alike."""
    found: dict[str, float] = {}
    for _ in range(times):
        for name, work in works.items():
            started = time.process_time()
            work()
            found[name] = min(found.get(name, float("inf")), time.process_time() - started)
    return found


def main() -> int:
    """Generate, measure, print; the exit status tells whether the promise is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--database", type=Path, help="measure this database, generated if it is not there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.database or Path(folder) / "opencode.db"
        if not path.exists():
            generate(path, arguments.sessions)
        return measure(path)


def measure(path: Path) -> int:
    before = peak()
    parts = read(path, progress=True)
    grown = peak() - before
    works: dict[str, Callable[[], Any]] = {
        "floor": lambda: scan(path, json.loads),
        "records": lambda: read(path),
    }
    try:
        import msgspec

        works["msgspec"] = lambda: scan(path, msgspec.json.decode)
    except ImportError:
        print("msgspec is not installed")
    taken = side_by_side(works)
    ratios = {name: seconds / taken["floor"] for name, seconds in taken.items()}
    print(f"{path.stat().st_size / 1e6:.0f} MB, {parts} parts; processor time, best of three")
    for name, told in TOLD.items():
        if name in taken:
            print(f"{name:8} {taken[name]:6.2f} s   {ratios[name]:.2f}  {told}")
    print(f"memory   {grown:.0f} MB more than before the read")
    program = os.environ.get("OPENCODE_BINARY")
    if program:
        print(f"stats    {stats(program, path):6.2f} s   of wall time: opencode stats --models")
    else:
        print("stats    OPENCODE_BINARY is not set")
    return 0 if ratios["records"] <= MOST else 1


def stats(program: str, path: Path) -> float:
    """`opencode stats` over a copy, as it writes to its database."""
    with tempfile.TemporaryDirectory() as home:
        copy = Path(home) / "copy.db"
        copy.write_bytes(path.read_bytes())
        env = {"PATH": os.environ["PATH"], "HOME": home, "OPENCODE_DB": str(copy), "TERM": "dumb"}
        command = [program, "stats", "--models"]
        started = time.perf_counter()
        subprocess.run(command, env=env, cwd=home, capture_output=True, timeout=300)
        return time.perf_counter() - started


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
