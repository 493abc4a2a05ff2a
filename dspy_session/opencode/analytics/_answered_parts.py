"""The shapes of answers on the parts of a session: thoughts, calls of the model, patches, cost, attachments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_session.opencode.analytics.reporting import jsonable

Found = Mapping[str, Any]
Answer = dict[str, Any]

FILES_LISTED = 50
"""How many files the summary of a git history lists."""

_KINDS = ("input", "output", "reasoning", "cache_read", "cache_write")


def tokens(row: Found, kinds: Sequence[str] = _KINDS) -> Answer:
    """The tokens of a row by their kind; 0 where there are none."""
    return {kind: row[f"tokens_{kind}"] or 0 for kind in kinds}


def reasoning(rows: Sequence[Found]) -> Answer:
    """What the model thought."""
    details = [
        {
            "id": row["id"],
            "text": row["reasoning_text"],
            "signature": row["anthropic_signature"],
            "timestamp": jsonable(row["created_at"]),
            "has_signature": row["anthropic_signature"] is not None,
        }
        for row in rows
    ]
    return {
        "meta": {"count": len(details)},
        "summary": {
            "total_entries": len(details),
            "signed_entries": sum(each["has_signature"] for each in details),
            "total_chars": sum(len(each["text"] or "") for each in details),
        },
        "details": details,
    }


def steps(rows: Sequence[Found]) -> Answer:
    """The marks of the calls of the model. Only the ends count in the summary."""
    ends = [row for row in rows if row["event_type"] == "finish"]
    total = {
        kind: sum(row[f"tokens_{kind}"] or 0 for row in ends) for kind in ("input", "output", "reasoning")
    }
    return {
        "meta": {"count": len(rows)},
        "summary": {
            "total_steps": len(ends),
            "total_cost": round(sum(row["cost"] or 0.0 for row in ends), 6),
            **{f"total_tokens_{kind}": count for kind, count in total.items()},
            "total_tokens": sum(total.values()),
        },
        "details": [
            {
                "id": row["id"],
                "event_type": row["event_type"],
                "reason": row["reason"],
                "snapshot_hash": row["snapshot_hash"],
                "cost": row["cost"] or 0.0,
                "tokens": tokens(row),
                "timestamp": jsonable(row["created_at"]),
            }
            for row in rows
        ],
    }


def git_history(rows: Sequence[Found]) -> Answer:
    """The files that were changed. What is called a commit here is a tree of OpenCode's snapshots."""
    files = sorted({name for row in rows for name in row["files"] or ()})
    return {
        "meta": {"commits": len(rows)},
        "summary": {
            "total_commits": len(rows),
            "unique_files": len(files),
            "files_list": files[:FILES_LISTED],
        },
        "details": [
            {
                "id": row["id"],
                "hash": row["git_hash"],
                "files": list(row["files"] or ()),
                "file_count": len(row["files"] or ()),
                "timestamp": jsonable(row["created_at"]),
            }
            for row in rows
        ],
    }


def precise_cost(row: Found) -> Answer:
    """What the calls of the model cost, beside what the messages say."""
    cost, estimate = row["cost"], row["message_cost"]
    precise = row["step_count"] > 0
    return {
        "meta": {"source": "step_events" if precise else "messages"},
        "precise": {
            "cost_usd": round(cost, 6),
            **{f"tokens_{kind}": count for kind, count in tokens(row).items()},
            "step_count": row["step_count"],
        },
        "estimated": {
            "cost_usd": round(estimate, 6),
            "tokens_input": row["message_input"],
            "tokens_output": row["message_output"],
        },
        "comparison": {
            "difference_usd": round(cost - estimate, 6),
            "difference_pct": round((cost - estimate) / estimate * 100, 2) if estimate > 0 else 0,
            "has_precise_data": precise,
        },
    }


def file_parts(rows: Sequence[Found]) -> Answer:
    """The attachments. What they hold is not kept: a `data_url` is the address of one that lies elsewhere."""
    files = []
    for row in rows:
        file = {
            "id": row["id"],
            "message_id": row["message_id"],
            "filename": row["file_name"] or "unknown",
            "mime_type": row["file_mime"] or "application/octet-stream",
            "timestamp": jsonable(row["created_at"]),
        }
        if row["file_url"]:
            file["data_url"] = row["file_url"]
        if row["file_size"] is not None:
            file["size_bytes"] = row["file_size"]
        files.append(file)
    kinds = Counter(file["mime_type"] for file in files)
    return {
        "meta": {},
        "summary": {
            "total_files": len(files),
            "by_mime_type": [{"mime_type": kind, "count": count} for kind, count in kinds.most_common()],
        },
        "files": files,
    }
