"""The routes of the HTTP API, as data: path, parameters, what is answered, and what the answer looks like.

The server and its OpenAPI description are both made from these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.skill_reports import UnusedSkillRow
from dspy_session.server import _questions as questions
from dspy_session.server._parameters import Choice, Flag, Integer, Json, Moment, Parameter, Text
from dspy_session.server._questions import Asked
from dspy_session.server._release import release
from dspy_session.server._schemas import ANSWERS, PAGE_META, SESSIONS, report_schema


@dataclass(frozen=True)
class Route:
    """A route of the API.

    Attributes:
        path: with `{session_id}` where a session's id stands.
        name: the operation's id.
        summary: what is answered.
        answer: gives the answer; it blocks.
        parameters: what may stand in the query.
        data: JSON Schema of the answer.
        sync: what a request does for fresh answers: wait for a sync, only start one, or neither.
        open: no token is asked for.
    """

    path: str
    name: str
    summary: str
    answer: Callable[[Asked], Json]
    parameters: tuple[Parameter, ...] = ()
    data: Json | None = None
    sync: Literal["await", "start", "none"] = "await"
    open: bool = False

    @property
    def of_session(self) -> bool:
        """The path names a session, which may be unknown."""
        return "{session_id}" in self.path


FILTERS = (
    Parameter("project", Text(), "a folder, OpenCode's id of a project, or a project's name"),
    Parameter("since", Moment(), "turns that began at or after this time"),
    Parameter("until", Moment(), "turns that began before this time"),
    Parameter("days", Integer(1, 36_500), "turns that began within so many days before now"),
    Parameter("model", Text(), "`provider/model`, or the model's id alone"),
    Parameter("agent", Text(), "the agent that answered"),
)
SESSION = Parameter("session", Text(), "the id of one session")
OFFSET = Parameter("offset", Integer(0, 10_000_000), "how many to leave out", 0)


def _limit(default: int, most: int) -> Parameter:
    return Parameter("limit", Integer(1, most), "how many to give", default)


_SESSIONS = Route(
    "/api/sessions",
    "sessions",
    "Sessions that fit a filter",
    questions.list_sessions,
    (
        *FILTERS,
        Parameter("search", Text(), "a part of the title, the folder or the id"),
        Parameter("order", Choice(tuple(questions.ORDERS)), "the greatest, or newest, first", "created"),
        Parameter("tree", Flag(), "sub-agents' sessions under the session that started them", False),
        OFFSET,
        _limit(100, 1000),
    ),
    SESSIONS,
)
_HEAD = Route(
    "/api/session/{session_id}",
    "session",
    "A session with its parent, its sub-agents and its turns in brief",
    questions.session_head,
)
_TURNS = Route(
    "/api/session/{session_id}/turns",
    "session_turns",
    "A session's turns with messages, calls of the model, tools, reasoning and diffs",
    questions.session_turns,
    (OFFSET, _limit(20, 200)),
    {"type": "object", "required": ["meta", "turns"], "properties": {"meta": PAGE_META}},
)
_CHOICES = Route(
    "/api/filters",
    "filters",
    "The projects, models and agents that a filter can name",
    questions.filter_choices,
    data={"type": "object", "required": ["projects", "models", "agents", "first", "last"]},
)
_REPORTS = Route(
    "/api/reports",
    "reports",
    "The reports that there are, with the meaning of their columns",
    questions.list_reports,
    data={"type": "object", "required": ["reports"]},
)

_HEALTH = Route(
    "/api/health",
    "health",
    "Whether the server answers, and its release; no token is asked for",
    lambda asked: {"status": "ok", "version": release()},
    data={"type": "object", "required": ["status", "version"]},
    sync="none",
    open=True,
)

_ANSWERS = {
    "reasoning": "What the model thought",
    "steps": "The start and the end of each call of the model, with tokens and cost",
    "git-history": "The files that calls of the model changed; each hash is a git tree, not a commit",
    "precise-cost": "The cost by the ends of the calls of the model, beside what the messages say",
    "file-parts": "The attachments",
    "summary": "The session at a glance, with details and charts",
    "tokens": "Tokens by kind and agent",
    "tools": "Calls of tools",
    "files": "Files read, written and edited",
    "agents": "The agents that worked",
    "timeline": "What happened, in order",
    "prompts": "What the user asked first, and the last answer",
    "messages": "The messages",
    "timeline/full": "What happened, in order, with reasoning, tools, steps, patches and attachments",
    "exchanges": "Prompts with their answers",
    "delegations": "The sub-agents, as a tree",
    "delegation-timeline": "The sub-agents, in time",
    "skills": "The skills that were loaded",
}
_METHODS = {"timeline/full": "get_session_full_timeline"}


def _answer(question: str, summary: str) -> Route:
    method = _METHODS.get(question, f"get_session_{question.replace('-', '_')}")
    return Route(
        f"/api/session/{{session_id}}/{question}",
        f"session_{question.replace('-', '_').replace('/', '_')}",
        summary,
        questions.session_answer(method),
        data=ANSWERS.get(question, {"type": "object", "required": ["meta"]}),
    )


_KNOWN = Parameter("known", Text(), "the name of a skill that there is; once for each", many=True)


def _report(
    name: str, row_type: type[Any], answer: Callable[[Asked], Json] | None = None, *more: Parameter
) -> Route:
    summary = (getattr(Reports, name).__doc__ or name).partition("\n")[0].rstrip(".")
    paging = (OFFSET, _limit(1000, 10_000))
    return Route(
        f"/api/reports/{name}",
        f"report_{name}",
        summary,
        answer or questions.report(name),
        (*more, *FILTERS, SESSION, *paging),
        report_schema(row_type),
    )


@lru_cache(maxsize=1)
def routes() -> tuple[Route, ...]:
    """All routes of the API."""
    answers = tuple(_answer(question, summary) for question, summary in _ANSWERS.items())
    reports = tuple(_report(name, row_type) for name, row_type in questions.report_rows().items())
    unused = _report("unused_skills", UnusedSkillRow, questions.unused_skills, _KNOWN)
    return (_SESSIONS, _HEAD, _TURNS, *answers, _CHOICES, _REPORTS, *reports, unused, _HEALTH)


def status_route(status: Callable[[], Json]) -> Route:
    """The route that tells of the syncs."""
    return Route(
        "/api/status",
        "status",
        "The state of the warehouse (`revision` changes with it) and of the sync",
        lambda asked: status(),
        data={"type": "object", "required": ["revision", "live", "syncing", "error", "interval"]},
        sync="start",
    )
