"""The command `dspy-session`: parse, call, print. What it does lives with what it is about."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from dspy_session.errors import DspySessionError
from dspy_session.opencode import commands as opencode_commands
from dspy_session.stores import commands as store_commands


def parser() -> argparse.ArgumentParser:
    """The command line."""
    program = argparse.ArgumentParser(prog="dspy-session", description="Conversations for DSPy programs.")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    opencode_commands.add_parsers(commands)
    store_commands.add_commands(commands)
    return program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 1 after an error of ours, which is told in one line."""
    arguments = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # What was skipped is summed up at the end; a warning for each piece would drown it.
            warnings.simplefilter("ignore", UserWarning)
            return int(arguments.run(arguments))
    except DspySessionError as error:
        print(f"dspy-session: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
