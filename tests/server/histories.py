"""Histories written for a test, in the layout of OpenCode 1.2 to 1.18."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opencode_layouts import Conversation, add_to_database, database

from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import running

BEGIN = 1_760_000_000_000
DIFF = """Index: /work/shop.py
===================================================================
--- /work/shop.py
+++ /work/shop.py
@@ -1,3 +1,3 @@
 import os
-KEY = None
+KEY = {secret}
 print(KEY)
"""


def conversation(
    number: int,
    title: str = "",
    *,
    prompt: str = "Do it",
    thought: str = "Let me see.",
    reply: str = "Done.",
    secret: str = "'nothing'",
    turns: int = 1,
    parent: str | None = None,
) -> Conversation:
    """A session whose turns think, call a shell, edit a file and reply."""
    session = f"ses_{number:04d}"
    info: dict[str, Any] = {
        "id": session,
        "slug": f"slug-{number}",
        "projectID": "prj_1",
        "directory": "/work",
        "title": title or f"Session {number}",
        "version": "1.18.33",
        "time": {"created": BEGIN + number * 3_600_000, "updated": BEGIN + number * 3_600_000 + 1000},
    }
    if parent is not None:
        info["parentID"] = parent
    made = Conversation(info)
    for turn in range(turns):
        made.messages += _turn(
            session, turn, info["time"]["created"] + turn * 60_000, prompt, thought, reply, secret
        )
    return made


def _turn(
    session: str, turn: int, at: int, prompt: str, thought: str, reply: str, secret: str
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    asked, answered = f"msg_{session}_{turn:04d}_0", f"msg_{session}_{turn:04d}_1"
    model = {"providerID": "lab", "modelID": "lab-large"}
    tokens = {"input": 100, "output": 20, "reasoning": 5, "cache": {"read": 1000, "write": 7}}
    user = {
        "id": asked,
        "sessionID": session,
        "role": "user",
        "agent": "build",
        "model": model,
        "time": {"created": at},
    }
    assistant = {
        "id": answered,
        "sessionID": session,
        "role": "assistant",
        "parentID": asked,
        "agent": "build",
        "mode": "build",
        **model,
        "path": {"cwd": "/work", "root": "/work"},
        "cost": 0.01,
        "tokens": tokens,
        "finish": "stop",
        "time": {"created": at + 10, "completed": at + 900},
    }
    timed = {"start": at + 20, "end": at + 40}
    shell = {
        "status": "completed",
        "input": {"command": f"export OPENAI_API_KEY={secret}; env", "description": "look"},
        "output": f"OPENAI_API_KEY={secret}\n",
        "title": "look",
        "metadata": {"exit": 0},
        "time": timed,
    }
    edit = {
        "status": "completed",
        "input": {"filePath": "/work/shop.py", "oldString": "KEY = None", "newString": f"KEY = {secret}"},
        "output": "",
        "title": "shop.py",
        "metadata": {
            "diff": DIFF.format(secret=secret),
            "filediff": {"file": "/work/shop.py", "additions": 1, "deletions": 1},
        },
        "time": timed,
    }
    parts = [
        {"type": "step-start", "snapshot": "aaa"},
        {"type": "reasoning", "text": thought, "time": timed},
        {"type": "tool", "callID": "call_1", "tool": "bash", "state": shell},
        {"type": "tool", "callID": "call_2", "tool": "edit", "state": edit},
        {"type": "text", "text": reply, "time": timed},
        {"type": "step-finish", "reason": "stop", "cost": 0.01, "tokens": tokens},
        {"type": "patch", "hash": "bbb", "files": ["/work/shop.py"]},
    ]
    return [
        (user, [_part(session, asked, 0, {"type": "text", "text": prompt})]),
        (assistant, [_part(session, answered, place, part) for place, part in enumerate(parts)]),
    ]


def _part(session: str, message: str, place: int, part: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"prt_{message[4:]}_{place}", "sessionID": session, "messageID": message, **part}


def written(folder: Path, *conversations: Conversation) -> Path:
    """A database that holds these conversations."""
    return database(folder / "opencode.db", *conversations)


def grown(path: Path, *conversations: Conversation) -> None:
    """Add conversations to a database, as OpenCode does while it works."""
    db = sqlite3.connect(path)
    with db:
        for each in conversations:
            add_to_database(db, each)
    db.close()


@contextmanager
def served(path: Path, **options: Any) -> Iterator[str]:
    """A server over a history that has been read: no request is answered before, however slow the machine is."""
    with Warehouse() as warehouse:
        warehouse.sync(path)
        with running(warehouse, interval=0, **options) as url:
            yield url
