"""Other libraries, each in an environment of its own, run as processes that are asked by turns."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Item, Missing, Versions
from tests.benchmarks.timing import in_turns

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
SCRIPTS = Path(__file__).parent / "peer_scripts"
OURS = "this library"


class Unavailable(Exception):
    """A peer cannot be had, or failed; says why."""


def same(*packages: str) -> tuple[str, ...]:
    """Requirements for the versions that are installed here, so that nothing but the peer differs."""
    return tuple(f"{package}=={metadata.version(package)}" for package in packages)


@dataclass(frozen=True)
class Environment:
    """Where a library runs.

    Attributes:
        name: of the folder.
        requirements: what pip installs, the library first; none for the environment that runs this.
        shown: the packages whose versions the page shows.
    """

    name: str
    requirements: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is kept: another one for other requirements, or another Python."""
        key = json.dumps([sys.version, self.requirements])
        return FOLDER / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def python(self) -> str:
        """Its interpreter; makes the environment if it is not there.

        Raises:
            Unavailable: it cannot be made. What pip said is on standard error.
        """
        if not self.requirements:
            return sys.executable
        python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        complete = self.folder / "complete"
        if not complete.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            print(f"installing {', '.join(self.requirements)} …", file=sys.stderr, flush=True)
            told = f"no environment for {self.name} could be made"
            quietly([sys.executable, "-m", "venv", str(self.folder)], told)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            quietly([*pip, *self.requirements], f"pip could not install {', '.join(self.requirements)}")
            complete.touch()
        return str(python)

    def variables(self, home: str) -> dict[str, str]:
        """The environment variables of its processes: nothing is found but what is installed there."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        ours = {"PYTHONPATH": str(ROOT)} if not self.requirements else {}
        quiet = {"LANGSMITH_TRACING": "false", "OPENAI_API_KEY": "not used"}
        return {**kept, **ours, **quiet, "DSPY_CACHEDIR": home}


def quietly(command: list[str], problem: str) -> None:
    """Run a command; what it prints goes to standard error, if it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        raise Unavailable(problem) from error
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise Unavailable(problem)


HERE = Environment("here", shown=("dspy-session", "dspy"))
BARE = Environment("here", shown=("dspy",))
# Only versions before 1.0 are the other library of this name.
PUBLISHED = Environment(
    "published", ("dspy-session<1", *same("dspy", "pydantic", "litellm")), ("dspy-session", "dspy")
)
AGENTS = Environment("openai-agents", ("openai-agents",), ("openai-agents",))
LANGGRAPH = Environment(
    "langgraph",
    ("langgraph", "langgraph-checkpoint-sqlite"),
    ("langgraph", "langgraph-checkpoint-sqlite"),
)
MSGSPEC = Environment("msgspec", ("msgspec",), ("msgspec",))


class Peer:
    """A script that runs in an environment and answers.

    Args:
        environment: where it runs.
        script: its name in `peer_scripts`.
        arguments: of its command line.
        patience: seconds that an answer may take.

    Raises:
        Unavailable: the environment cannot be made.
    """

    def __init__(self, environment: Environment, script: str, *arguments: str, patience: float = 300) -> None:
        self.patience = patience
        python = environment.python()
        self._home = tempfile.TemporaryDirectory(prefix="dspy-session-peer-")
        self._told = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(SCRIPTS / f"{script}.py"), *arguments],
            env=environment.variables(self._home.name),
            cwd=self._home.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
        )

    def ask(self, job: str, **arguments: Any) -> Any:
        """Have a job done.

        Raises:
            Unavailable: it failed, ended, or took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = threading.Timer(self.patience, self._process.kill)
        watch.start()
        with contextlib.suppress(OSError):
            print(json.dumps({"job": job, "arguments": arguments}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        late = watch.finished.is_set()
        watch.cancel()
        if not line:
            raise Unavailable(f"no answer within {self.patience:g} seconds" if late else self._last_words())
        told = json.loads(line)
        if "error" in told:
            raise Unavailable(told["error"].splitlines()[0])
        return told["answer"]

    def _last_words(self) -> str:
        self._process.wait()
        self._told.seek(0)
        lines = self._told.read().strip().splitlines()
        return lines[-1] if lines else f"it ended with status {self._process.returncode}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._told.close()
        self._home.cleanup()


@dataclass
class Contest:
    """Peers that do the same jobs.

    Attributes:
        peers: those that run, by name.
        missing: those that do not, or stopped, and why.
        versions: what was installed for each.
    """

    peers: dict[str, Peer]
    missing: list[Missing]
    versions: dict[str, str]

    def each(self, job: str, **arguments: Any) -> dict[str, Any]:
        """Every peer's answer."""
        return {name: self._asked(name, job, arguments) for name in list(self.peers)}

    def in_turns(
        self, job: str, *, seconds: float, least: int = 4, warm: int = 1, **arguments: Any
    ) -> dict[str, float | None]:
        """The lower quartile of the seconds that each peer's answers list, asked by turns; None for the missing."""
        works = {name: partial(self._listed, name, job, arguments) for name in self.peers}
        found = in_turns(works, seconds=seconds, least=least, warm=warm) if works else {}
        return {name: (found[name] or None) if name in self.peers else None for name in works}

    def report(self) -> Iterator[Item]:
        """What was measured, and what was not."""
        yield Versions(self.versions)
        yield from self.missing

    def _listed(self, name: str, job: str, arguments: Mapping[str, Any]) -> list[float]:
        # What failed, or cannot be asked for, is no time: the others go on.
        return self._asked(name, job, arguments) or [0.0]

    def _asked(self, name: str, job: str, arguments: Mapping[str, Any]) -> Any:
        if name not in self.peers:
            return None
        try:
            return self.peers[name].ask(job, **arguments)
        except Unavailable as error:
            self.peers.pop(name).close()
            self.missing.append(Missing(name, f"`{job}` with {json.dumps(arguments)}: {error}"))
            return None


@contextlib.contextmanager
def contest(
    script: str, contestants: Mapping[str, tuple[Environment, str]], *, others: bool = True
) -> Iterator[Contest]:
    """Start peers.

    Args:
        script: what all of them run.
        contestants: an environment and an argument for each name.
        others: whether environments may be made.
    """
    found = Contest({}, [], {})
    with contextlib.ExitStack() as stack:
        for name, (environment, argument) in contestants.items():
            try:
                if environment.requirements and not others:
                    raise Unavailable("left out by `--no-peers`")
                peer = Peer(environment, script, argument)
                stack.callback(peer.close)
                found.versions.update(versions_of(peer, environment, name))
                found.peers[name] = peer
            except Unavailable as error:
                found.missing.append(Missing(name, str(error)))
        yield found


def versions_of(peer: Peer, environment: Environment, name: str) -> dict[str, str]:
    """The versions of a peer's packages; those of the published package are told from ours."""
    numbers = peer.ask("versions", packages=list(environment.shown))
    shown = zip(environment.shown, numbers, strict=True)
    return {
        f"{name}: {package}" if environment.requirements else package: number for package, number in shown
    }


def over(found: Mapping[str, float | None], mine: str = OURS) -> dict[str, float]:
    """What mine takes, divided by what each other does, where both were measured."""
    own = found.get(mine)
    if not own:
        return {}
    return {name: own / value for name, value in found.items() if value and name != mine}


def columns(names: Iterable[str], unit: str, form: str) -> list[str]:
    """A column for each name."""
    return [f"{name}, {unit}|{form}" for name in names]
