"""The web application and the server that runs it: the one module that knows Starlette and uvicorn."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import anyio

from dspy_session.errors import AddressError, ConfigurationError, MissingExtraError
from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.analytics.choices import state
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.history import History
from dspy_session.server._answering import Reply, Service, caching, etag_of, failure
from dspy_session.server._assets import assets
from dspy_session.server._description import describe
from dspy_session.server._guards import HEADERS, LOOPBACK_NAMES, Gate, Hosts, check_binding
from dspy_session.server._live import PATIENCE, Live, Progress, Sync
from dspy_session.server._pages import OPENED, login_page
from dspy_session.server._questions import no_report
from dspy_session.server._routes import Route, routes, status_route

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.datastructures import Headers
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
    from starlette.routing import Route as WebRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as missing:
    raise MissingExtraError(str(missing.name).partition(".")[0], "server") from None

PORT = 19876
THREADS = 4
"""Questions that are put to the warehouse at once; the others wait."""
INTERVAL = 2.0
LOGIN_BYTES = 4096
"""What is read of a token that somebody types in."""

Origin: TypeAlias = "Warehouse | History | str | os.PathLike[str] | None"


def create_app(
    warehouse: Tables,
    *,
    sync: Sync | None = None,
    interval: float = INTERVAL,
    token: str | None = None,
    compatible: bool = False,
    redact: bool = True,
    hosts: Iterable[str] = LOOPBACK_NAMES,
    any_address: bool = False,
) -> Starlette:
    """The API and the dashboard as an ASGI application.

    Args:
        warehouse: what is asked: a `Warehouse`.
        sync: brings the warehouse up to date; it is handed a function to tell how far it is. None if the
            warehouse is kept up to date elsewhere, or not at all.
        interval: seconds between two syncs, at least; nothing is synced while nobody asks.
        token: must be sent with every request; None for servers that only this machine can reach.
        compatible: an unknown session gets zeros and status 200, as the monitor that these routes come from
            has it, instead of 404.
        redact: keys, tokens and passwords in answers are replaced.
        hosts: the names by which requests may call this server, against DNS rebinding.
        any_address: requests may call it by any IP address, too.
    """
    gate, live = Gate(token), Live(sync, interval, partial(state, warehouse))
    declared = (*routes(), status_route(live.status))
    api = _Api(Service(warehouse, compatible, redact), live)
    description = describe(declared, token=not gate.open, compatible=compatible)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with live.kept_running():
            yield

    async def openapi(_: Request) -> Response:
        return JSONResponse(description)

    app = Starlette(
        routes=[
            *(WebRoute(route.path, api.endpoint(route)) for route in declared),
            WebRoute("/api/reports/{name}", _unknown_report),
            WebRoute("/openapi.json", openapi),
            WebRoute("/", _asset),
            WebRoute("/static/{name}", _asset),
            *_login_routes(gate),
        ],
        middleware=[Middleware(_Guard, gate=gate, hosts=Hosts(hosts, any_address=any_address))],
        exception_handlers={HTTPException: _refused, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.gate, app.state.live = gate, live
    return app


# -- the API --


class _Api:
    """Answers in threads, as the warehouse blocks."""

    def __init__(self, service: Service, live: Live) -> None:
        self._service = service
        self._live = live
        self._threads: anyio.CapacityLimiter | None = None

    def endpoint(self, route: Route) -> Callable[[Request], Any]:
        """What answers the requests of a route."""

        async def answer(request: Request) -> Response:
            if route.sync != "none":
                await self._live.freshen(PATIENCE if route.sync == "await" else 0)
            revision = self._live.revision if route.sync == "await" else None
            etag = None if revision is None else etag_of(revision, request.url.path, request.url.query)
            if etag is not None and etag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=caching(etag))
            return _sent(await self._asked(route, request, revision), etag)

        return answer

    async def _asked(self, route: Route, request: Request, revision: str | None) -> Reply:
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(THREADS)
        pairs = request.query_params.multi_items()
        session = request.path_params.get("session_id", "")
        ask = self._service.reply
        return await anyio.to_thread.run_sync(ask, route, pairs, session, revision, limiter=self._threads)


def _sent(reply: Reply, etag: str | None = None, headers: Any = None) -> Response:
    kept = caching(etag if reply.status == 200 else None)
    return Response(reply.body, reply.status, {**kept, **(headers or {})}, "application/json")


async def _unknown_report(request: Request) -> Response:
    return _sent(failure(404, str(no_report(request.path_params["name"]).args[0])))


async def _refused(request: Request, error: Exception) -> Response:
    """Answers for paths and methods that there are not."""
    assert isinstance(error, HTTPException)
    told = {
        404: "there is nothing at this path; /openapi.json lists what there is",
        405: f"this path does not answer {request.method[:20]}",
    }
    return _sent(failure(error.status_code, told.get(error.status_code, error.detail)), headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return _sent(failure(500, "the server failed to answer; its log says how"), headers=HEADERS)


# -- the dashboard --


async def _asset(request: Request) -> Response:
    found = assets().get(request.path_params.get("name", "index.html"))
    if found is None:
        raise HTTPException(404)
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=caching(found.etag))
    return Response(found.body, headers=caching(found.etag), media_type=found.kind)


def _login_routes(gate: Gate) -> list[WebRoute]:
    async def login(request: Request) -> Response:
        if gate.open:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return HTMLResponse(login_page(), headers=caching(None))
        origin = request.headers.get("origin")
        if origin not in (None, "null") and urlsplit(origin).netloc != request.headers.get("host"):
            return _sent(failure(403, "this form is of another site"))
        if not gate.knows(await _typed_token(request)):
            return HTMLResponse(login_page(wrong=True), 401, caching(None))
        return RedirectResponse("/", 303, {"Set-Cookie": gate.set_cookie()})

    async def link(request: Request) -> Response:
        if request.method != "GET" or not gate.use_link(request.path_params["code"]):
            return HTMLResponse(login_page(used=True), 401, caching(None))
        return HTMLResponse(OPENED, headers={"Set-Cookie": gate.set_cookie(), **caching(None)})

    return [WebRoute("/login", login, methods=["GET", "POST"]), WebRoute("/login/{code}", link)]


async def _typed_token(request: Request) -> str:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LOGIN_BYTES:
                raise HTTPException(413, "a token is not that long")
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before its form did") from None
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()


class _Guard:
    """Stands before everything: host names, token, and the headers of every answer."""

    def __init__(self, app: ASGIApp, gate: Gate, hosts: Hosts) -> None:
        self._app, self._gate, self._hosts = app, gate, hosts
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        self._open_paths = {route.path for route in routes() if route.open} | {"/login"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        # Inside another application the path begins with where this one stands, which must open nothing.
        headers, path = Headers(scope=scope), scope["path"].removeprefix(scope.get("root_path", ""))
        if not self._hosts.allows(headers.get("host", "")):
            return _sent(failure(421, "this server does not go by the name in the Host header"))
        if path in self._open_paths or path.startswith(("/static/", "/login/")):
            return None
        if self._gate.accepts(headers.get("authorization"), headers.get("cookie")):
            return None
        if path == "/":
            return RedirectResponse("/login", 303)
        challenge = {"WWW-Authenticate": 'Bearer realm="dspy-session"'}
        return _sent(
            failure(401, "the token is missing or wrong: Authorization: Bearer …"), headers=challenge
        )


# -- the server --


def _say(line: str) -> None:
    # Who waits for the address at the other end of a pipe waits no longer than needed.
    print(line, flush=True)


def serve(
    warehouse: Origin = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    interval: float = INTERVAL,
    compatible: bool = False,
    *,
    source: Origin = None,
    redact: bool = True,
    hosts: Iterable[str] = (),
    announce: Callable[[str], None] = _say,
) -> None:
    """Serve the API and the dashboard until Ctrl-C.

    Args:
        warehouse: a `Warehouse`; or a history of OpenCode (a `History`, or a path as `open_source` takes it;
            None for where OpenCode keeps its own), which is read into one in memory.
        host: the address to listen at. Whatever is not this machine's own needs a token.
        port: 0 takes a free one.
        token: what clients must send as `Authorization: Bearer …`. For the browser, a link that works once is
            announced, and `/login` asks for the token.
        interval: seconds between two syncs, at least. Nothing is synced while nobody asks; with 0, never.
        compatible: an unknown session gets zeros and status 200 instead of 404.
        source: what a `Warehouse` is synced from; None for where OpenCode keeps its history.
        redact: keys, tokens and passwords in answers are replaced.
        hosts: further names by which requests may call this server, as that of a proxy before it.
        announce: is told where the dashboard is.

    Raises:
        ConfigurationError: the host is not this machine's own and there is no token, or a value is wrong.
        AddressError: the port is taken, or the host is not to be had.
    """
    options = {"compatible": compatible, "redact": redact, "hosts": tuple(hosts)}
    with _prepared(warehouse, source, host, port, token, interval, options) as (server, listener, url, gate):
        announce(
            f"OpenCode's history: {url if gate.open else f'{url}login/{gate.new_link()}'}  (Ctrl-C ends)"
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


@contextlib.contextmanager
def running(
    warehouse: Origin = None,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    interval: float = INTERVAL,
    compatible: bool = False,
    *,
    source: Origin = None,
    redact: bool = True,
    hosts: Iterable[str] = (),
) -> Iterator[str]:
    """Serve in a thread as long as the block lasts, as in a notebook; gives the dashboard's address.

    The parameters and errors are those of `serve`.
    """
    options = {"compatible": compatible, "redact": redact, "hosts": tuple(hosts)}
    with _prepared(warehouse, source, host, port, token, interval, options) as (server, listener, url, _):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def _prepared(
    warehouse: Origin,
    source: Origin,
    host: str,
    port: int,
    token: str | None,
    interval: float,
    options: dict[str, Any],
) -> Iterator[tuple[uvicorn.Server, socket.socket, str, Gate]]:
    check_binding(host, token)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        if isinstance(warehouse, Warehouse):
            tables, origin = warehouse, source
        else:
            tables, origin = stack.enter_context(contextlib.closing(Warehouse())), warehouse
        bound, port = listener.getsockname()[:2]
        wildcard = ipaddress.ip_address(bound.partition("%")[0]).is_unspecified
        app = create_app(
            tables,
            sync=None if interval <= 0 else _syncing(tables, origin),
            interval=interval,
            token=token,
            **{**options, "hosts": (*LOOPBACK_NAMES, host, *options["hosts"])},
            any_address=wildcard,
        )
        settings = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            ws="none",
        )
        own = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
        shown = own if wildcard else host.strip("[]")
        url = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
        yield uvicorn.Server(settings), listener, url, app.state.gate


def _syncing(warehouse: Warehouse, origin: Any) -> Sync:
    def sync(progress: Progress) -> Any:
        return warehouse.sync(origin, progress=progress)

    return sync


def _listener(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"a port is a number from 0 to 65535, not {port}")
    bare = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        # A name that cannot be looked up fails here, before there is a socket to be left open.
        socket.getaddrinfo(bare or None, port, family, socket.SOCK_STREAM)
        listener = socket.create_server((bare, port), family=family)
        # Connections inherit it. asyncio would not set it on those of a socket that is handed to it, and each
        # answer would wait for the client's acknowledgement of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, TypeError, ValueError) as error:
        # A name that cannot be one is a TypeError, a ValueError or a UnicodeError.
        reason = getattr(error, "strerror", None) or error
        raise AddressError(
            f"cannot listen on port {port} of {host!r} ({reason}): end the program that does, "
            "or choose another port; 0 takes a free one"
        ) from None
