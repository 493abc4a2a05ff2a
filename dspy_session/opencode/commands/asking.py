"""`dspy-session opencode sessions|show|skills|tools|models|cost`: reports on the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.opencode.analytics.filters import Filter
from dspy_session.opencode.analytics.reporting import Report
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.skill_files import known_skills
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.commands.arguments import (
    Commands,
    add_filter,
    add_warehouse,
    command,
    filter_of,
    warehouse_of,
)
from dspy_session.opencode.commands.terminal import print_json, print_report

Ask = Callable[[Reports], Report[Any]]

ROWS = 20
"""Rows of a table, unless another limit is asked for."""

SESSIONS: Mapping[str, Ask] = {
    "session": Reports.sessions,
    "tree": Reports.tree,
    "turn": Reports.turns,
    "todo": Reports.todos,
}
SKILLS: Mapping[str, Ask] = {
    "skill": Reports.skills,
    "load": Reports.skill_loads,
    "day": Reports.skills_over_time,
    "project": Reports.skills_by_project,
    "unused": lambda reports: reports.unused_skills(known_skills()),
}
TOOLS: Mapping[str, Ask] = {
    "tool": Reports.tools,
    "edit-format": Reports.edit_formats,
    "repeated": Reports.repeated_calls,
    "verification": Reports.verifications,
    "error": Reports.errors,
    "rejection": Reports.rejections,
}
MODELS: Mapping[str, Ask] = {
    "model": Reports.models,
    "day": Reports.models_by_day,
    "retry": Reports.retries,
    "limit": Reports.limits,
    "compaction": Reports.compactions,
}
COST: Mapping[str, Ask] = {
    "day": Reports.cost_by_day,
    "overview": Reports.overview,
    "opencode": Reports.stored_overview,
}

_SHOWN: tuple[Ask, ...] = (
    Reports.sessions,
    Reports.turns,
    Reports.tools,
    Reports.models,
    Reports.skill_loads,
    Reports.errors,
    Reports.todos,
)
"""What `show` tells of a session."""

_COLUMNS = {
    "sessions": "id title project created_at turns calls tool_calls errors cost cost_with_sub_agents",
    "turns": "turn_index kind agent prompt duration_ms calls tool_calls cost success signal",
    "tree": "id parent depth title agent calls tokens cost",
    "skills": "skill loads sessions succeeded failed last_used p50_ms p95_ms attributed_tokens attributed_cost",
    "skill_loads": "skill session_title project how loaded_at duration_ms succeeded attributed_cost",
    "tools": "tool calls succeeded failed unfinished success_rate retries p50_ms p95_ms exit_codes",
    "models": "model calls errors tokens_input tokens_output tokens_reasoning tokens_cache_read "
    "tokens_cache_write cache_hit_rate cost",
}
"""The columns that a table shows, where it does not show all; `--json` has all."""


def add(commands: Commands) -> None:
    """Add the commands that ask for reports."""
    _add(commands, "sessions", SESSIONS, "list sessions, the newest first")
    show = command(
        commands, "show", run_show, "show one session: its turns, tools and sub-agents", since=False
    )
    show.add_argument("session", metavar="SESSION", help="its id, the beginning of its id, or last")
    add_warehouse(show)
    _add(commands, "skills", SKILLS, "tell which skills were loaded, and which never")
    _add(commands, "tools", TOOLS, "tell how tools were used, and how they failed")
    _add(commands, "models", MODELS, "tell what models took: tokens, cost, errors")
    _add(commands, "cost", COST, "tell what was spent")


def _add(commands: Commands, name: str, asked: Mapping[str, Ask], told: str) -> None:
    parser = command(commands, name, partial(run_report, asked), told)
    first = next(iter(asked))
    parser.add_argument("--by", choices=asked, default=first, help=f"one row for each (default: {first})")
    parser.add_argument(
        "--limit", type=int, metavar="N", help=f"at most N rows, 0 for all (default: {ROWS}; all with --json)"
    )
    add_filter(parser)
    add_warehouse(parser)


def run_report(asked: Mapping[str, Ask], arguments: argparse.Namespace) -> int:
    """A command that prints one report."""
    if arguments.limit is not None and arguments.limit < 0:
        raise ConfigurationError(f"--limit must be 0 or more, not {arguments.limit}")
    wanted = filter_of(arguments)
    wanted.parameters()  # A date that cannot be read is told before a long sync.
    with warehouse_of(arguments) as warehouse:
        report = asked[arguments.by](Reports(warehouse, wanted))
    if arguments.json:
        print_json(_told(report, arguments.limit or None))
    else:
        limit = ROWS if arguments.limit is None else arguments.limit
        print_report(report, _columns(report), limit)
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """`dspy-session opencode show`."""
    with warehouse_of(arguments) as warehouse:
        reports = Reports(warehouse, Filter(session=named(warehouse, arguments.session)))
        found = [ask(reports) for ask in _SHOWN]
        tree = reports.tree()
    found += [tree] if len(tree) > 1 else []
    if arguments.json:
        print_json({report.name: report.to_dicts() for report in found} | {"skipped": found[0].skipped})
        return 0
    for place, report in enumerate(each for each in found if each.rows):
        print("\n" if place else "", end="")
        print_report(report, _columns(report))
    return 0


def named(warehouse: Warehouse, given: str) -> str:
    """The session that is meant by an id, the beginning of one, or `last`.

    Raises:
        UnknownPathError: there is none, or more than one.
    """
    rows = warehouse.query("SELECT id FROM sessions ORDER BY created_at DESC, id")
    ids = [row["id"] for row in rows]
    if given == "last" and ids:
        return str(ids[0])
    found = [each for each in ids if each == given] or [each for each in ids if each.startswith(given)]
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise UnknownPathError(f"no session {given!r}; `dspy-session opencode sessions` lists them")
    raise UnknownPathError(f"{len(found)} sessions begin with {given!r}: {', '.join(found[:3])}, …")


def _columns(report: Report[Any]) -> list[str] | None:
    chosen = _COLUMNS.get(report.name)
    return None if chosen is None else chosen.split()


def _told(report: Report[Any], limit: int | None) -> dict[str, Any]:
    rows = report.to_dicts()
    return {"report": report.name, "count": len(rows), "skipped": report.skipped, "rows": rows[:limit]}
