"""Which modules are mutated, each with the tests that are there for it: what `make mutants` runs.

A group's tests have to be quick, for all of those that reach a line are run for each of its mutants. PostgreSQL and
Redis are left out: their statements and scripts are no Python.
"""

from __future__ import annotations

from dataclasses import dataclass

WITHOUT_SERVERS = ("-k", "not postgres and not redis and not Postgres and not Redis")


@dataclass(frozen=True)
class Group:
    """Modules, as paths in the package, and arguments of pytest that select their tests."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


def session(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/session/test_{name}.py" for name in names)


def memory(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/memory/test_{name}.py" for name in names)


def stores(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/stores/test_{name}.py" for name in names)


GROUPS = {
    "history": Group(
        ("history.py", "_exchange.py"),
        session("windows", "snapshots", "state_machine", "editing", "explicit_history", "files")
        + memory("summary", "states"),
    ),
    "turns": Group(("turns.py",), session("calls", "snapshots", "editing", "scoring", "display", "files")),
    "state": Group(
        ("state.py", "_marks.py"),
        session("editing", "all_or_nothing", "state_machine") + memory("states", "transactions", "summary"),
    ),
    "state-codec": Group(
        ("_state_codec.py", "_log_codec.py", "_turn_documents.py"),
        (
            *session("files"),
            *memory("states", "summary"),
            "tests/conversations/test_block.py",
            *WITHOUT_SERVERS,
        ),
    ),
    "codec": Group(
        tuple(f"codec/{name}.py" for name in ("values", "files", "known_types", "stand_in", "upgrades")),
        session("files"),
    ),
    "in-memory": Group(
        ("stores/in_memory.py", "stores/_standing.py"),
        (*stores("conformance", "agreement", "round_trips"), *WITHOUT_SERVERS),
    ),
    "sqlite": Group(
        ("stores/sqlite.py", "stores/_relational.py", "stores/_rows.py", "stores/_lines.py"),
        (*stores("conformance", "opening", "damage"), *WITHOUT_SERVERS),
    ),
    "lease": Group(("stores/lease.py",), (*stores("conformance", "aio"), *WITHOUT_SERVERS)),
    "encryption": Group(
        ("stores/encryption.py", "stores/_key_ring.py", "stores/_wrapping.py"),
        (*stores("conformance", "wrappers"), *WITHOUT_SERVERS),
    ),
}
