"""The real OpenCode, run alone: home, data, configuration and caches are folders of the run.

`python tests/opencode/recorder/program.py VERSION FOLDER` fetches a release and prints where its program is. It ends
with 3, and the reason, if the release cannot be had or does not start on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

STOCK = """from dataclasses import dataclass


@dataclass
class Item:
    sku: str
    qty: int
    price_cents: int = 0


def total_value(items):
    return sum(item.price_cents for item in items)
"""
SKILL = """---
name: release-notes
description: How release notes are written here
---

# Release notes

1. Run `git log --oneline`.
2. Group the commits.
"""
COMMAND = """---
description: Survey the code
agent: general
subtask: true
---

SURVEY the code base. $ARGUMENTS
"""
MODEL = {
    "tool_call": True,
    "reasoning": True,
    "attachment": True,
    "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
    "cost": {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75},
    "limit": {"context": 128_000, "output": 32_000},
}


def fetch(version: str, folder: Path) -> Path:
    """The program of a release, from the package for this platform.

    Raises:
        RuntimeError: npm is not there, or cannot fetch it.
    """
    if shutil.which("npm") is None:
        raise RuntimeError("npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"opencode-linux-x64@{version}"
    command = ["npm", "pack", "--loglevel=error", name]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"npm did not fetch {name} within ten minutes") from None
    if done.returncode:
        raise RuntimeError(f"npm cannot fetch {name}: {done.stderr.strip()[:300]}")
    with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as archive:
        archive.extract("package/bin/opencode", folder)
    program = folder / "package" / "bin" / "opencode"
    program.chmod(0o755)
    return program


def version_of(program: Path) -> str:
    """What a program says its version is.

    Raises:
        RuntimeError: it does not start on this machine.
    """
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home}
        try:
            done = subprocess.run(
                [program, "--version"], env=env, capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"OpenCode does not start on this machine: {error}") from error
    return done.stdout.strip()


class OpenCode:
    """A release, with a scratch repository to work on.

    Attributes:
        project: the repository.
        data: OpenCode's data folder.
    """

    def __init__(self, program: Path, folder: Path, model_url: str) -> None:
        self.program = program
        self.project, home = folder / "shelf", folder / "home"
        self.data = home / "data" / "opencode"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "TERM": "dumb",
            **{f"OPENCODE_DISABLE_{name}": "1" for name in ("MODELS_FETCH", "AUTOUPDATE", "DEFAULT_PLUGINS")},
            **{f"OPENCODE_DISABLE_{name}": "1" for name in ("LSP_DOWNLOAD", "SHARE", "EXTERNAL_SKILLS")},
        }
        home.mkdir(parents=True)
        self._lay_out(model_url)

    def _lay_out(self, model_url: str) -> None:
        lab = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": model_url, "apiKey": "none"},
            "models": {"lab-large": MODEL, "lab-small": MODEL, "lab-tiny": {**MODEL, "limit": TINY}},
        }
        config = {
            "autoupdate": False,
            "share": "disabled",
            "model": "lab/lab-large",
            "provider": {"lab": lab},
        }
        files = {
            "opencode.json": json.dumps({**config, "small_model": "lab/lab-small"}),
            "stock.py": STOCK,
            "README.md": "# shelf\n",
            ".opencode/skills/release-notes/SKILL.md": SKILL,
            ".opencode/command/survey.md": COMMAND,
        }
        for name, content in files.items():
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            (self.project / name).write_text(content)
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
            identity = ["-c", "user.name=dev", "-c", "user.email=dev@localhost"]
            subprocess.run(["git", *identity, *command], cwd=self.project, check=True, env=self.env)

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """`opencode …`; what it printed."""
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return done.stdout

    def start(self, *arguments: str, output: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """`opencode …`, left running."""
        return subprocess.Popen(
            [self.program, *arguments],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """`opencode serve`, until the end of the block."""
        with tempfile.NamedTemporaryFile("w+") as told:
            process = self.start("serve", "--port", "0", output=told)
            try:
                yield Server(self._address(process, Path(told.name)))
            finally:
                process.kill()
                process.wait()

    @staticmethod
    def _address(process: subprocess.Popen[bytes], told: Path) -> str:
        while process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:\d+", told.read_text())
            if found:
                return found.group(0)
            time.sleep(0.1)
        raise RuntimeError(f"opencode serve ended: {told.read_text()[-500:]}")


TINY = {"context": 12_000, "output": 1_000}


class Server:
    """The HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: Json | None = None, timeout: float = 120) -> Any:
        """POST JSON, give back JSON."""
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body or {}).encode(), method="POST")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def session(self, title: str) -> str:
        """A new session's id."""
        return str(self.post("/session", {"title": title})["id"])

    def prompt(self, session: str, text: str, model: str = "lab-large", **more: Any) -> Json:
        """Ask, and wait for the reply."""
        body = {
            "model": {"providerID": "lab", "modelID": model},
            "parts": [{"type": "text", "text": text}],
            **more,
        }
        return dict(self.post(f"/session/{session}/message", body) or {})


def main() -> int:
    """Fetch a release that starts here, and print its path."""
    version, folder = sys.argv[1:]
    try:
        program = fetch(version, Path(folder))
        print(f"OpenCode {version_of(program)}", file=sys.stderr)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 3
    print(program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
