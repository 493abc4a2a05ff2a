"""Who is let in, and what every answer tells the browser: token, cookie, host names, headers.

The server is for one user. A page of another origin can neither read an answer (no CORS headers are sent)
nor reach the server under a name of its own (`Host` is checked, against DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections.abc import Iterable, Mapping

from dspy_session.errors import ConfigurationError

COOKIE = "dspy_session_dashboard"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Sent with every answer. Scripts and styles come from this server alone, and none stand in the page itself."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_binding(host: str, token: str | None) -> None:
    """Refuse to listen where others could read along.

    Raises:
        ConfigurationError: the host is not this machine's own and there is no token, or the token cannot be
            sent in a header.
    """
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigurationError("a token must be one word of printable ASCII characters")
    if token is None and not is_loopback(host):
        raise ConfigurationError(
            f"{host!r} can be reached from other machines: give a token, or serve on 127.0.0.1"
        )


def host_name(header: str) -> str | None:
    """The name in a `Host` header, without port and brackets; None if it is no such header."""
    name, bracket, rest = header.lower().partition("]")
    if bracket:
        return name[1:] if name.startswith("[") and (not rest or _is_port(rest)) else None
    name, colon, port = header.lower().partition(":")
    return name.rstrip(".") if name and (not colon or port.isdecimal()) else None


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isdecimal()


class Hosts:
    """The names under which the server answers.

    Args:
        names: host names and addresses.
        any_address: every address of numbers, too. Such a name cannot be rebound; it is for servers that
            listen on all of a machine's addresses.
    """

    def __init__(self, names: Iterable[str] = LOOPBACK_NAMES, *, any_address: bool = False) -> None:
        self._names = {name.lower().strip("[]") for name in names}
        self._any_address = any_address

    def allows(self, header: str) -> bool:
        """Whether a `Host` header names this server."""
        name = host_name(header)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address


class Gate:
    """Lets in who knows the token; everybody, where there is none.

    A program sends the token as `Authorization: Bearer …`. A browser sends a cookie, which it gets for the
    token (`/login`) or for a link that works once. The cookie is made from the token and does not show it.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._links: set[str] = set()
        self._guard = threading.Lock()

    @property
    def open(self) -> bool:
        """No token is asked for."""
        return self._token is None

    def accepts(self, authorization: str | None, cookies: str | None) -> bool:
        """Whether a request with these headers may be answered."""
        if self._token is None:
            return True
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            return scheme.lower() == "bearer" and self.knows(token.strip())
        return _same(_cookie(self.cookie_name, cookies), self.cookie)

    def knows(self, token: str) -> bool:
        """Whether this is the token; how long the comparison takes does not tell how much of it is right."""
        return self._token is not None and _same(token, self._token)

    @property
    def cookie(self) -> str:
        """The value of the browser's cookie."""
        return self._derived(b"dspy-session dashboard")

    @property
    def cookie_name(self) -> str:
        """Its name: one for each token, as a browser sends a host's cookies to all of its ports."""
        return f"{COOKIE}_{self._derived(b'name of the cookie')[:8]}"

    def _derived(self, use: bytes) -> str:
        return hmac.new((self._token or "").encode(), use, hashlib.sha256).hexdigest()

    def set_cookie(self) -> str:
        """The header's value that gives a browser its cookie."""
        return f"{self.cookie_name}={self.cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"

    def new_link(self) -> str:
        """A code that opens the dashboard once."""
        code = secrets.token_urlsafe(32)
        with self._guard:
            self._links.add(code)
        return code

    def use_link(self, code: str) -> bool:
        """Whether a code was given out and not used yet; afterwards it is used."""
        with self._guard:
            known = next((each for each in self._links if _same(each, code)), None)
            self._links.discard(known or "")
        return known is not None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _cookie(wanted: str, header: str | None) -> str:
    # The cookies of other programs on this host may be of any form, and a strict parser would lose ours behind
    # one that it cannot read.
    for each in (header or "").split(";"):
        name, _, value = each.partition("=")
        if name.strip() == wanted:
            return value.strip().strip('"')
    return ""
