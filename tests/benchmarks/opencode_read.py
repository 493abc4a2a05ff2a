"""How fast an OpenCode history is read, beside `opencode stats`.

A database like that of months of work, generated: sessions of about 9 messages and 55 parts.

- The floor is `json.loads` of every row of `message` and `part`, and nothing else; beside it `msgspec`.
- Reading is every session through `open_source`, every field of every record looked at, turns made. At most
  4 times the floor is promised, in memory that does not grow with the history.
- Totals are tokens and cost by model and calls by tool, over all sessions, as `opencode stats` shows them, each a
  program from its start to its end. `opencode stats` runs on tables that it made itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "opencode"))

import opencode_layouts as layouts

from dspy_session.opencode import open_source
from dspy_session.opencode._fields import Field, Record
from tests.benchmarks.peers import MSGSPEC, ROOT, contest
from tests.benchmarks.report import Item, Missing, Ratio, Table, Versions
from tests.benchmarks.suites import Run, alone
from tests.benchmarks.timing import Work, in_turns, timed

MOST = 4.0
FLOOR, DECODED, RECORDS = (
    "json.loads of every row",
    "msgspec.json.decode of every row",
    "every field of every record",
)
WORDS = ["total", "stock", "item", "price", "report", "render", "quantity", "line", "returns", "module"]
TOOLS = {"read": "filePath", "edit": "filePath", "bash": "command", "skill": "name"}
FAILURES = (
    "Error: oldString not found in content",
    "Error: The user rejected permission to use this specific tool call.",
)
ERRORS = (
    {"name": "APIError", "data": {"message": "slow down", "statusCode": 429, "isRetryable": True}},
    {"name": "ContextOverflowError", "data": {"message": "prompt is too long"}},
)
START = 1_764_000_000_000


def measure(run: Run) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opencode.db"
        generate(path, run.pick(2_000, 20))
        yield from reading(path, run)
        yield from totals_beside_stats(path, run.pick(3, 1))


def generate(path: Path, sessions: int, seed: int = 0) -> None:
    """Write a database like that of a year's work."""
    rng = random.Random(seed)
    layouts.database(path)
    db = sqlite3.connect(path)
    db.execute("pragma synchronous=off")
    with db:
        for number in range(sessions):
            layouts.add_to_database(db, conversation(number, rng))
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
        asked: list[dict[str, Any]] = [{"type": "text", "text": text(rng, 40)}]
        if rng.random() < 0.02:
            asked.append({"type": "compaction", "auto": True})
        made.append((head, numbered(prompt, session, asked)))
        for step in range(rng.randint(2, 6)):
            at += 1000
            made.append(reply(f"msg_{number:08d}{turn:02d}b{step:02d}", session, prompt, at, rng))
    todo = {"content": text(rng, 5), "status": "completed", "priority": "high"}
    return layouts.Conversation(info, made, [todo] * (number % 2))


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
    parts += [tool_call(f"call_{message}{call}", at, rng) for call in range(rng.randint(1, 4))]
    if rng.random() < 0.02:
        head["error"] = rng.choice(ERRORS)
        parts.append({"type": "retry", "attempt": 1, "error": ERRORS[0], "time": {"created": at}})
    end = {"type": "step-finish", "reason": "tool-calls", "cost": 0.0098916, "tokens": tokens}
    return head, numbered(message, session, [*parts, end])


def tool_call(call: str, at: int, rng: random.Random) -> dict[str, Any]:
    """Most calls read a file; some edit, run tests or load a skill, and some of those fail."""
    tool = rng.choices(list(TOOLS), weights=[7, 1, 1, 1])[0]
    state: dict[str, Any] = {"input": {TOOLS[tool]: f"/work/{rng.choice(WORDS)}.py"}}
    state["time"] = {"start": at, "end": at + 9}
    if tool != "read" and rng.random() < 0.2:
        state |= {"status": "error", "error": rng.choice(FAILURES)}
    else:
        state |= {"status": "completed", "output": text(rng, 180), "title": tool}
        state["metadata"] = {"preview": text(rng, 60), "truncated": False, "loaded": [], "exit": 0}
    return {"type": "tool", "tool": tool, "callID": call, "state": state}


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


def read(path: Path | str) -> int:
    """Every field of every record; how many parts there were."""
    seen = 0
    with open_source(path) as history:
        for record in history.sessions():
            for message in record.messages:
                for name in fields_of(type(message)):
                    getattr(message, name)
                for part in message.parts:
                    for name in fields_of(type(part)):
                        getattr(part, name)
                seen += len(message.parts)
            _ = (record.usage, record.turns, record.created_at, record.todos, record.is_fork)
    return seen


def reading(path: Path, run: Run) -> Iterator[Item]:
    """The time and memory of reading all records."""
    parts, grown = read_alone(path)
    works: dict[str, Callable[[], list[float]]] = {
        FLOOR: lambda: processor(lambda: scan(path, json.loads)),
        RECORDS: lambda: processor(lambda: read(path)),
    }
    with contest("decoding", {DECODED: (MSGSPEC, "")}, others=run.peers) as decoders:
        for peer in decoders.peers.values():
            works[DECODED] = partial(peer.ask, "decode", path=str(path))
        found = in_turns(works, seconds=0.0, least=run.pick(3, 1), warm=0)
        yield from decoders.report()
    rows = [[name, found.get(name), found[name] / found[FLOOR] if name in found else None] for name in TOLD]
    share = found[RECORDS] / found[FLOOR]
    yield Table(
        "Reading a history",
        ("what", "seconds of processor|.2f", "÷ the floor|.2f"),
        rows,
        [
            f"{path.stat().st_size / 1e6:,.0f} MB, {parts:,} parts. Reading takes {share:.2f} times the floor, which "
            f"{verdict(share, MOST)}. "
            f"Memory grew by {grown:,.0f} MB meanwhile."
        ],
        [Ratio("reading a history", FLOOR, share)],
    )


TOLD = (FLOOR, DECODED, RECORDS)


def verdict(share: float, most: float) -> str:
    """Whether a promise is kept."""
    return f"{'keeps' if share <= most else 'breaks'} the promise of {most:g}"


def processor(work: Callable[[], Any]) -> list[float]:
    """The seconds of processor time."""
    start = time.process_time()
    work()
    return [time.process_time() - start]


def read_alone(path: Path) -> tuple[int, float]:
    """How many parts there are, and by how many MB a process grew that read them."""
    code = (
        "import resource, sys; from tests.benchmarks import opencode_read as b;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "before = peak(); print(b.read(sys.argv[1]), peak() - before)"
    )
    parts, grown = python(code, path).split()
    return int(parts), float(grown)


def python(code: str, path: Path) -> str:
    """What code prints that is given a path."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


# ── totals ──────────────────────────────────────────────────────────────────────────────────────────────


def totals(path: Path) -> dict[str, Any]:
    """Sessions, messages, cost, tokens by model, calls by tool."""
    tokens: Counter[str] = Counter()
    tools: Counter[str] = Counter()
    sessions = messages = 0
    cost = 0.0
    with open_source(path) as history:
        for record in history.sessions():
            sessions += 1
            messages += len(record.messages)
            cost += record.cost
            for step in record.steps:
                tokens[step.message.model] += step.tokens.total
            tools.update(call.tool for call in record.tool_calls)
    return {"sessions": sessions, "messages": messages, "cost": cost, "tokens": tokens, "tools": tools}


TOTALS = "import sys; from tests.benchmarks.opencode_read import totals; print(totals(sys.argv[1]))"
STATS = "opencode stats"


def totals_beside_stats(path: Path, times: int) -> Iterator[Item]:
    """Both programs in turns, in wall time."""
    with beside_stats(path) as (stats, about):
        yield about
        found = in_turns(
            {"this library": timed(lambda: python(TOTALS, path)), **stats}, seconds=0.0, least=times, warm=0
        )
    share = found["this library"] / found[STATS] if STATS in found else None
    yield Table(
        "Totals of a history",
        ("program", "seconds of wall time|.2f"),
        [["this library", found["this library"]], [STATS, found.get(STATS)]],
        [f"This library takes {share:.2f} times what `{STATS}` does."] if share else [],
        [Ratio("totals of an OpenCode history", STATS, share)] if share else [],
    )


@contextlib.contextmanager
def beside_stats(path: Path) -> Iterator[tuple[dict[str, Work], Item]]:
    """`opencode stats` on our sessions, in wall time, and its version; or no work, and why."""
    program = os.environ.get("OPENCODE_BINARY")
    stats: dict[str, Work] = {}
    about: Item = Missing(STATS, "`OPENCODE_BINARY` names no program")
    with contextlib.ExitStack() as stack:
        if program:
            try:
                stats = {STATS: timed(stack.enter_context(own_database(program, path)))}
                version = subprocess.check_output([program, "--version"], text=True).strip()
                about = Versions({"OpenCode": version})
            except (OSError, subprocess.SubprocessError, sqlite3.Error, ValueError) as error:
                about = Missing(STATS, f"{type(error).__name__}: {error}")
        yield stats, about


@contextlib.contextmanager
def own_database(program: str, path: Path) -> Iterator[Callable[[], str]]:
    """`opencode stats` on a database of that program's own making, with the rows of ours.

    Raises:
        ValueError: it does not see our sessions.
    """
    with tempfile.TemporaryDirectory() as home:
        copy = Path(home) / "copy.db"
        quiet = {
            f"OPENCODE_DISABLE_{name}": "1" for name in ("MODELS_FETCH", "AUTOUPDATE", "DEFAULT_PLUGINS")
        }
        env = {"PATH": os.environ["PATH"], "HOME": home, "OPENCODE_DB": str(copy), "TERM": "dumb", **quiet}

        def stats() -> str:
            command = [program, "stats", "--models", "--tools"]
            done = subprocess.run(
                command,
                env=env,
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
            return done.stdout

        stats()
        sessions = fill(copy, path)
        shown = re.search(r"Sessions\s+([\d,]+)", stats())
        if shown is None or int(shown[1].replace(",", "")) != sessions:
            raise ValueError(f"it shows {shown[1] if shown else 'nothing'} of {sessions} sessions")
        yield stats


def fill(copy: Path, path: Path) -> int:
    """Add the rows of one database to the tables of another that has more columns; how many sessions there are."""
    with contextlib.closing(sqlite3.connect(copy)) as db, db:
        db.execute("attach ? as ours", (str(path),))
        for table in ("project", "session", "message", "part"):
            ours = {row[1] for row in db.execute(f"pragma ours.table_info({table})")}
            names, values = [], []
            for _, name, kind, required, default, _ in db.execute(
                f"pragma main.table_info({table})"
            ).fetchall():
                if name in ours or (required and default is None):
                    names.append(name)
                    zero = "0" if kind.lower() == "integer" else "''"
                    values.append(
                        f"coalesce({name}, {default or zero})"
                        if name in ours and required
                        else name
                        if name in ours
                        else zero
                    )
            db.execute(
                f"insert into main.{table} ({', '.join(names)}) select {', '.join(values)} from ours.{table}"
            )
        return int(db.execute("select count(*) from main.session").fetchone()[0])


if __name__ == "__main__":
    alone(measure)
