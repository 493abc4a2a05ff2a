"""The Redis server or cluster of a store: its address and its errors, its scripts, and how it is set to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import (
    ConfigurationError,
    DspySessionError,
    FormatError,
    MissingExtraError,
    StoreUnavailableError,
    UnsupportedVersionError,
)

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.retry import Retry
except ImportError as missing:
    raise MissingExtraError("redis", "redis") from missing

SCHEMA_VERSION = 1


class RedisServer:
    """A connection, checked to lead to a store of conversations.

    Args:
        url: the address, as redis-py reads it; `prefix` may be given as its option.
        prefix: what every key of the store begins with.
        timeout: seconds.

    Attributes:
        client: redis-py's; use it inside of `errors()`.
        prefix: as the address or the argument gave it.
    """

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.prefix = options.pop("prefix", prefix)
        if not self.prefix or set(self.prefix) & set("{}"):
            raise ConfigurationError(f"prefix must be text without braces, not {self.prefix!r}")
        self._place = f"Redis at {parts.hostname or parts.path}:{parts.port or 6379}"
        self._scripts: dict[str, Any] = {}
        with self.errors():
            self.client = _connect(urlunsplit(parts._replace(query=urlencode(options))), timeout)
            self._check_schema()

    def close(self) -> None:
        self.client.close()

    def _check_schema(self) -> None:
        key = f"{self.prefix}:schema"
        self.client.set(key, SCHEMA_VERSION, nx=True)
        raw = self.client.get(key)
        if raw is None or not raw.isdigit():
            raise FormatError(f"the key {key!r} in {self._place} is not of a store of conversations")
        version = int(raw)
        if version > SCHEMA_VERSION:
            raise UnsupportedVersionError(
                f"{self.prefix!r} in {self._place} has schema version {version};"
                f" this release reads up to {SCHEMA_VERSION}: upgrade"
            )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the client raises inside becomes one of our errors."""
        try:
            yield
        except redis.exceptions.AuthenticationError as error:
            raise StoreUnavailableError(
                f"{self._place} refused the user name or password: {error}"
            ) from error
        except redis.exceptions.ResponseError as error:
            raise self._explain(error) from error
        except redis.exceptions.RedisError as error:
            raise StoreUnavailableError(
                f"{self._place}: {error}. Whether a commit that was under way is written is not known;"
                " repeating it is safe"
            ) from error

    def _explain(self, error: Exception) -> DspySessionError:
        text = str(error)
        if text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return StoreUnavailableError(f"{self._place} refused the user name, password or a right: {text}")
        if text.startswith(("OOM", "MISCONF", "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "BUSY")):
            return StoreUnavailableError(f"{self._place} cannot write now: {text}; nothing was written")
        return FormatError(f"what {self._place} holds under {self.prefix!r} is damaged or foreign: {text}")

    def run(self, name: str, family: str, *values: Any) -> list[Any]:
        """The answer of one of our scripts, run where a family of conversations is."""
        with self.errors():
            script = self._scripts.get(name)
            if script is None:
                script = self._scripts[name] = self.client.register_script(_script(name))
            return list(script(keys=[f"{self.prefix}:{{{family}}}:"], args=values))

    def attempt(self, name: str, family: str, *values: Any, again: bool) -> list[Any]:
        """`run`, once more if the connection broke and repeating is harmless (`again`)."""
        try:
            return self.run(name, family, *values)
        except StoreUnavailableError as error:
            if not again or not isinstance(error.__cause__, redis.exceptions.ConnectionError):
                raise
            return self.run(name, family, *values)

    def settings(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """How the server is set to keep what it is given, and what of that is a risk."""
        known = dict.fromkeys(("appendonly", "appendfsync", "save", "maxmemory-policy"), "unknown")
        node = self.client.get_primaries()[0] if hasattr(self.client, "get_primaries") else None
        more = {} if node is None else {"target_nodes": node}
        for name in known:
            try:
                known[name] = str(self.client.config_get(name, **more).get(name, "unknown"))
            except redis.exceptions.ResponseError:
                # Hosted servers forbid CONFIG: then the operator has to know.
                continue
        kind = "server" if node is None else "cluster"
        return {"backend": "redis", "prefix": self.prefix, "kind": kind, **known}, tuple(_risks(known))


def _risks(known: Mapping[str, str]) -> Iterator[str]:
    if known["appendonly"] == "no":
        yield "appendonly is no: a crash of the server takes every commit since its last snapshot"
    elif known["appendfsync"] != "always":
        yield f"appendfsync is {known['appendfsync']}: a power cut may take the last acknowledged commits"
    if known["maxmemory-policy"] not in ("noeviction", "unknown"):
        yield f"maxmemory-policy is {known['maxmemory-policy']}: a full server deletes conversations"


def _connect(url: str, timeout: float) -> Any:
    # A lost answer is asked for again only where repeating is harmless, which the client cannot know.
    once = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        client: Any = redis.Redis.from_url(url, **once)
    except ValueError as error:
        raise ConfigurationError(f"the Redis address cannot be read: {error}") from None
    if client.info("cluster").get("cluster_enabled"):
        client.close()
        once.pop("retry")
        client = RedisCluster.from_url(url, **once)
    return client


@cache
def _script(name: str) -> str:
    folder = files(__package__).joinpath("_redis")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("shared", name))
