"""Who is let in: tokens, cookies, links that work once, and the names that a server goes by."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from dspy_session.errors import ConfigurationError
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import create_app, running, serve

TOKEN = "a-token-of-some-length"
GUARDED = [
    "/api/sessions",
    "/api/status",
    "/openapi.json",
    "/api/session/x/steps",
    "/api/reports/tools",
    "/x",
]


@pytest.fixture(scope="module")
def locked(recorded: Warehouse) -> Iterator[str]:
    """The address of a server that asks for a token."""
    with running(recorded, interval=0, token=TOKEN) as url:
        yield url


def visitor(url: str) -> httpx.Client:
    """A browser that follows no link by itself."""
    return httpx.Client(base_url=url)


@pytest.mark.parametrize("path", GUARDED)
def test_nothing_is_answered_without_the_token(locked: str, path: str) -> None:
    with visitor(locked) as client:
        wrong = [
            None,
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Basic {TOKEN}",
            TOKEN,
            "Bearer é",
        ]
        for authorization in wrong:
            headers = {} if authorization is None else {"Authorization": authorization.encode()}
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401, authorization
            assert answer.json()["success"] is False
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code in (200, 404)


@pytest.mark.parametrize("place", ["/static", "/login", "/history"])
def test_an_application_inside_another_is_guarded_at_any_place(recorded: Warehouse, place: str) -> None:
    outer = Starlette(routes=[Mount(place, create_app(recorded, token=TOKEN))])
    with TestClient(outer, base_url="http://localhost") as client:
        assert client.get(f"{place}/api/sessions").status_code == 401
        assert client.get(f"{place}/openapi.json").status_code == 401
        assert client.get(f"{place}/api/health").status_code == 200
        assert client.get(f"{place}/static/app.js").status_code == 200


def test_health_is_told_to_anybody(locked: str) -> None:
    assert httpx.get(f"{locked}api/health").json()["data"]["status"] == "ok"


def test_a_browser_gets_a_cookie_for_the_token(locked: str) -> None:
    with visitor(locked) as client:
        assert (client.get("/").status_code, client.get("/").headers["location"]) == (303, "/login")
        assert client.get("/static/styles.css").status_code == 200
        assert "Token" in client.get("/login").text
        refused = client.post("/login", data={"token": "wrong"})
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        opened = client.post("/login", data={"token": TOKEN})
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(opened.headers["set-cookie"].split("; "))
        assert TOKEN not in opened.headers["set-cookie"]
        assert client.get("/").status_code == 200
        assert client.get("/api/sessions").status_code == 200
        # Who sends a token is judged by it.
        assert client.get("/api/sessions", headers={"Authorization": "Bearer wrong"}).status_code == 401


def cookie_of(url: str) -> str:
    """The name and value that a browser gets for the token."""
    with visitor(url) as client:
        cookie: str = client.post("/login", data={"token": TOKEN}).headers["set-cookie"]
    return cookie.partition(";")[0]


def test_a_forged_cookie_is_none(locked: str) -> None:
    name = cookie_of(locked).partition("=")[0]
    for value in ("", TOKEN, "0" * 64, '"', "\\"):
        cookie = f"{name}={value}; other=1"
        assert httpx.get(f"{locked}api/sessions", headers={"Cookie": cookie}).status_code == 401


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "a[b]=1", "alone", "Path=/", 'é="', "$x=;"])
def test_cookies_of_other_programs_on_this_machine_hide_nobodys(locked: str, other: str) -> None:
    mine = cookie_of(locked)
    for cookies in (f"{other}; {mine}", f"{mine}; {other}"):
        headers = {"Cookie": cookies.encode()}
        assert httpx.get(f"{locked}api/sessions", headers=headers).status_code == 200


def test_dashboards_of_one_machine_keep_their_browser(recorded: Warehouse, locked: str) -> None:
    """A browser sends the cookies of a host to all of its ports, and keeps one of each name."""
    mine = cookie_of(locked)
    with running(recorded, interval=0, token="another") as url, visitor(url) as client:
        other = client.post("/login", data={"token": "another"}).headers["set-cookie"].partition(";")[0]
    assert other.partition("=")[0] != mine.partition("=")[0]
    headers = {"Cookie": f"{other}; {mine}"}
    assert httpx.get(f"{locked}api/sessions", headers=headers).status_code == 200


def test_who_hangs_up_while_logging_in_is_let_go(recorded: Warehouse) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/login", "root_path": "", "scheme": "http"}
    app = create_app(recorded, interval=0, token=TOKEN)
    anyio.run(app, {**scope, "query_string": b"", "headers": headers}, gone, send)
    assert sent[0]["status"] == 400


def test_other_sites_cannot_log_anybody_in(locked: str) -> None:
    answer = httpx.post(f"{locked}login", data={"token": TOKEN}, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_what_is_typed_is_not_read_without_end(locked: str) -> None:
    assert httpx.post(f"{locked}login", data={"token": "x" * 100_000}).status_code == 413


def test_a_link_is_announced_that_does_not_hold_the_token(recorded: Warehouse) -> None:
    told: list[str] = []

    def visit(line: str) -> None:
        told.append(line)
        raise KeyboardInterrupt  # It is Ctrl-C before the first request.

    with pytest.raises(KeyboardInterrupt):
        serve(recorded, port=0, token=TOKEN, interval=0, announce=visit)
    assert re.search(r"http://127\.0\.0\.1:\d+/login/[\w-]{40,}", told[0])
    assert TOKEN not in told[0]


def test_the_link_gives_the_cookie_to_its_first_visitor(recorded: Warehouse) -> None:
    from dspy_session.server.app import create_app

    app = create_app(recorded, token=TOKEN)
    code = app.state.gate.new_link()
    transport = httpx.ASGITransport(app)

    async def visits() -> None:
        for opens in (True, False):
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                # Programs that look ahead do not use it up.
                assert (await client.head(f"/login/{code}")).status_code == 401
                assert (await client.get("/login/wrong")).status_code == 401
                assert (await client.get(f"/login/{code}")).status_code == (200 if opens else 401)
                assert (await client.get("/api/sessions")).status_code == (200 if opens else 401)

    import anyio

    anyio.run(visits)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.evil.example", ""]
)
def test_a_server_that_others_can_reach_needs_a_token(recorded: Warehouse, host: str) -> None:
    with pytest.raises(ConfigurationError, match="give a token"):
        serve(recorded, host=host, port=0)


@pytest.mark.parametrize("token", ["", "two words", "schlüssel", "line\n"])
def test_a_token_is_one_word(recorded: Warehouse, token: str) -> None:
    with pytest.raises(ConfigurationError, match="one word"):
        serve(recorded, port=0, token=token)


HOSTS = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "[::2]",
    "",
    "[",
    "a]b",
    "]",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_that_was_bound_to_this_machine_does_not_open_it(address: str, host: str) -> None:
    answer = httpx.get(f"{address}api/sessions", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert "sessions" not in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]", "[::1]:8080", "localhost."]
)
def test_this_machine_has_several_names(address: str, host: str) -> None:
    assert httpx.get(f"{address}api/health", headers={"Host": host}).status_code == 200


def test_a_server_on_all_addresses_goes_by_any_number_but_by_no_name(recorded: Warehouse) -> None:
    with running(recorded, "0.0.0.0", interval=0, token=TOKEN, hosts=["box.example"]) as url:
        allowed = {
            host: httpx.get(f"{url}api/health", headers={"Host": host}).status_code
            for host in ("192.168.1.5:80", "[fe80::1]", "box.example", "evil.example")
        }
    assert allowed == {"192.168.1.5:80": 200, "[fe80::1]": 200, "box.example": 200, "evil.example": 421}


@given(st.text(max_size=60))
def test_any_host_header_is_judged(header: str) -> None:
    from dspy_session.server._guards import Hosts, host_name

    name = host_name(header)
    assert Hosts().allows(header) == (name in ("localhost", "127.0.0.1", "::1"))
