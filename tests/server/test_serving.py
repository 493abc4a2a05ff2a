"""The server itself: where it listens, how it ends, and how it keeps its answers fresh."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from dspy_session.errors import AddressError, ConfigurationError, SourceFormatError
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import create_app, running, serve
from tests.server.histories import conversation, grown, written

ROOT = Path(__file__).parents[2]
IMPORT = "import sys\nfrom dspy_session.opencode.analytics.warehouse import Warehouse\n"


def test_a_taken_port_is_told(recorded: Warehouse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressError, match=rf"port {port} .*choose another port"):
            serve(recorded, port=port)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_is_a_number_within_bounds(recorded: Warehouse, port: int) -> None:
    with pytest.raises(ConfigurationError, match="0 to 65535"):
        serve(recorded, port=port)


def test_an_address_of_another_machine_is_told(recorded: Warehouse) -> None:
    with pytest.raises(AddressError, match=r"192\.0\.2\.1"):
        serve(recorded, host="192.0.2.1", port=0, token="a-token")


def test_ipv6(recorded: Warehouse) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with running(recorded, "::1", interval=0) as url:
        assert httpx.get(f"{url}api/health").status_code == 200


@pytest.mark.parametrize("host", ["::", "[::]", "[::1]", "0", ""])
def test_the_address_that_is_told_can_be_opened(recorded: Warehouse, host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with running(recorded, host, interval=0, token="a-token") as url:
        assert httpx.get(f"{url}api/health").status_code == 200


@pytest.mark.parametrize("host", ["a\0b", "ä" * 70])
def test_what_is_no_address_is_told(recorded: Warehouse, host: str) -> None:
    with pytest.raises(AddressError, match="cannot listen"):
        serve(recorded, host=host, port=0, token="a-token")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(tmp_path: Path, sent: signal.Signals) -> None:
    path = written(tmp_path, conversation(1))
    code = "import sys; from dspy_session.server import serve; serve(sys.argv[1], port=0); print('ended')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        with httpx.Client(base_url=url) as client:  # Its connection is open when the signal comes.
            assert client.get("/api/sessions").json()["data"]["meta"]["count"] == 1
            process.send_signal(sent)
            out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err
    if sent == signal.SIGINT:
        assert (process.returncode, out) == (0, "ended\n")
    assert path.exists()


# -- fresh answers --


def titles(client: httpx.Client) -> list[str]:
    return sorted(row["title"] for row in client.get("/api/sessions").json()["data"]["sessions"])


def test_what_opencode_adds_is_seen_by_the_requests_that_follow(tmp_path: Path) -> None:
    path = written(tmp_path, conversation(1))
    with running(path, interval=1e-6) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert titles(client) == ["Session 1"]
        before = client.get("/api/status").json()["data"]["revision"]
        grown(path, conversation(2), conversation(3, parent="ses_0001"))
        # A request waits for a sync, but not for ever: on a busy machine a later one is the first to see it.
        seen = next(found for _ in range(100) if len(found := titles(client)) == 3)
        assert seen == ["Session 1", "Session 2", "Session 3"]
        status = client.get("/api/status").json()["data"]
        assert status["revision"] != before
        assert status["error"] is None
        assert "sessions" in status["report"]


def test_a_warehouse_is_synced_from_the_source_that_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, conversation(1))
    with Warehouse(tmp_path / "kept.duckdb") as warehouse:
        with running(warehouse, source=path) as url:
            assert httpx.get(f"{url}api/sessions").json()["data"]["meta"]["count"] == 1
        assert warehouse.query("SELECT count(*) AS n FROM sessions") == [{"n": 1}]


def test_what_another_program_syncs_is_seen_too(tmp_path: Path) -> None:
    path, kept = written(tmp_path, conversation(1)), tmp_path / "kept.duckdb"
    with running(Warehouse(kept), source=path, interval=1e-6) as url, httpx.Client(base_url=url) as client:
        first = client.get("/api/sessions")
        grown(path, conversation(2))
        code = f"{IMPORT}Warehouse(sys.argv[1]).sync(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, str(kept), str(path)], cwd=ROOT, check=True)
        again = client.get("/api/sessions", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.json()["data"]["meta"]["count"]) == (200, 2)


def test_a_session_that_another_program_has_just_synced_is_told(tmp_path: Path) -> None:
    path, kept = written(tmp_path, conversation(1)), tmp_path / "kept.duckdb"
    with running(Warehouse(kept), source=path, interval=3600) as url, httpx.Client(base_url=url) as client:
        assert client.get("/api/session/ses_0001").status_code == 200
        grown(path, conversation(2))
        code = f"{IMPORT}Warehouse(sys.argv[1]).sync(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, str(kept), str(path)], cwd=ROOT, check=True)
        assert client.get("/api/session/ses_0002").status_code == 200


def test_a_file_that_another_program_holds_is_told(tmp_path: Path) -> None:
    kept = tmp_path / "kept.duckdb"
    warehouse = Warehouse(kept, wait=0)
    code = f"{IMPORT}with Warehouse(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(kept)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with running(warehouse, interval=0) as url:
        busy = httpx.get(f"{url}api/sessions")
        holder.communicate()
        free = httpx.get(f"{url}api/sessions")
    assert (busy.status_code, "another process" in busy.json()["error"]) == (503, True)
    assert free.status_code == 200


def test_without_an_interval_nothing_is_synced(tmp_path: Path) -> None:
    with running(written(tmp_path, conversation(1)), interval=0) as url:
        assert httpx.get(f"{url}api/sessions").json()["data"]["meta"]["count"] == 0
        assert httpx.get(f"{url}api/status").json()["data"]["live"] is False


def asked_of(app: Any, ask: Callable[[httpx.AsyncClient], Any]) -> None:
    """Run a client against an application whose lifespan has begun."""

    async def run() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                await ask(client)

    anyio.run(run)


def test_a_sync_that_fails_is_told_and_survived(recorded: Warehouse) -> None:
    failures: list[Exception | None] = [
        SourceFormatError("the database is damaged"),
        RuntimeError("/secret"),
        None,
    ]

    def sync(progress: Callable[[int, int], None]) -> None:
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure

    async def ask(client: httpx.AsyncClient) -> None:
        told = []
        for _ in range(3):
            assert (await client.get("/api/sessions")).status_code == 200
            told.append((await client.get("/api/health")).status_code)
            told.append(app.state.live.status()["error"])
        assert told == [200, "the database is damaged", 200, "the sync failed: RuntimeError", 200, None]

    app = create_app(recorded, sync=sync, interval=0)
    asked_of(app, ask)


def test_two_syncs_never_run_at_once(recorded: Warehouse) -> None:
    running_now, most, runs = 0, 0, 0
    guard = threading.Lock()

    def sync(progress: Callable[[int, int], None]) -> None:
        nonlocal running_now, most, runs
        with guard:
            running_now, runs = running_now + 1, runs + 1
            most = max(most, running_now)
        progress(1, 2)
        with guard:
            running_now -= 1

    async def ask(client: httpx.AsyncClient) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(client.get, "/api/sessions?limit=1")

    asked_of(create_app(recorded, sync=sync, interval=0), ask)
    assert (most, runs > 0) == (1, True)


def test_a_long_sync_holds_nobody_up_and_ends_with_the_server(recorded: Warehouse) -> None:
    entered, released, stopped = threading.Event(), threading.Event(), threading.Event()

    def sync(progress: Callable[[int, int], None]) -> None:
        progress(3, 10)
        entered.set()
        released.wait()
        try:
            progress(4, 10)
        except Exception:
            stopped.set()
            raise

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/sessions")
        assert answer.status_code == 200
        assert entered.is_set()
        assert "etag" not in answer.headers
        status = (await client.get("/api/status")).json()["data"]
        assert (status["syncing"], status["progress"]) == (True, {"done": 3, "total": 10})

    async def then_release(client: httpx.AsyncClient) -> None:
        await ask(client)
        threading.Timer(0.2, released.set).start()

    asked_of(create_app(recorded, sync=sync), then_release)
    assert stopped.is_set()


def test_an_application_inside_another_syncs_while_it_answers(recorded: Warehouse) -> None:
    synced = []

    async def run() -> None:
        app = create_app(recorded, sync=lambda progress: synced.append(1))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        ) as client:
            assert (await client.get("/api/sessions")).status_code == 200

    anyio.run(run)
    assert synced == [1]
