"""The arguments that several commands share, and the warehouse that they ask."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from dspy_session.errors import ConfigurationError
from dspy_session.opencode.analytics.filters import Filter
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.commands.terminal import counting

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    told: str,
    *,
    since: bool = True,
) -> argparse.ArgumentParser:
    """A subcommand that reads OpenCode's history."""
    parser = commands.add_parser(name, help=told, description=told[0].upper() + told[1:] + ".")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="database, data folder, exports or logs (default: where OpenCode keeps them)",
    )
    if since:
        parser.add_argument(
            "--since", metavar="DATE", help="only what was touched or begun since, as 2026-10-01"
        )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def add_warehouse(parser: argparse.ArgumentParser, *, sync: bool = True, kept: bool = False) -> None:
    """The arguments that name a warehouse.

    Args:
        sync: the command can do without a sync.
        kept: also what comes from a source that was named goes into the default warehouse.
    """
    place = shown(default_warehouse())
    default = place if kept else f"{place}; in memory with --source"
    parser.add_argument(
        "--warehouse", metavar="FILE", help=f"what was synced is kept there (default: {default})"
    )
    if sync:
        parser.add_argument("--no-sync", action="store_true", help="ask what was synced before")


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The arguments that choose a part of the history."""
    parser.add_argument("--project", metavar="NAME", help="a folder, a project's name or its id")
    parser.add_argument("--until", metavar="DATE", help="only turns that began before, as 2026-11-01")
    parser.add_argument("--model", metavar="MODEL", help="provider/model, or the model's id alone")
    parser.add_argument("--agent", metavar="AGENT", help="as build")


def filter_of(arguments: argparse.Namespace, session: str | None = None) -> Filter:
    """The filter that was asked for."""
    return Filter(
        project=arguments.project,
        since=arguments.since,
        until=arguments.until,
        model=arguments.model,
        agent=arguments.agent,
        session=session,
    )


def default_warehouse() -> Path:
    """`$XDG_DATA_HOME/dspy-session/opencode.duckdb`, or below `~/.local/share`."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "dspy-session" / "opencode.duckdb"


def shown(path: Path) -> str:
    """A path as it is told: with `~` for the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def place_of(arguments: argparse.Namespace) -> Path | None:
    """The warehouse's file; None for one in memory."""
    if arguments.warehouse is not None:
        return Path(arguments.warehouse).expanduser()
    return None if arguments.source is not None else default_warehouse()


@contextmanager
def warehouse_of(arguments: argparse.Namespace) -> Iterator[Warehouse]:
    """The warehouse that was asked for, in step with its source unless that is not wanted."""
    place = place_of(arguments)
    stale = getattr(arguments, "no_sync", False)
    if stale and place is None:
        raise ConfigurationError(
            "--no-sync asks what was synced before: name the --warehouse that it is in, not a --source"
        )
    if place is not None and not stale:
        place.parent.mkdir(parents=True, exist_ok=True)
    with Warehouse(place, read_only=stale) as warehouse:
        if not stale:
            with counting("reading sessions") as progress:
                warehouse.sync(arguments.source, progress=progress)
        try:
            yield warehouse
        finally:
            if place is None:
                warehouse.close()
