"""Stores by their address; a backend's module is imported when it is asked for."""

from __future__ import annotations

from urllib.parse import parse_qsl

from ..errors import ConfigurationError
from .base import Store


def open_store(url: str) -> Store:
    """The store at an address.

    - `memory://`: a new one in this process' memory;
    - `sqlite:///chat.db` (a path relative to the working folder) or `sqlite:////var/lib/chat.db` (an absolute
      one), with `?synchronous=normal` and `&timeout=5` as options;
    - `postgresql://user:password@host:5432/database`, with the options of libpq, and `schema`, `pool_size`
      and `timeout` of `PostgresStore`;
    - `redis://host:6379/0`, `rediss://…` (TLS) or `unix:///path/redis.sock`, with the options of redis-py,
      and `prefix` of `RedisStore`; a cluster is recognised by itself.

    Raises `ConfigurationError` for any other address, `MissingExtraError`, and what the backend raises when
    it cannot be opened.
    """
    if not isinstance(url, str) or "://" not in url:
        # What is nearly an address may hold a password.
        given = "what was given" if "@" in str(url) else repr(url)
        raise ConfigurationError(
            f"{given} is no address of a store: memory://, sqlite:///path, postgresql://…, redis://…"
        )
    scheme = url.partition("://")[0].lower()
    if scheme == "memory":
        from .in_memory import InMemoryStore

        return InMemoryStore()
    if scheme == "sqlite":
        return _open_sqlite(url)
    if scheme in ("postgresql", "postgres"):
        from .postgres import PostgresStore

        return PostgresStore(url)
    if scheme in ("redis", "rediss", "unix"):
        from .redis import RedisStore

        return RedisStore(url)
    raise ConfigurationError(
        f"there is no store for {scheme}://; there are memory, sqlite, postgresql, redis, rediss and unix"
    )


def _open_sqlite(url: str) -> Store:
    from .sqlite import SQLiteStore

    rest, _, query = url.partition("://")[2].partition("?")
    if not rest.startswith("/") or rest == "/":
        raise ConfigurationError("an SQLite address is sqlite:///relative.db or sqlite:////absolute.db")
    options = dict(parse_qsl(query, keep_blank_values=True))
    timeout = options.pop("timeout", "30")
    synchronous = options.pop("synchronous", "full")
    if options:
        raise ConfigurationError(f"unknown options of an SQLite store: {', '.join(sorted(options))}")
    try:
        seconds = float(timeout)
    except ValueError:
        raise ConfigurationError(f"timeout must be a number of seconds, not {timeout!r}") from None
    if synchronous not in ("full", "normal"):
        raise ConfigurationError(f'synchronous must be "full" or "normal", not {synchronous!r}')
    return SQLiteStore(rest[1:], synchronous="normal" if synchronous == "normal" else "full", timeout=seconds)
