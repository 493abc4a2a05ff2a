"""`dspy-session opencode log` and `export`: OpenCode's history as files."""

from __future__ import annotations

import argparse
import sys

from dspy_session.opencode.commands.arguments import Commands, command
from dspy_session.opencode.commands.terminal import print_json, working
from dspy_session.opencode.exports.redaction import Redactor
from dspy_session.opencode.exports.writing import FORMATS, export
from dspy_session.opencode.history import History, open_source
from dspy_session.opencode.logger import Logger, LogReport
from dspy_session.opencode.outcomes import succeeded


def add(commands: Commands) -> None:
    """Add `log` and `export`."""
    _add_log(command(commands, "log", run_log, "write the DSPy plugin's files from OpenCode's history"))
    _add_export(command(commands, "export", run_export, "write sessions as ATIF, chat, ShareGPT or Parquet"))


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
                    if arguments.json:
                        print_json({"session": record.id, "title": record.title})
                    else:
                        print(f"{record.id}  {record.title}", flush=True)
            except KeyboardInterrupt:
                # This is how watching ends.
                _tell_log(logger.report, arguments.json)
        else:
            with working("writing logs"):
                report = logger.run()
            _tell_log(report, arguments.json)
        _tell_skipped(history)
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """`dspy-session opencode export`."""
    with open_source(arguments.source) as history:
        with working("exporting"):
            report = export(
                history,
                arguments.output,
                arguments.format,
                project=arguments.project,
                since=arguments.since,
                where=succeeded if arguments.successful else None,
                redact=False if arguments.no_redact else Redactor(fields=arguments.redact_field),
            )
        if arguments.json:
            replaced = dict(report.redaction.counts)
            print_json({"files": report.files, "sessions": report.sessions, "replaced": replaced})
        else:
            print(report)
        _tell_skipped(history)
    return 0


def _tell_log(report: LogReport, as_json: bool) -> None:
    if as_json:
        print_json({"written": report.written, "kept": report.kept, "examples": report.examples})
    else:
        print(report)


def _tell_skipped(history: History) -> None:
    if history.skipped:
        print(
            f"{len(history.skipped)} damaged pieces skipped, the first: {history.skipped[0]}", file=sys.stderr
        )
