"""The stored shape of a conversation, version 3.

A state is what `SessionState.to_dict()` gives; a conversation file is a state with the session's options beside it.
A release reads every earlier version, see `upgrades`, and refuses newer ones:

- 1: upstream's first state and session files, every turn with a written-out snapshot, or none;
- 2: session files with options and turns, without snapshots;
- 3: typed values, extras, notes, recipes for snapshots, branches, node states.

A history snapshot is never written out: it is a recipe over the turns of the file, so that the size stays linear.
`runs` lists stretches `[kind, from, to]` of exchanges, where kind 0 means turns by their index and kind 1 means
entries of `snapshots.past`, which holds exchanges that snapshots show but that are no turns (any more).
"""

from __future__ import annotations

from typing import Any, TypedDict

VERSION = 3


class SnapshotWire(TypedDict, total=False):
    """What a turn was given."""

    head: int  # index into snapshots.heads
    projection: int  # index into snapshots.projections
    runs: list[list[int]]  # [kind, from, to]


class CallWire(TypedDict, total=False):
    """One predictor's call."""

    path: str | None
    predictor: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    snapshot: SnapshotWire | None


class TurnWire(TypedDict, total=False):
    """One turn; absent keys have their defaults."""

    id: str
    index: int
    inputs: dict[str, Any]  # values as in dspy_session.codec.values
    outputs: dict[str, Any]
    extras: dict[str, Any]
    snapshot: SnapshotWire
    score: float | None
    feedback: str | None
    created: float | None  # seconds since 1970 in UTC
    model: str | None
    usage: dict[str, Any] | None
    exact: bool
    replaces: str | None
    calls: list[CallWire]
    nodes: dict[str, dict[str, Any]]  # path → {start, before, after, memory, pending: [from, to] of episodes}


class ProjectionWire(TypedDict):
    """Which fields of a turn a history shows."""

    exclude: list[str]
    inputs: list[str] | None
    extras: list[str]


class MessageWire(TypedDict):
    """One message of an initial or explicit history."""

    values: dict[str, Any]
    inputs: list[str]


class ExchangeWire(TypedDict):
    """What went in and came out, of a turn that is not in the file."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    extras: dict[str, Any]


class SnapshotsWire(TypedDict):
    """What the recipes refer to."""

    heads: list[list[MessageWire]]
    projections: list[ProjectionWire]
    past: list[ExchangeWire]


class StateWire(TypedDict, total=False):
    """A state."""

    version: int
    conversation: str
    turns: list[TurnWire]
    initial_history: list[MessageWire] | None
    l2_memory: str
    node_states: dict[str, StateWire]
    branches: list[list[TurnWire]]  # each: the turns after the last one that it shares with the state
    branch_nodes: list[dict[str, Any]]  # of each branch: path → {stop, turns, memory}
    episodes: dict[str, list[dict[str, Any]]]  # path → {turn, turns} that marks refer to
    pending: list[dict[str, Any]]
    summaries: list[dict[str, Any]]  # {text, covers: turns before this index, made: before this turn}
    snapshots: SnapshotsWire
