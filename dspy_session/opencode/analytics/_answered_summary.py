"""The shapes of answers that sum a session up: tokens, tools, files, agents, and all of them together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_session.opencode.analytics._answered_parts import Answer, Found

TOOLS_LISTED = 10
"""How many tools an answer lists."""

_COLOURS = {"first": "#4c78a8", "second": "#f58518", "third": "#54a24b"}

_SECRET = re.compile(
    r"(^|/)(\.env(\.(?!example$|sample$|template$|dist$)[^/]+)?|\.netrc|\.npmrc|\.pypirc|\.git-credentials"
    r"|credentials(\.[^/]+)?|secrets?\.[^/]+|id_(rsa|dsa|ecdsa|ed25519)[^/]*|[^/]+\.(pem|key|p12|pfx|keystore))$"
    r"|(^|/)\.(ssh|aws|gnupg|kube)/",
    re.IGNORECASE,
)

_STATUS = {
    "unfinished": "running",
    "no_reply": "running",
    "aborted": "aborted",
    "error": "error",
}


def status(head: Mapping[str, Any]) -> str:
    """How a session stands, by the end of its last turn that the user did not undo.

    `running`: the last prompt has no reply, or one without an end; also where OpenCode was killed meanwhile.
    `aborted`: the user stopped the last reply. `error`: the last reply ended with an error. Else `completed`.
    """
    if head.get("signal") == "idle_outcome":
        return {"failed": "error", "interrupted": "aborted"}.get(str(head.get("detail")), "completed")
    return _STATUS.get(str(head.get("signal")), "completed")


def risky(operation: str, path: str, root: str | None) -> bool:
    """Whether a file operation asks for a second look.

    It does if the file's name is one that keys and passwords are kept under, or if something was written
    outside of the project's root. Nothing is said of what the file holds.
    """
    plain = path.replace("\\", "/")
    if _SECRET.search(plain):
        return True
    if operation == "read" or not root or not os.path.isabs(path):
        return False
    return os.path.commonpath([os.path.normpath(path), os.path.normpath(root)]) != os.path.normpath(root)


def tokens(rows: Sequence[Found]) -> Answer:
    """Tokens by kind and agent. `total` is input and output alone."""
    total = {
        kind: sum(row[f"tokens_{kind}"] for row in rows)
        for kind in ("input", "output", "reasoning", "cache_read", "cache_write")
    }
    sent = total["input"] + total["cache_read"]
    return {
        "message_count": sum(row["message_count"] for row in rows),
        **total,
        "total": total["input"] + total["output"],
        "cache_hit_ratio": round(total["cache_read"] / sent * 100, 1) if sent else 0,
        "by_agent": [
            {"agent": row["agent"], "tokens": row["tokens_input"] + row["tokens_output"]}
            for row in rows
            if row["role"] == "assistant"
        ],
    }


def tools(rows: Sequence[Found]) -> Answer:
    """Calls of tools."""
    calls, succeeded = sum(row["calls"] for row in rows), sum(row["succeeded"] for row in rows)
    timed = sum(row["timed"] for row in rows)
    statuses: Counter[str] = Counter()
    for row in rows:
        statuses.update(row["statuses"] or {})
    return {
        "total_calls": calls,
        "unique_tools": len(rows),
        "success_count": succeeded,
        "error_count": sum(row["failed"] for row in rows),
        "success_rate": round(succeeded / calls * 100, 1) if calls else 0,
        "avg_duration_ms": int(sum(row["total_ms"] for row in rows) / timed) if timed else 0,
        "top_tools": [
            {
                "name": row["name"],
                "count": row["calls"],
                "avg_duration_ms": int(row["total_ms"] / row["timed"]) if row["timed"] else 0,
                "error_count": row["failed"],
            }
            for row in rows[:TOOLS_LISTED]
        ],
        "by_status": [{"status": name, "count": count} for name, count in statuses.most_common()],
    }


def files(rows: Sequence[Found]) -> Answer:
    """Files read, written and edited. Lines are those that the tools recorded."""
    counts = Counter(row["operation"] for row in rows)
    listed: dict[str, list[str]] = {"read": [], "write": [], "edit": []}
    stats: dict[tuple[str, str], Answer] = {}
    for row in rows:
        path, operation = row["path"], row["operation"]
        if path not in listed[operation]:
            listed[operation].append(path)
        empty = {"path": path, "operation": operation, "additions": 0, "deletions": 0}
        kept = stats.setdefault((path, operation), empty)
        kept["additions"] += row["additions"] or 0
        kept["deletions"] += row["deletions"] or 0
    kinds = Counter(os.path.splitext(path)[1].lstrip(".") or "none" for path in {r["path"] for r in rows})
    return {
        "total_reads": counts["read"],
        "total_writes": counts["write"],
        "total_edits": counts["edit"],
        "high_risk_count": sum(risky(row["operation"], row["path"], _root(row)) for row in rows),
        "unique_files": len({row["path"] for row in rows}),
        "files_list": listed,
        "files_with_stats": list(stats.values()),
        "by_operation": [{"operation": name, "count": count} for name, count in counts.most_common()],
        "by_extension": [{"extension": name, "count": count} for name, count in kinds.most_common()],
    }


def _root(row: Found) -> str | None:
    found = row["directory"] if row["worktree"] in (None, "", "/") else row["worktree"]
    return None if found is None else str(found)


def agents(rows: Sequence[Found], depth: int) -> Answer:
    """The agents that answered, and how deep tasks were handed on."""
    worked = [row for row in rows if row["role"] == "assistant"]
    return {
        "unique_count": len(worked),
        "max_depth": depth,
        "agents": [
            {
                "agent": row["agent"],
                "message_count": row["message_count"],
                "tokens": row["tokens_input"] + row["tokens_output"],
            }
            for row in worked
        ],
    }


def tokens_answer(details: Answer) -> Answer:
    """The answer on tokens alone."""
    named = ("total", "input", "output", "cache_read", "cache_hit_ratio")
    charts = {"tokens_by_type": _tokens_chart(details), "tokens_by_agent": details["by_agent"]}
    return {
        "meta": {},
        "summary": {name: details[name] for name in named},
        "details": details,
        "charts": charts,
    }


def tools_answer(details: Answer) -> Answer:
    """The answer on tools alone."""
    named = ("total_calls", "unique_tools", "success_rate", "avg_duration_ms")
    charts = {"tools_by_name": _tools_chart(details), "tools_by_status": details["by_status"]}
    return {
        "meta": {},
        "summary": {name: details[name] for name in named},
        "details": details,
        "charts": charts,
    }


def files_answer(details: Answer) -> Answer:
    """The answer on files alone."""
    named = ("total_reads", "total_writes", "total_edits", "high_risk_count")
    charts = {"files_by_type": _files_chart(details), "files_by_extension": details["by_extension"]}
    return {
        "meta": {},
        "summary": {name: details[name] for name in named},
        "details": details,
        "charts": charts,
    }


def summary(head: Found, details: Mapping[str, Answer], cost: float) -> Answer:
    """The session at a glance. The cost is that which OpenCode stored; nothing is estimated."""
    return {
        "meta": {"title": head["title"], "directory": head["directory"]},
        "summary": {
            "duration_ms": head["duration_ms"] or 0,
            "total_tokens": details["tokens"]["total"],
            "total_tool_calls": details["tools"]["total_calls"],
            "total_files": details["files"]["unique_files"],
            "unique_agents": details["agents"]["unique_count"],
            "estimated_cost_usd": round(cost, 6),
            "status": status(head),
        },
        "details": dict(details),
        "charts": {
            "tokens_by_type": _tokens_chart(details["tokens"]),
            "tools_by_name": _tools_chart(details["tools"]),
            "files_by_type": _files_chart(details["files"]),
        },
    }


def _tokens_chart(found: Answer) -> list[Answer]:
    return _chart({"Input": found["input"], "Output": found["output"], "Cache": found["cache_read"]})


def _files_chart(found: Answer) -> list[Answer]:
    return _chart(
        {"Read": found["total_reads"], "Write": found["total_writes"], "Edit": found["total_edits"]}
    )


def _tools_chart(found: Answer) -> list[Answer]:
    return [{"label": each["name"], "value": each["count"]} for each in found["top_tools"]]


def _chart(values: Mapping[str, int]) -> list[Answer]:
    return [
        {"label": label, "value": value, "color": colour}
        for (label, value), colour in zip(values.items(), _COLOURS.values(), strict=True)
    ]
