"""`dspy-session opencode sync` and `serve`: keep a warehouse, and offer it to a browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.commands.arguments import (
    Commands,
    add_warehouse,
    command,
    default_warehouse,
    place_of,
    shown,
)
from dspy_session.opencode.commands.terminal import counting, print_json


def add(commands: Commands, serve: Callable[..., Any] | None) -> None:
    """Add `sync`, and `serve` if there is something to call."""
    parser = command(commands, "sync", run_sync, "bring a warehouse up to date", since=False)
    add_warehouse(parser, sync=False, kept=True)
    parser.add_argument("--parquet", metavar="FOLDER", help="then write its tables as Parquet files")
    if serve is None:
        return
    told = "serve an API and a dashboard until Ctrl-C"
    parser = command(commands, "serve", partial(run_serve, serve), told, since=False)
    add_warehouse(parser, sync=False)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=19876, help="0 takes a free one (default: 19876)")
    parser.add_argument("--token", help="what clients must send; needed for an address that others reach")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two syncs; 0: never"
    )
    parser.add_argument("--compatible", action="store_true", help="zeros, not 404, for an unknown session")
    parser.add_argument("--no-redact", action="store_true", help="leave keys and passwords in answers")


def run_sync(arguments: argparse.Namespace) -> int:
    """`dspy-session opencode sync`."""
    place = default_warehouse() if arguments.warehouse is None else place_of(arguments)
    assert place is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    with Warehouse(place) as warehouse:
        with counting("reading sessions") as progress:
            report = warehouse.sync(arguments.source, progress=progress)
        files = warehouse.to_parquet(arguments.parquet) if arguments.parquet else ()
    if arguments.json:
        counts = {name: getattr(report, name) for name in ("seen", "read", "unchanged", "failed", "missing")}
        told = {"warehouse": place, **counts, "rows": dict(report.rows), "skipped": len(report.skipped)}
        print_json({**told, "files": list(files)})
    else:
        print(f"{shown(place)}: {report}")
        for file in files:
            print(file)
    if report.skipped:
        print(
            f"{len(report.skipped)} damaged pieces skipped, the first: {report.skipped[0]}", file=sys.stderr
        )
    return 0


def run_serve(serve: Callable[..., Any], arguments: argparse.Namespace) -> int:
    """`dspy-session opencode serve`."""
    place = place_of(arguments)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
    serve(
        Warehouse(place),
        arguments.host,
        arguments.port,
        arguments.token,
        arguments.interval,
        arguments.compatible,
        source=arguments.source,
        redact=not arguments.no_redact,
        announce=partial(_announce, arguments.json),
    )
    return 0


def _announce(as_json: bool, told: str) -> None:
    if as_json:
        print_json({"serving": told})
    else:
        print(told, flush=True)
