"""Answers on one session, in shapes made for a dashboard: meta, summary, details."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from dspy_session.errors import UnknownPathError
from dspy_session.opencode.analytics import _answered_parts as parts
from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.analytics.filters import bound, sql
from dspy_session.opencode.analytics.reporting import jsonable

Answer = dict[str, Any]

NOT_FOUND = "Session not found"


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

    # -- how an answer comes about --

    def _rows(self, question: str, session_id: str) -> list[dict[str, Any]]:
        statement = sql(question)
        return self.warehouse.query(statement, bound(statement, {"session": session_id}))

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
