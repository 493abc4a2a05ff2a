"""What is done with OpenCode in a recording. Each scenario fills the script, acts, and names its sessions."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from program import OpenCode
from scripted_model import Script

Json = dict[str, Any]
Scenario = Callable[[OpenCode, Script], None]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGM4IScHRAwQCgAfJgQRoo8irwAAAABJRU5ErkJggg=="
)


def tool(name: str, /, **args: Any) -> Json:
    return {"name": name, "args": args}


def edits(program: OpenCode, script: Script) -> None:
    """Reasoning, two tools at once, an edit, a shell command, a last word."""
    stock = str(program.project / "stock.py")
    script.main = [
        {"reasoning": "Look first.", "text": "I'll look.", "tools": [tool("read", filePath=stock)] * 2},
        {"tools": [tool("edit", filePath=stock, oldString="item.price_cents for", newString="item.qty for")]},
        {"tools": [tool("bash", command="echo fine", description="Say so")]},
        {"text": "I've fixed the total.", "usage": {"in": 9120, "out": 310, "reasoning": 44, "cached": 8192}},
    ]
    program.run("run", "Fix the total and run the tests")


def several_turns(program: OpenCode, script: Script) -> None:
    """Three turns; the second switches the model, whose thinking the third is sent as text."""
    script.main = [
        {"reasoning": "Hm.", "text": "First."},
        {"reasoning": "Other.", "text": "Second."},
        {"text": "3."},
    ]
    program.run("run", "One question")
    program.run("run", "-c", "--model", "lab/lab-tiny", "Another question")
    program.run("run", "-c", "--model", "lab/lab-large", "A third")


def tool_errors(program: OpenCode, script: Script) -> None:
    """A missing file, a bad edit, a bad exit, a timeout, unreadable and unknown calls, a missing skill."""
    stock = str(program.project / "stock.py")
    script.main = [
        {"tools": [tool("read", filePath=str(program.project / "none.py"))]},
        {"tools": [tool("edit", filePath=stock, oldString="not there", newString="x")]},
        {"tools": [tool("bash", command="echo partial; exit 3", description="Fail")]},
        {"tools": [tool("bash", command="sleep 5", timeout=300, description="Wait")]},
        {"tools": [{"name": "read", "args": '{"filePath": "sto'}]},
        {"tools": [tool("teleport", to="Mars")]},
        {"tools": [tool("skill", name="no-such-skill")]},
        {"text": "Nothing worked."},
    ]
    program.run("run", "Try everything")


def skills(program: OpenCode, script: Script) -> None:
    """A skill loaded by the model, and one run as a slash command."""
    script.main = [
        {"tools": [tool("skill", name="release-notes")]},
        {"text": "Loaded."},
        {"text": "By command."},
    ]
    program.run("run", "Write release notes")
    program.run("run", "--command", "release-notes", "for 1.0")


def sub_agents(program: OpenCode, script: Script) -> None:
    """A task for a sub-agent by the model, and a command that starts one."""
    asked = tool("task", description="Survey", prompt="SURVEY: list the functions", subagent_type="general")
    script.keyed = {
        "SURVEY": [{"tools": [tool("glob", pattern="*.py")]}, {"text": "total_value"}, {"text": "one"}]
    }
    script.main = [{"tools": [asked]}, {"text": "One function."}, {"text": "The survey is done."}]
    program.run("run", "What is there?")
    program.run("run", "--command", "survey", "briefly")


def fork(program: OpenCode, script: Script) -> None:
    """A session, and a fork of it that goes on."""
    script.main = [
        {"tools": [tool("bash", command="echo a", description="A")]},
        {"text": "A."},
        {"text": "B."},
    ]
    program.run("run", "Say a")
    program.run("run", "-c", "--fork", "And b")


def attachments(program: OpenCode, script: Script) -> None:
    """A text file, a picture and a folder."""
    picture = program.project / "shelf.png"
    picture.write_bytes(PIXEL)
    script.main = [{"text": "Three things."}]
    files = ["-f", "README.md", "-f", str(picture), "-f", ".opencode"]
    program.run("run", "What are these?", *files)


def retries(program: OpenCode, script: Script) -> None:
    """A server error before the first word, a stream that ends too soon, and a refusal."""
    script.main = [{"http": {"status": 500}}, {"text": "After a retry."}]
    program.run("run", "Try again")
    script.main = [{"text": "This will be cut off in mid sentence", "die_after": 4}, {"text": "Whole."}]
    program.run("run", "Tell me all")
    script.main = [{"http": {"status": 400}}]
    program.run("run", "Be refused")


def reverts(program: OpenCode, script: Script) -> None:
    """Undone and left so, undone and gone on, undone and restored."""
    with program.serving() as server:
        for ending in ("left", "continued", "restored"):
            script.main = [{"text": "One."}, {"text": "Two."}, {"text": "Three."}]
            session = server.session(f"Revert {ending}")
            server.prompt(session, "First")
            second = server.prompt(session, "Second")["info"]["parentID"]
            server.post(f"/session/{session}/revert", {"messageID": second})
            if ending == "restored":
                server.post(f"/session/{session}/unrevert")
            if ending == "continued":
                server.prompt(session, "Third")


def compaction(program: OpenCode, script: Script) -> None:
    """Asked for by the user, and made by OpenCode because the context is nearly full."""
    with program.serving() as server:
        script.main = [{"text": "One."}, {"text": "Two."}, {"text": "After."}]
        session = server.session("Compaction by hand")
        server.prompt(session, "First")
        server.prompt(session, "Second")
        server.post(f"/session/{session}/summarize", {"providerID": "lab", "modelID": "lab-large"})
        server.prompt(session, "What now?")
        stock = str(program.project / "stock.py")
        full = {"in": 11_900, "out": 50}
        script.main = [{"tools": [tool("read", filePath=stock)], "usage": full}, {"text": "Went on."}]
        session = server.session("Compaction by itself")
        server.prompt(session, "Do much", model="lab-tiny")


def aborts(program: OpenCode, script: Script) -> None:
    """Stopped while a tool runs, and while text streams; then asked again. And a `!` command."""
    with program.serving() as server:
        script.main = [
            {"text": "Working.", "tools": [tool("bash", command="sleep 20", description="Sleep")]},
            {"text": "Stopped."},
        ]
        _abort(server, server.session("Abort a tool"), 4)
        script.main = [
            {"text": "A beginning without an end", "hang_after": 4, "hang": 20},
            {"text": "Stopped."},
        ]
        _abort(server, server.session("Abort a text"), 3)
        script.main = [{"text": "It says hello."}]
        session = server.session("Shell")
        server.post(f"/session/{session}/shell", {"agent": "build", "command": "echo hello"})
        server.prompt(session, "What does it say?")


def _abort(server: Any, session: str, seconds: float) -> None:
    asking = threading.Thread(target=server.prompt, args=(session, "Do something slow"), daemon=True)
    asking.start()
    time.sleep(seconds)
    server.post(f"/session/{session}/abort")
    asking.join(30)
    server.prompt(session, "Stop it")


def kill(program: OpenCode, script: Script) -> None:
    """Killed while a tool runs, then gone on with."""
    script.main = [
        {"text": "Starting.", "tools": [tool("bash", command="sleep 30", description="Sleep")]},
        {"text": "Going on."},
    ]
    process = program.start("run", "Start something long")
    time.sleep(8)
    process.kill()
    process.wait()
    program.run("run", "-c", "Where were we?")


SCENARIOS: tuple[Scenario, ...] = (
    edits,
    several_turns,
    tool_errors,
    skills,
    sub_agents,
    fork,
    attachments,
    retries,
    reverts,
    compaction,
    aborts,
    kill,
)


def record(program: Path, folder: Path, model_url: str, script: Script) -> OpenCode:
    """Run all scenarios; what was asked is in `script.requests`, each with its scenario's name."""
    running = OpenCode(program, folder, model_url)
    for scenario in SCENARIOS:
        script.keyed, before = {}, len(script.requests)
        scenario(running, script)
        for request in script.requests[before:]:
            request["script"] = scenario.__name__
    return running
