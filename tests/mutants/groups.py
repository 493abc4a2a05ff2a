"""Which modules are mutated, each with the tests that are there for it: what `make mutants` runs.

A group's tests have to be quick, for all of those that reach a line are run for each of its mutants. PostgreSQL and
Redis are left out: their statements and scripts are no Python.
"""

from __future__ import annotations

from dataclasses import dataclass

# Tests that take long, or that need a server.
SLOW = (
    *(
        "postgres",
        "redis",
        "Postgres",
        "Redis",
        "killed",
        "linear",
        "every_combination",
        "large",
        "held_lease",
    ),
    *("whatever_is_changed", "crashed_holders", "mcp", "straggler", "parallel"),
    *("stays_away", "back_soon", "four_processes"),
)
SHORT = ("-k", " and ".join(f"not {name}" for name in SLOW))
# That a held lease is renewed in time takes a second to see; one store is enough for it.
RENEWED = ("-k", f"({SHORT[1]}) or (TestInMemory and held_lease)")
# What wrappers hand on says nothing that the stores in them do not say.
BARE = "not TestEncrypted and not TestRedacting"


@dataclass(frozen=True)
class Group:
    """Modules, as paths in the package, and arguments of pytest that select their tests."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


def session(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/session/test_{name}.py" for name in names)


def memory(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/memory/test_{name}.py" for name in names)


def conversations(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/conversations/test_{name}.py" for name in names)


def stores(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/stores/test_{name}.py" for name in names)


GROUPS = {
    "history": Group(
        ("history.py", "_exchange.py"),
        (
            *session("histories", "calls", "windows", "snapshots", "editing", "explicit_history"),
            *(*memory("summary", "states"), *SHORT),
        ),
    ),
    "turns": Group(
        ("turns.py",), session("histories", "turns", "calls", "snapshots", "editing", "scoring", "display")
    ),
    "state": Group(
        ("state.py", "_marks.py"),
        (
            *session("histories", "editing", "all_or_nothing", "windows"),
            *(
                *memory("state_values", "states", "transactions", "summary"),
                "tests/optimizing/test_around.py",
                *SHORT,
            ),
        ),
    ),
    "codec": Group(
        tuple(f"codec/{name}.py" for name in ("values", "files", "known_types", "stand_in", "upgrades")),
        (*session("values_as_json", "early_files", "files"), *SHORT),
    ),
    "state-codec": Group(
        ("_state_codec.py", "_log_codec.py", "_turn_documents.py"),
        (
            *session("files", "snapshots"),
            *memory("states", "summary", "consolidation", "transactions"),
            *(*conversations("block", "conflicts", "documents"), *SHORT),
        ),
    ),
    "lease": Group(
        ("stores/lease.py",),
        (*stores("leases", "conformance", "aio"), *RENEWED),
    ),
    "in-memory": Group(
        ("stores/in_memory.py", "stores/_standing.py"),
        (*stores("conformance", "refusals"), "-k", f"({RENEWED[1]}) and {BARE}"),
    ),
    "encryption": Group(
        ("stores/encryption.py", "stores/_key_ring.py", "stores/_wrapping.py"),
        (*stores("conformance", "wrappers", "encryption"), *SHORT),
    ),
    "sqlite": Group(
        ("stores/sqlite.py", "stores/_relational.py", "stores/_rows.py", "stores/_lines.py"),
        (
            *stores("conformance", "refusals", "deleting", "opening", "damage", "races"),
            *("-k", f"({SHORT[1]}) and {BARE}"),
        ),
    ),
}
