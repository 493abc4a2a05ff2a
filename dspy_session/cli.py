"""The command `dspy-session`: parse, call, print. What it does lives with what it is about."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from dspy_session.errors import DspySessionError
from dspy_session.opencode import commands as opencode_commands
from dspy_session.stores import commands as store_commands


def parser() -> argparse.ArgumentParser:
    """The command line."""
    program = argparse.ArgumentParser(prog="dspy-session", description="Conversations for DSPy programs.")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    opencode_commands.add_parsers(commands, _serve)
    store_commands.add_commands(commands)
    return program


def _serve(*given: Any, **more: Any) -> None:
    from dspy_session.server import serve

    serve(*given, **more)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    That is 0; 1 after an error of ours, or of the system with a file, which is told in one line; 2 for
    arguments that cannot be read (and what a command says of itself); 130 after Ctrl-C. A reader that goes
    away, as `head` does, is no error.
    """
    try:
        arguments = parser().parse_args(argv)
        with warnings.catch_warnings():
            # What was skipped is summed up at the end; a warning for each piece would drown it.
            warnings.simplefilter("ignore", UserWarning)
            status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except DspySessionError as error:
        print(f"dspy-session: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python would try to write the rest when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A full disk, or a place that cannot be written: what the system says names it.
        print(f"dspy-session: {_told(error)}", file=sys.stderr)
        return 1


def _told(error: OSError) -> str:
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
