"""`dspy-session opencode …`: what the command line offers of OpenCode's history."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from dspy_session.opencode.commands import asking, keeping, writing


def add_parsers(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], serve: Callable[..., Any] | None = None
) -> None:
    """Add `opencode` and its subcommands to the program's.

    Args:
        commands: where subcommands are added.
        serve: what `serve` calls, with the arguments of `dspy_session.server.serve`; None leaves it out.
    """
    opencode = commands.add_parser("opencode", help="read OpenCode's history")
    inner = opencode.add_subparsers(dest="opencode_command", required=True, metavar="COMMAND")
    asking.add(inner)
    writing.add(inner)
    keeping.add(inner, serve)
