"""Answers on one session, in shapes made for a dashboard: meta, summary, details."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from dspy_session.errors import UnknownPathError
from dspy_session.opencode.analytics import _answered_delegations as delegations
from dspy_session.opencode.analytics import _answered_parts as parts
from dspy_session.opencode.analytics import _answered_summary as summary
from dspy_session.opencode.analytics import _answered_talk as talk
from dspy_session.opencode.analytics.asking import Asking, Tables
from dspy_session.opencode.analytics.filters import Filter, bound, sql
from dspy_session.opencode.analytics.reporting import jsonable

Answer = dict[str, Any]

NOT_FOUND = "Session not found"
_HEAD = ("id", "title", "directory", "agent", "model", "created_at", "ended_at", "duration_ms", "parent_id")


class Answers:
    """Answers on one session: dictionaries that JSON can hold.

    Everything stands in the order of the session, as most parts of a conversation bear no time of their own;
    they are given that of their message. Times are ISO texts in UTC.

    What a fork copied from another session counts in no sum; the conversation itself (messages, exchanges,
    timelines, attachments) is told with it, as the user sees it. What the user undid counts and is told.

    Args:
        warehouse: a `Warehouse` that was synced.
    """

    def __init__(self, warehouse: Tables) -> None:
        self.warehouse = warehouse

    # -- what the parts of a session hold --

    def get_session_reasoning(self, session_id: str, *, strict: bool = True) -> Answer:
        """What the model thought, with Anthropic's signatures.

        Args:
            session_id: OpenCode's id of the session.
            strict: whether a session that is not there is an error; else it is an answer of zeros whose
                `meta.error` says so.

        Raises:
            UnknownPathError: there is no such session.
        """
        return self._answer(
            session_id, strict, lambda: parts.reasoning(self._rows("session_reasoning", session_id))
        )

    def get_session_steps(self, session_id: str, *, strict: bool = True) -> Answer:
        """The start and the end of each call of the model, with tokens of all five kinds and cost."""
        return self._answer(session_id, strict, lambda: parts.steps(self._rows("session_steps", session_id)))

    def get_session_git_history(self, session_id: str, *, strict: bool = True) -> Answer:
        """The files that calls of the model changed; each hash is a git tree of OpenCode's, not a commit."""
        return self._answer(
            session_id, strict, lambda: parts.git_history(self._rows("session_git_history", session_id))
        )

    def get_session_precise_cost(self, session_id: str, *, strict: bool = True) -> Answer:
        """What the session cost by the ends of its calls of the model, beside what its messages say."""
        return self._answer(
            session_id, strict, lambda: parts.precise_cost(self._rows("session_precise_cost", session_id)[0])
        )

    def get_session_file_parts(self, session_id: str, *, strict: bool = True) -> Answer:
        """The attachments, without what they hold."""
        return self._answer(
            session_id, strict, lambda: parts.file_parts(self._rows("session_file_parts", session_id))
        )

    # -- what a session is as a whole --

    def get_session_summary(self, session_id: str, *, strict: bool = True) -> Answer:
        """The session at a glance, with details and charts.

        `estimated_cost_usd` is the cost that OpenCode stored. `status` is `running` (the last reply has no
        end, also where OpenCode was killed), `aborted`, `error` or `completed`, by the last turn that was not
        undone. `high_risk_count` counts operations on files whose names are those of keys and passwords, and
        those that wrote outside of the project.
        """

        def made() -> Answer:
            head = self._head(session_id)
            if head is None:
                return {"meta": {}, "summary": {}, "details": {}, "charts": {}}
            spent = self._rows("session_tokens", session_id)
            tasks = self._rows("session_delegations", session_id)
            details = {
                "tokens": summary.tokens(spent),
                "tools": summary.tools(self._rows("session_tools", session_id)),
                "files": summary.files(self._rows("session_files", session_id)),
                "agents": summary.agents(spent, delegations.depth(session_id, tasks)),
            }
            return summary.summary(head, details, sum(row["cost"] for row in spent))

        return self._answer(session_id, strict, made)

    def get_session_tokens(self, session_id: str, *, strict: bool = True) -> Answer:
        """Tokens by kind and agent. `cache_hit_ratio` is cache_read / (input + cache_read), in per cent."""
        return self._answer(
            session_id,
            strict,
            lambda: summary.tokens_answer(summary.tokens(self._rows("session_tokens", session_id))),
        )

    def get_session_tools(self, session_id: str, *, strict: bool = True) -> Answer:
        """Calls of tools. A shell command that ended with another exit status than 0 did not succeed."""
        return self._answer(
            session_id,
            strict,
            lambda: summary.tools_answer(summary.tools(self._rows("session_tools", session_id))),
        )

    def get_session_files(self, session_id: str, *, strict: bool = True) -> Answer:
        """Files read, written and edited."""
        return self._answer(
            session_id,
            strict,
            lambda: summary.files_answer(summary.files(self._rows("session_files", session_id))),
        )

    def get_session_agents(self, session_id: str, *, strict: bool = True) -> Answer:
        """The agents that answered in this session itself."""

        def made() -> Answer:
            tasks = self._rows("session_delegations", session_id)
            spent = self._rows("session_tokens", session_id)
            details = summary.agents(spent, delegations.depth(session_id, tasks))
            return {"meta": {"count": details["unique_count"]}, **details}

        return self._answer(session_id, strict, made)

    # -- how the conversation went --

    def get_session_prompts(self, session_id: str, *, strict: bool = True) -> Answer:
        """What the user asked first, and the last answer."""

        def made() -> Answer:
            title = (self._head(session_id) or {}).get("title") or ""
            return talk.prompts(self._rows("session_exchanges", session_id), title)

        return self._answer(session_id, strict, made)

    def get_session_messages(self, session_id: str, *, strict: bool = True) -> Answer:
        """The messages: an entry for each part."""
        return self._answer(
            session_id, strict, lambda: talk.messages(self._rows("session_messages", session_id))
        )

    def get_session_exchanges(self, session_id: str, *, strict: bool = True) -> Answer:
        """Prompts with their answers: the session's turns, numbered from 1."""
        return self._answer(
            session_id, strict, lambda: talk.exchanges(self._rows("session_exchanges", session_id))
        )

    def get_session_timeline(self, session_id: str, *, strict: bool = True) -> Answer:
        """Messages and calls of tools, in order."""
        return self._answer(
            session_id, strict, lambda: talk.timeline(self._rows("session_messages", session_id))
        )

    def get_session_full_timeline(self, session_id: str, *, strict: bool = True) -> Answer:
        """Everything that happened, in order, and the timelines of the sub-agents that were started here."""

        def made() -> Answer:
            told = self._told(session_id)
            below = delegations.direct(session_id, self._rows("session_delegations", session_id))
            children = [
                {"child_session_id": child, "timeline": self._told(child)["timeline"]} for child in below
            ]
            return {**told, "delegations": children}

        return self._answer(session_id, strict, made)

    def _told(self, session_id: str) -> Answer:
        head = self._head(session_id) or dict.fromkeys(_HEAD)
        turns = len(self._rows("session_exchanges", session_id))
        below = delegations.direct(session_id, self._rows("session_delegations", session_id))
        rows = self._rows("session_messages", session_id)
        return talk.full_timeline(head, rows, turns, summary.status(head), len(below))

    # -- sub-agents and skills --

    def get_session_delegations(self, session_id: str, *, strict: bool = True) -> Answer:
        """The sub-agents that the session started, these theirs, and so on, as a tree of at most 50 levels.

        `max_depth` in the summary is the depth of all; `get_session_delegation_timeline` tells of each.
        """

        def made() -> Answer:
            head = self._head(session_id)
            if head is None:
                empty = {"total_delegations": 0, "max_depth": 0, "agents_involved": []}
                return {"meta": {}, "summary": empty, "tree": None}
            rows = self._rows("session_delegations", session_id)
            return delegations.delegations(head, rows, summary.status(head))

        return self._answer(session_id, strict, made)

    def get_session_delegation_timeline(self, session_id: str, *, strict: bool = True) -> Answer:
        """The tasks that were handed to sub-agents, at any depth, in time."""
        return self._answer(
            session_id,
            strict,
            lambda: delegations.timeline(session_id, self._rows("session_delegations", session_id)),
        )

    def get_session_skills(self, session_id: str, *, strict: bool = True) -> Answer:
        """The skills that were loaded, in the order of their first load."""

        def made() -> Answer:
            found = self._rows("session_skills", session_id)
            skills = [{"session_id": session_id, **jsonable(row)} for row in found]
            return {"meta": {"count": len(skills)}, "skills": skills}

        return self._answer(session_id, strict, made)

    def get_skill_usage_stats(self, project: str | None = None) -> Answer:
        """How each skill was used, by its name: `success_rate` is a share, times are milliseconds.

        Args:
            project: a folder, a project's id or its name; all projects by default.
        """
        asking = Asking(self.warehouse, Filter(project=project))
        found = {row.pop("name"): jsonable(row) for row in asking.ask("skill_usage")}
        stamp = jsonable(datetime.now(timezone.utc))
        return {"meta": {"count": len(found), "generated_at": stamp}, "skills": found}

    # -- how an answer comes about --

    def _rows(self, question: str, session_id: str) -> list[dict[str, Any]]:
        statement = sql(question)
        return self.warehouse.query(statement, bound(statement, {"session": session_id}))

    def _head(self, session_id: str) -> dict[str, Any] | None:
        return next(iter(self._rows("session_head", session_id)), None)

    def _answer(self, session_id: str, strict: bool, made: Callable[[], Answer]) -> Answer:
        known = bool(self._rows("session_known", session_id)[0]["known"])
        if strict and not known:
            raise UnknownPathError(f"no session {session_id!r} in the warehouse; is it synced?")
        answer = made()
        stamp = jsonable(datetime.now(timezone.utc))
        meta = {"session_id": session_id, **answer["meta"], "generated_at": stamp}
        if not known:
            meta["error"] = NOT_FOUND
        return {**answer, "meta": meta}
