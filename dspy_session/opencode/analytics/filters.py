"""Which part of the history a question is about, and the rows that this chooses.

There is one place where a filter becomes SQL: `sql/_chosen.sql` stands before every question and gives it the
tables `chosen_sessions`, `chosen_messages`, `chosen_turns` and so on. Values are bound, never written into it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from dspy_session.opencode.times import When, milliseconds

_PARAMETER = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True)
class Filter:
    """Which part of the history is asked about. What is not given excludes nothing.

    Time, model and agent choose turns, and a turn is whole or not there at all: by the time at which it began,
    and within it by the model and agent of each message. A session belongs to the answer if a message of it
    does. So the answers for periods, models or sessions that do not overlap add up to the answer for all.

    Attributes:
        project: a folder (sessions started in it or below it, or in any worktree of a project whose root it
            is), OpenCode's id of a project, or a project's name: the last part of its root folder.
        since: turns that began at or after this time. A date is its midnight in local time; a number, seconds
            since the epoch.
        until: turns that began before this time.
        model: `provider/model`, or the model's id alone where no model is called so whole.
        agent: the agent that answered, as `build`.
        session: the id of one session; reports that look at its sub-agents say so.
    """

    project: str | os.PathLike[str] | None = None
    since: When | None = None
    until: When | None = None
    model: str | None = None
    agent: str | None = None
    session: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The values for the parameters of `sql/_chosen.sql`.

        Raises:
            ConfigurationError: a time cannot be read.
        """
        project = None if self.project is None else os.fspath(self.project)
        folder = real = None
        if project is not None:
            absolute = Path(os.path.expanduser(project)).absolute()
            folder, real = os.path.normpath(absolute), os.path.realpath(absolute)
        return {
            "since": None if self.since is None else milliseconds(self.since),
            "until": None if self.until is None else milliseconds(self.until),
            "model": self.model,
            "agent": self.agent,
            "session": self.session,
            "project": project,
            "folder": folder,
            "real_folder": real,
            "below_folder": folder and folder.rstrip(os.sep) + os.sep,
            "below_real_folder": real and real.rstrip(os.sep) + os.sep,
        }


EVERYTHING = Filter()
"""A filter that excludes nothing."""


@cache
def sql(question: str) -> str:
    """The text of a file in `sql`."""
    return (
        resources.files(__package__).joinpath("sql").joinpath(f"{question}.sql").read_text(encoding="utf-8")
    )


def filtered(question: str) -> str:
    """A question of `sql`, asked of the rows that a filter chooses.

    `_chosen.sql` begins a list of tables. A question that needs tables of its own goes on with a comma.
    """
    return sql("_chosen") + sql(question)


def bound(statement: str, values: dict[str, Any]) -> dict[str, Any]:
    """Of these values, those that the statement asks for: DuckDB takes no others."""
    return {name: values[name] for name in dict.fromkeys(_PARAMETER.findall(statement))}
