"""The dashboard's files: read once, served from memory, by their exact names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A file of the dashboard."""

    body: bytes
    kind: str
    etag: str


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """The files by name, as `app.js`."""
    folder = resources.files("dspy_session.server").joinpath("dashboard")
    found = {}
    for file in folder.iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found
