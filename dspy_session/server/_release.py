"""Which release of this library serves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed release; `unknown` where the library runs without having been installed."""
    try:
        return version("dspy-session")
    except PackageNotFoundError:
        return "unknown"
