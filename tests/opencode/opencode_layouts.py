"""Write one conversation in each layout that OpenCode ever used, as its releases did."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SESSION_COLUMNS = """
id text primary key, project_id text not null, workspace_id text, parent_id text, slug text not null,
directory text not null, path text, title text not null, version text not null, share_url text,
summary_additions integer, summary_deletions integer, summary_files integer, summary_diffs text,
metadata text, cost real default 0 not null, tokens_input integer default 0 not null,
tokens_output integer default 0 not null, tokens_reasoning integer default 0 not null,
tokens_cache_read integer default 0 not null,
tokens_cache_write integer default 0 not null, revert text, permission text, agent text, model text,
time_created integer not null, time_updated integer not null, time_compacting integer, time_archived integer
"""
V2_COLUMNS = SESSION_COLUMNS + (
    ", fork_session_id text, fork_boundary text, time_suspended integer, time_idle integer, "
    "time_viewed integer, resume_attempts integer, idle_outcome text"
)
ROWS = (
    "id text primary key, {}session_id text not null, time_created integer, time_updated integer, data text"
)


@dataclass
class Conversation:
    """A session in the shape of an export: `info`, messages as `(info, parts)`, and the to-do list."""

    info: Json
    messages: list[tuple[Json, list[Json]]] = field(default_factory=list)
    todos: list[Json] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.info["id"])


def database(path: Path, *conversations: Conversation, worktree: str = "/work") -> Path:
    """The tables of 1.2 to 1.18."""
    db = sqlite3.connect(path)
    with db:
        db.execute(
            "create table project (id text primary key, worktree text not null, sandboxes text not null)"
        )
        db.execute(f"create table session ({SESSION_COLUMNS})")
        db.execute(f"create table message ({ROWS.format('')})")
        db.execute(f"create table part ({ROWS.format('message_id text not null, ')})")
        db.execute("create index part_session_idx on part (session_id)")
        db.execute("create index message_session_idx on message (session_id, time_created, id)")
        db.execute(
            "create table todo (session_id text, content text, status text, priority text, position integer)"
        )
        for each in conversations:
            add_to_database(db, each, worktree)
    db.close()
    return path


def add_to_database(db: sqlite3.Connection, conversation: Conversation, worktree: str = "/work") -> None:
    info = conversation.info
    db.execute("insert or ignore into project values (?, ?, '[]')", (info["projectID"], worktree))
    insert(db, "session", session_row(info))
    for head, parts in conversation.messages:
        data = {key: value for key, value in head.items() if key not in ("id", "sessionID")}
        at = head["time"]["created"]
        insert(
            db,
            "message",
            {"id": head["id"], "session_id": info["id"], "time_created": at, "data": dumps(data)},
        )
        for part in parts:
            data = {key: v for key, v in part.items() if key not in ("id", "sessionID", "messageID")}
            row = {"id": part["id"], "message_id": head["id"], "session_id": info["id"], "time_created": at}
            insert(db, "part", {**row, "data": dumps(data)})
    for position, todo in enumerate(conversation.todos):
        db.execute(
            "insert into todo values (?, ?, ?, ?, ?)",
            (info["id"], todo["content"], todo["status"], todo["priority"], position),
        )


def insert(db: sqlite3.Connection, table: str, row: Json) -> None:
    marks = ", ".join("?" * len(row))
    db.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", tuple(row.values()))


def session_row(info: Json) -> Json:
    columns = {
        "projectID": "project_id",
        "parentID": "parent_id",
        **{name: name for name in ("id", "slug", "directory", "path", "title", "version", "agent", "cost")},
    }
    row = {column: info[name] for name, column in columns.items() if name in info}
    row.update(
        {name: dumps(info[name]) for name in ("revert", "model", "metadata", "permission") if name in info}
    )
    row.update({f"time_{name}": at for name, at in info["time"].items()})
    tokens = info.get("tokens")
    if tokens:
        row.update({f"tokens_{kind}": tokens[kind] for kind in ("input", "output", "reasoning")})
        row.update({f"tokens_cache_{kind}": tokens["cache"][kind] for kind in ("read", "write")})
    return row


def v2_database(path: Path, info: Json, entries: list[Json], **columns: Any) -> Path:
    """The tables of version 2, after its published schema. Synthetic: no release of it was run."""
    db = sqlite3.connect(path)
    with db:
        db.execute(f"create table if not exists session_v2 ({V2_COLUMNS})")
        db.execute(
            "create table if not exists session_message (id text primary key, session_id text, type text, "
            "seq integer, time_created integer, time_updated integer, data text)"
        )
        insert(db, "session_v2", {**session_row(info), **columns})
        for seq, entry in enumerate(entries):
            data = {key: value for key, value in entry.items() if key not in ("id", "type")}
            row = {"id": entry["id"], "session_id": info["id"], "type": entry["type"], "seq": seq}
            insert(db, "session_message", {**row, "data": dumps(data)})
    db.close()
    return path


def storage(folder: Path, *conversations: Conversation, worktree: str = "/work") -> Path:
    """The tree of 1.0 and 1.1."""
    root = folder / "storage"
    for each in conversations:
        project = each.info["projectID"]
        write(root / "project" / f"{project}.json", {"id": project, "worktree": worktree})
        write(root / "session" / project / f"{each.id}.json", each.info)
        for head, parts in each.messages:
            write(root / "message" / each.id / f"{head['id']}.json", head)
            for part in parts:
                write(root / "part" / head["id"] / f"{part['id']}.json", part)
        if each.todos:
            write(root / "todo" / f"{each.id}.json", each.todos)
    write(root / "migration", 2)
    return folder


def project_storage(folder: Path, *conversations: Conversation) -> Path:
    """The tree of 0.5."""
    root = folder / "project" / "work-shelf" / "storage" / "session"
    for each in conversations:
        write(root / "info" / f"{each.id}.json", each.info)
        for head, parts in each.messages:
            write(root / "message" / each.id / f"{head['id']}.json", head)
            for part in parts:
                write(root / "part" / each.id / head["id"] / f"{part['id']}.json", part)
    return folder


def first_storage(folder: Path, *conversations: Conversation) -> Path:
    """The tree of 0.1: parts inside the message file, tool calls in the AI SDK's shape."""
    root = folder / "project" / "work-shelf" / "storage" / "session"
    for each in conversations:
        heads = {
            key: value
            for key, value in each.info.items()
            if key in ("id", "title", "version", "time", "parentID")
        }
        write(root / "info" / f"{each.id}.json", heads)
        for head, parts in each.messages:
            write(root / "message" / each.id / f"{head['id']}.json", _first_message(head, parts))
    return folder


def _first_message(head: Json, parts: list[Json]) -> Json:
    metadata: Json = {"sessionID": head["sessionID"], "time": head["time"], "tool": {}}
    if head["role"] == "assistant":
        kept = ("modelID", "providerID", "path", "cost", "tokens", "summary")
        metadata["assistant"] = {key: head[key] for key in kept if key in head} | {"system": []}
    if "error" in head:
        metadata["error"] = head["error"]
    stored = []
    for part in parts:
        if part["type"] != "tool":
            stored.append({k: v for k, v in part.items() if k not in ("id", "messageID", "sessionID")})
            continue
        state = part["state"]
        call = {"toolCallId": part["callID"], "toolName": part["tool"], "args": state.get("input", {})}
        done = state["status"] in ("completed", "error")
        call["state"] = "result" if done else {"running": "call", "pending": "partial-call"}[state["status"]]
        if done:
            call["result"] = state.get("output") if state["status"] == "completed" else state["error"]
        metadata["tool"][part["callID"]] = {
            **state.get("metadata", {}),
            "title": "",
            "time": state.get("time", {}),
        }
        stored.append({"type": "tool-invocation", "toolInvocation": call})
    return {"id": head["id"], "role": head["role"], "parts": stored, "metadata": metadata}


def export(path: Path, conversation: Conversation) -> Path:
    """A file of `opencode export`."""
    messages = [{"info": head, "parts": parts} for head, parts in conversation.messages]
    path.write_text(json.dumps({"info": conversation.info, "messages": messages}, indent=2) + "\n")
    return path


def v2_export(path: Path, info: Json, entries: list[Json]) -> Path:
    """A file of version 2's export, after its published schema."""
    moved = {key: value for key, value in info.items() if key != "directory"}
    moved["location"] = {"directory": info["directory"]}
    path.write_text(json.dumps({"info": moved, "messages": entries}, indent=2))
    return path


def v2_entries(conversation: Conversation) -> list[Json]:
    """The conversation in version 2's flat messages, as far as they can hold it."""
    entries = []
    for head, parts in conversation.messages:
        entry: Json = {"id": head["id"], "time": head["time"]}
        if head["role"] == "user":
            texts = [part["text"] for part in parts if part["type"] == "text" and not part.get("synthetic")]
            entry.update(type="user", text="\n".join(texts))
        else:
            model = {"id": head["modelID"], "providerID": head["providerID"]}
            entry.update(type="assistant", agent=head["agent"], model=model)
            entry["content"] = [
                _v2_content(part) for part in parts if part["type"] in ("text", "reasoning", "tool")
            ]
            finish = next((part for part in parts if part["type"] == "step-finish"), None)
            if finish:
                entry.update(finish=finish["reason"], cost=finish["cost"], tokens=finish["tokens"])
        entries.append(entry)
    return entries


def _v2_content(part: Json) -> Json:
    if part["type"] != "tool":
        return {"type": part["type"], "text": part["text"]}
    state, kept = part["state"], {}
    if state["status"] == "pending":
        kept = {"status": "streaming", "input": state.get("raw", "")}
    else:
        kept = {"status": state["status"], "input": state["input"], "metadata": state.get("metadata", {})}
    if state["status"] == "completed":
        kept["content"] = [{"type": "text", "text": state["output"]}]
    if state["status"] == "error":
        kept["error"] = {"type": "unknown", "message": state["error"]}
    time = state.get("time", {})
    times = {"created": time.get("start"), "ran": time.get("start"), "completed": time.get("end")}
    return {"type": "tool", "id": part["callID"], "name": part["tool"], "state": kept, "time": times}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
