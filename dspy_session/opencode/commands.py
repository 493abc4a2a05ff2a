"""`dspy-session opencode …`: what the command line offers of OpenCode's history."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from dspy_session.opencode.exports.redaction import Redactor
from dspy_session.opencode.exports.writing import FORMATS, export
from dspy_session.opencode.history import History, open_source
from dspy_session.opencode.logger import Logger
from dspy_session.opencode.outcomes import succeeded


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `opencode` and its subcommands to the program's."""
    opencode = commands.add_parser("opencode", help="read OpenCode's history")
    inner = opencode.add_subparsers(dest="opencode_command", required=True, metavar="COMMAND")
    _add_log(_command(inner, "log", run_log, "write the DSPy plugin's files from OpenCode's history"))
    _add_export(_command(inner, "export", run_export, "write sessions as ATIF, chat, ShareGPT or Parquet"))


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    told: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=told, description=told)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="database, data folder, exports or logs (default: where OpenCode keeps them)",
    )
    parser.add_argument("--since", metavar="DATE", help="only sessions touched since, as 2026-10-01")
    return parser


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", metavar="FOLDER", default=".", help="whose sessions (default: this folder)"
    )
    parser.add_argument("--all-projects", action="store_true", help="sessions of all projects")
    parser.add_argument(
        "--output", metavar="FOLDER", default=".opencode-logs", help="default: .opencode-logs"
    )
    parser.add_argument("--watch", action="store_true", help="go on, and write sessions as they go idle")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )
    parser.add_argument("--overwrite", action="store_true", help="also replace files that the plugin wrote")
    parser.add_argument("--redact", action="store_true", help="replace secrets and home folders")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="a folder for atif, else a file")
    parser.add_argument("--format", choices=FORMATS, default="atif", help="default: atif")
    parser.add_argument("--project", metavar="FOLDER", help="only sessions of this project")
    parser.add_argument("--successful", action="store_true", help="only turns that succeeded")
    parser.add_argument("--no-redact", action="store_true", help="leave secrets and home folders in")
    parser.add_argument(
        "--redact-field", action="append", default=[], metavar="NAME", help="a field to replace whole"
    )


def run_log(arguments: argparse.Namespace) -> int:
    """`dspy-session opencode log`."""
    with open_source(arguments.source) as history:
        logger = Logger(
            history,
            arguments.output,
            project=None if arguments.all_projects else arguments.project,
            since=arguments.since,
            overwrite=arguments.overwrite,
            redactor=Redactor() if arguments.redact else None,
        )
        if arguments.watch:
            try:
                for record in logger.watch(arguments.interval):
                    print(f"{record.id}  {record.title}", flush=True)
            except KeyboardInterrupt:
                print(logger.report)
        else:
            print(logger.run())
        _tell_skipped(history)
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """`dspy-session opencode export`."""
    with open_source(arguments.source) as history:
        report = export(
            history,
            arguments.output,
            arguments.format,
            project=arguments.project,
            since=arguments.since,
            where=succeeded if arguments.successful else None,
            redact=False if arguments.no_redact else Redactor(fields=arguments.redact_field),
        )
        print(report)
        _tell_skipped(history)
    return 0


def _tell_skipped(history: History) -> None:
    if history.skipped:
        print(
            f"{len(history.skipped)} damaged pieces skipped, the first: {history.skipped[0]}", file=sys.stderr
        )
