"""Classes that go by the name of another, so that whoever looks at the class or its source sees the other's.

Optimizers paste the source of a program's class into prompts and compare class names; stream listeners look adapters
up by the name of their class.
"""

from __future__ import annotations

from typing import Any


def identity(base: type) -> dict[str, Any]:
    """The class attributes by which Python tells what a class is called and where its source stands."""
    names = ("__module__", "__qualname__", "__doc__", "__firstlineno__")
    return {
        name: vars(base)[name] if name in vars(base) else getattr(base, name)
        for name in names
        if hasattr(base, name)
    }
