"""PostgreSQL and Redis for the tests: started on free loopback ports, in temporary folders, on first use."""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REQUIRED = os.environ.get("DSPY_SESSION_REQUIRE_SERVERS") == "1"


class Unavailable(Exception):
    """The server cannot be had on this machine; says why."""


def free_port() -> int:
    # A Redis cluster talks to itself 10,000 ports higher, so both have to exist and be free.
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < 55_000:
                try:
                    bus.bind(("127.0.0.1", port + 10_000))
                except OSError:
                    continue
                return port


class Server:
    """A server process of ours: it can be killed and started again on the same port and data."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dspy-session-server-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.discard)

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def user(self) -> str | None:
        return None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                user=self.user(),
                start_new_session=True,
                cwd=self.folder,
            )
        for _ in range(600):
            if self.ready():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        text = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"{self.command()[0]} does not start: {text[-1] if text else 'it says nothing'}")

    def kill(self) -> None:
        """End it as a crash would, children included."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def discard(self) -> None:
        # A forked child inherits the exit handler, but the server is its parent's.
        if os.getpid() == self._owner:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)


def binary(name: str, *places: str) -> str:
    found = [*([shutil.which(name)] if shutil.which(name) else []), *sorted(map(str, places), reverse=True)]
    for place in found:
        if place and os.access(place, os.X_OK):
            return place
    raise Unavailable(f"{name} is not installed")


class Postgres(Server):
    """A PostgreSQL that trusts loopback, with a database of the same name as its user, `chat`."""

    def __init__(self) -> None:
        self.postgres = binary("postgres", *glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        initdb = binary("initdb", *glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        super().__init__()
        if self.user():
            shutil.chown(self.folder, self.user())
        (self.folder / "password").write_text("secret")
        subprocess.run(
            [
                *(initdb, "-D", str(self.folder / "data"), "-U", "chat", "-E", "UTF8", "--no-locale"),
                *("--auth=scram-sha-256", "--pwfile", str(self.folder / "password")),
            ],
            check=True,
            capture_output=True,
            user=self.user(),
            cwd=self.folder,
        )
        self.start()
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE chat")

    def user(self) -> str | None:
        # PostgreSQL refuses to run as root.
        return "postgres" if os.getuid() == 0 else None

    def command(self) -> list[str]:
        return [
            *(self.postgres, "-D", str(self.folder / "data"), "-p", str(self.port)),
            *(
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=80",
            ),
        ]

    def url(self, database: str = "chat", password: str = "secret") -> str:
        return f"postgresql://chat:{password}@127.0.0.1:{self.port}/{database}"

    def ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class Redis(Server):
    """A Redis that writes every command to disk before it answers; as a cluster of one node if told so."""

    def __init__(self, *, cluster: bool = False) -> None:
        self.redis = binary("redis-server", "/usr/bin/redis-server")
        self.cluster = cluster
        super().__init__()
        self.start()

    def command(self) -> list[str]:
        more = ["--cluster-enabled", "yes"] if self.cluster else []
        return [
            *(self.redis, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *(
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--requirepass",
                "secret",
                *more,
            ),
        ]

    def url(self, password: str = "secret") -> str:
        return f"redis://:{password}@127.0.0.1:{self.port}/0"

    def ready(self) -> bool:
        import redis

        client = redis.Redis.from_url(self.url(), socket_timeout=2)
        try:
            client.ping()
            if self.cluster and (info := dict(client.cluster("INFO")))["cluster_state"] != "ok":
                if info["cluster_slots_assigned"] == "0":
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                return False
        except redis.RedisError:
            return False
        finally:
            client.close()
        return True


_running: dict[str, Server | Unavailable] = {}


def running(name: str, start: Callable[[], Server]) -> Server:
    """The server of this test run, started at first use. Raises `Unavailable`."""
    if name not in _running:
        try:
            _running[name] = start()
        except (Unavailable, ImportError, OSError, subprocess.CalledProcessError) as error:
            _running[name] = Unavailable(str(error))
    server = _running[name]
    if isinstance(server, Unavailable):
        raise server
    return server


def untested() -> dict[str, str]:
    """Which servers were wanted and could not be had, and why."""
    return {name: str(server) for name, server in _running.items() if isinstance(server, Unavailable)}


def postgres() -> Postgres:
    server = running("postgresql", Postgres)
    assert isinstance(server, Postgres)
    return server


def redis_server() -> Redis:
    server = running("redis", Redis)
    assert isinstance(server, Redis)
    return server


def redis_cluster() -> Redis:
    server = running("redis cluster", lambda: Redis(cluster=True))
    assert isinstance(server, Redis)
    return server
