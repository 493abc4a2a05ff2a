"""The backends that outlive a process, by the address of a fresh store in each."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from . import servers
from .conftest import obtain

PERSISTENT = ("sqlite", "postgresql", "redis", "redis cluster")


@contextmanager
def address(backend: str) -> Iterator[str]:
    """The address of an empty store; skips the test where the server cannot be had."""
    name = f"t{secrets.token_hex(4)}"
    if backend == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/chat.db"
    elif backend == "postgresql":
        yield f"{obtain(servers.postgres).url()}?schema={name}&pool_size=4"
    elif backend == "redis":
        yield f"{obtain(servers.redis_server).url()}?prefix={name}"
    else:
        yield f"{obtain(servers.redis_cluster).url()}?prefix={name}"
