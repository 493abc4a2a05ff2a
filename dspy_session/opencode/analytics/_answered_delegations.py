"""The shapes of answers on sub-agents: as a tree, and in time."""

from __future__ import annotations

from collections.abc import Sequence

from dspy_session.opencode.analytics._answered_parts import Answer, Found
from dspy_session.opencode.analytics.reporting import jsonable

DEEPEST = 50
"""Levels of a tree of sub-agents: programs that read JSON give up on what is nested much deeper."""


def delegations(head: Found, rows: Sequence[Found], status: str) -> Answer:
    """The sub-agents as a tree, of `DEEPEST` levels at most.

    One that was given several tasks stands there once, by the first.
    """
    nodes = list(_unique(head["id"], rows))
    root = {
        "session_id": head["id"],
        "agent": head["agent"],
        "title": head["title"],
        "delegated_at": None,
        "duration_ms": head["duration_ms"] or 0,
        "status": status,
        "children": [],
    }
    by_id = {head["id"]: root}
    for _, row in (each for each in nodes if each[0] <= DEEPEST):
        node = _node(row)
        by_id[row["parent"]]["children"].append(node)
        if row["child"] is not None:
            by_id[row["child"]] = node
    return {
        "meta": {},
        "summary": {
            "total_delegations": len(nodes),
            "max_depth": max((depth for depth, _ in nodes), default=0),
            "agents_involved": sorted({str(_agent(row)) for _, row in nodes if _agent(row)}),
        },
        "tree": root,
    }


def timeline(session_id: str, rows: Sequence[Found]) -> Answer:
    """Every task in the order in which it was handed on; a resumed sub-agent has several."""
    depths = {row["child"]: depth for depth, row in _unique(session_id, rows)}
    told = [
        {
            "session_id": row["child"],
            "parent_session_id": row["parent"],
            "agent": _agent(row),
            "title": row["description"] or row["title"],
            "depth": depths.get(row["child"], 1),
            "started_at": jsonable(row["created_at"]),
            "ended_at": jsonable(row["ended_at"]),
            "duration_ms": _duration(row),
            "status": _status(row),
        }
        for row in rows
    ]
    return {"meta": {"count": len(told)}, "timeline": told}


def depth(session_id: str, rows: Sequence[Found]) -> int:
    """How many levels of sub-agents there are below a session."""
    return max((level for level, _ in _unique(session_id, rows)), default=0)


def direct(session_id: str, rows: Sequence[Found]) -> list[str]:
    """The sub-agents' sessions that a session started itself, in order, each once."""
    return list(dict.fromkeys(row["child"] for row in rows if row["parent"] == session_id and row["child"]))


def _unique(root: str, rows: Sequence[Found]) -> list[tuple[int, Found]]:
    """Each sub-agent once, parents before children, with its depth; nothing goes round in circles."""
    found: list[tuple[int, Found]] = []
    depths, level = {root: 0}, [root]
    while level:
        following = []
        for parent in level:
            for row in (each for each in rows if each["parent"] == parent and each["child"] not in depths):
                found.append((depths[parent] + 1, row))
                if row["child"] is not None:
                    depths[row["child"]] = depths[parent] + 1
                    following.append(row["child"])
        level = following
    return found


def _node(row: Found) -> Answer:
    return {
        "session_id": row["child"],
        "agent": _agent(row),
        "title": row["title"] or row["description"],
        "delegated_at": jsonable(row["created_at"]),
        "duration_ms": _duration(row),
        "status": _status(row),
        "children": [],
    }


def _agent(row: Found) -> str | None:
    named: str | None = row["agent"] or row["own_agent"]
    return named


def _duration(row: Found) -> int:
    given = row["own_ms"] if row["duration_ms"] is None else row["duration_ms"]
    return int(given or 0)


def _status(row: Found) -> str:
    """`completed`, `error`, `running` (or never ended), or `unknown` where no task tells."""
    if row["succeeded"] is None:
        return "unknown"
    if row["succeeded"]:
        return "completed"
    return "running" if row["duration_ms"] is None else "error"
