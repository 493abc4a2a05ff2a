"""What each route answers, asked of the warehouse. Every function here blocks, and none knows of HTTP."""

from __future__ import annotations

import inspect
import threading
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from dspy_session.errors import UnknownPathError
from dspy_session.opencode.analytics.answers import Answers
from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.analytics.choices import choices
from dspy_session.opencode.analytics.filters import Filter
from dspy_session.opencode.analytics.reporting import Report
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.session_reports import SessionRow
from dspy_session.opencode.analytics.turn_pages import outline, turn_page

Json = dict[str, Any]
REMEMBERED = 24
"""Reports that are kept until the warehouse changes: turning a page asks for the same one again."""

DEEPEST = 40
"""Levels of a tree of sessions. What writes JSON cannot go down without end, and one chain of sub-agents must
not take the list of all others with it."""


class Memory:
    """The reports that were asked for last, for as long as the warehouse is in the state they tell of."""

    def __init__(self) -> None:
        self._reports: OrderedDict[tuple[Any, ...], Report[Any]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: tuple[Any, ...], make: Callable[[], Report[Any]]) -> Report[Any]:
        """The report of this key, made if it is not here."""
        with self._guard:
            if key in self._reports:
                self._reports.move_to_end(key)
                return self._reports[key]
        made = make()
        with self._guard:
            self._reports[key] = made
            while len(self._reports) > REMEMBERED:
                self._reports.popitem(last=False)
        return made


@dataclass(frozen=True)
class Asked:
    """A request that was read and checked.

    Attributes:
        warehouse: what is asked.
        query: the values of the route's parameters.
        session: the session in the path.
        compatible: an unknown session gets zeros.
        revision: the state of the warehouse, if it is known.
        memory: reports of earlier requests.
    """

    warehouse: Tables
    query: Mapping[str, Any]
    session: str = ""
    compatible: bool = False
    revision: str | None = None
    memory: Memory | None = None

    def report(self, name: str, filter: Filter, *given: Any) -> Report[Any]:
        """A report of this filter, remembered from an earlier request if nothing changed since."""

        def make() -> Report[Any]:
            return getattr(Reports(self.warehouse, filter), name)(*given)  # type: ignore[no-any-return]

        if self.revision is None or self.memory is None:
            return make()
        return self.memory.get((self.revision, name, filter, given), make)


# -- reports --


def report_rows() -> dict[str, type[Any]]:
    """The reports that need nothing but a filter, each with the class of its rows."""
    found = {}
    for name, method in inspect.getmembers(Reports, inspect.isfunction):
        answer = typing.get_type_hints(method).get("return")
        if not name.startswith("_") and typing.get_origin(answer) is Report and _needs_nothing(method):
            found[name] = typing.get_args(answer)[0]
    return found


def _needs_nothing(method: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return all(each.default is not each.empty for each in parameters)


def chosen(query: Mapping[str, Any]) -> Filter:
    """The filter that a query's parameters make; `days` counts back from now, to the minute."""
    since = query.get("since")
    if query.get("days") is not None:
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        since = max(filter(None, (since, now - timedelta(days=query["days"]))))
    rest = {name: query.get(name) for name in ("project", "until", "model", "agent", "session")}
    return Filter(since=since, **rest)


def report(name: str) -> Callable[[Asked], Json]:
    """The question for one report."""

    def answer(asked: Asked) -> Json:
        return _paged(asked.report(name, chosen(asked.query)), asked.query)

    return answer


def unused_skills(asked: Asked) -> Json:
    """The question for the skills that were never loaded, of those that the client knows."""
    return _paged(asked.report("unused_skills", chosen(asked.query), asked.query["known"]), asked.query)


def _paged(report: Report[Any], query: Mapping[str, Any]) -> Json:
    offset, limit = query["offset"], query["limit"]
    part = Report(report.name, report.title, report.row_type, report.rows[offset : offset + limit])
    return {
        "name": report.name,
        "title": report.title,
        "columns": [{"name": each.name, "doc": each.doc, "unit": each.unit} for each in report.columns],
        "rows": part.to_dicts(),
        "meta": {
            "count": len(report.rows),
            "offset": offset,
            "limit": limit,
            "skipped": report.skipped,
            "generated_at": _now(),
        },
    }


def list_reports(asked: Asked) -> Json:
    """The reports that there are, with the meaning of their columns."""
    told = []
    for name, row_type in report_rows().items():
        heading = (inspect.getdoc(getattr(Reports, name)) or "").partition("\n")[0]
        empty = Report(name, heading, row_type, ())
        columns = [{"name": each.name, "doc": each.doc, "unit": each.unit} for each in empty.columns]
        told.append({"name": name, "description": heading, "columns": columns})
    return {"reports": told}


# -- sessions --

ORDERS: Mapping[str, Callable[[SessionRow], Any]] = {
    "created": lambda row: row.created_at or datetime.min,
    "ended": lambda row: row.ended_at or row.created_at or datetime.min,
    "cost": lambda row: row.cost_with_sub_agents,
    "tokens": lambda row: (
        row.tokens_input
        + row.tokens_output
        + row.tokens_reasoning
        + row.tokens_cache_read
        + row.tokens_cache_write
    ),
    "turns": lambda row: row.turns,
    "duration": lambda row: row.duration_ms or 0,
}
"""What a list of sessions can be ordered by, the greatest first."""


def list_sessions(asked: Asked) -> Json:
    """Sessions, or with `tree` those that no other session of the list started, with their sub-agents'."""
    query = asked.query
    found = asked.report("sessions", chosen(query))
    rows: list[SessionRow] = [row for row in found if _matches(row, query["search"])]
    rows.sort(key=ORDERS[query["order"]], reverse=True)
    children = _children(rows) if query["tree"] else {}
    heads = _heads(rows, children) if query["tree"] else rows
    page = heads[query["offset"] : query["offset"] + query["limit"]]
    meta = {"count": len(heads), "offset": query["offset"], "limit": query["limit"], "skipped": found.skipped}
    sessions = [_nested(row, children, query["tree"]) for row in page]
    return {"meta": {**meta, "generated_at": _now()}, "sessions": sessions}


def _matches(row: SessionRow, search: str | None) -> bool:
    wanted = (search or "").casefold()
    return any(wanted in (text or "").casefold() for text in (row.id, row.title, row.directory))


def _children(rows: list[SessionRow]) -> dict[str, list[SessionRow]]:
    found: dict[str, list[SessionRow]] = {}
    for row in rows:
        if row.parent_id is not None:
            found.setdefault(row.parent_id, []).append(row)
    return found


def _heads(rows: list[SessionRow], children: dict[str, list[SessionRow]]) -> list[SessionRow]:
    """The sessions that no other one of the list started. Of those that started each other, the first."""
    known = {row.id for row in rows}
    begun: set[str] = set()
    for row in rows:
        if row.parent_id not in known:
            _reach(row, children, begun)
    heads = [row for row in rows if row.parent_id not in known]
    for row in rows:
        if row.id not in begun:
            _reach(row, children, begun)
            # Its way back up is cut, so that it can be told from the top.
            children[row.parent_id or ""].remove(row)
            heads.append(row)
    return heads


def _reach(row: SessionRow, children: dict[str, list[SessionRow]], reached: set[str]) -> None:
    waiting = [row]
    while waiting:
        at = waiting.pop()
        if at.id not in reached:
            reached.add(at.id)
            waiting += children.get(at.id, ())


def _nested(row: SessionRow, children: dict[str, list[SessionRow]], tree: bool, level: int = 0) -> Json:
    told = _row(row)
    if tree:
        told["children"] = [_nested(each, children, True, level + 1) for each in _below(row, children, level)]
    return told


def _below(row: SessionRow, children: dict[str, list[SessionRow]], level: int) -> list[SessionRow]:
    """The sessions to tell under this one; at the deepest level, all that are below it side by side."""
    if level < DEEPEST:
        return children.get(row.id, [])
    found: list[SessionRow] = []
    waiting = list(children.get(row.id, ())) if level == DEEPEST else []
    while waiting:
        found.append(waiting.pop(0))
        waiting += children.get(found[-1].id, ())
    return found


def _row(row: SessionRow) -> Json:
    return Report("sessions", "", SessionRow, (row,)).to_dicts()[0]


def session_head(asked: Asked) -> Json:
    """A session with its parent, its sub-agents, its to-do list, and its turns in brief."""
    brief = outline(asked.warehouse, asked.session)
    rows = {row.id: row for row in asked.report("sessions", Filter())}
    if asked.session not in rows:
        # Another program has synced it since the report was remembered.
        rows = {row.id: row for row in replace(asked, revision=None).report("sessions", Filter())}
    row = rows[asked.session]
    children = sorted(_children(list(rows.values())).get(row.id, ()), key=ORDERS["created"])
    forks = [each for each in rows.values() if each.forked_from == row.id]
    source, parent = rows.get(row.forked_from or ""), rows.get(row.parent_id or "")
    return {
        "meta": brief["meta"],
        "session": _row(row),
        "parent": None if parent is None else _row(parent),
        "forked_from": None if source is None else _row(source),
        "children": [_row(each) for each in children],
        "forks": [_row(each) for each in forks],
        "todos": brief["todos"],
        "turns": brief["turns"],
    }


def session_turns(asked: Asked) -> Json:
    """Some of a session's turns, with everything that was done for them."""
    return turn_page(asked.warehouse, asked.session, asked.query["offset"], asked.query["limit"])


def session_answer(method: str) -> Callable[[Asked], Json]:
    """The question that a method of `Answers` answers."""

    def answer(asked: Asked) -> Json:
        ask: Callable[..., Json] = getattr(Answers(asked.warehouse), method)
        return ask(asked.session, strict=not asked.compatible)

    return answer


def filter_choices(asked: Asked) -> Json:
    """What the filters can be set to."""
    return choices(asked.warehouse)


def no_report(name: str) -> UnknownPathError:
    """The error for a report that there is not."""
    return UnknownPathError(f"no report {name!r}; there are {', '.join(report_rows())}")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
