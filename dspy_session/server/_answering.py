"""From a route and a query to a document and a status: checks, asks, replaces secrets, and hides internals."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.exports.redaction import Redactor
from dspy_session.server._parameters import BadRequest, read_query
from dspy_session.server._questions import Asked, Memory
from dspy_session.server._routes import Route

_log = logging.getLogger("dspy_session.server")


@dataclass(frozen=True)
class Reply:
    """What is sent back: the status and the document, as bytes of JSON."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Service:
    """Answers the routes from a warehouse.

    Attributes:
        warehouse: what is asked.
        compatible: a session that is not there gets zeros, with status 200.
        redact: keys, tokens and passwords in answers are replaced.
    """

    warehouse: Tables
    compatible: bool = False
    redact: bool = True
    memory: Memory = field(default_factory=Memory)

    def reply(
        self,
        route: Route,
        pairs: Iterable[tuple[str, str]],
        session: str = "",
        revision: str | None = None,
    ) -> Reply:
        """The reply to one request; it blocks until the warehouse has answered.

        Args:
            pairs: the query's names and values.
            session: the session that the path names.
            revision: the state of the warehouse, if it is known.
        """
        try:
            query = read_query(route.parameters, pairs)
            asked = Asked(self.warehouse, query, session, self.compatible, revision, self.memory)
            data = route.answer(asked)
            # Folders are left as they are: they are what projects are known by, and chosen by.
            return success(Redactor(home=False)(data) if self.redact else data)
        except (BadRequest, ConfigurationError) as error:
            return failure(400, str(error))
        except UnknownPathError as error:
            return failure(404, str(error.args[0]))
        except Exception:
            _log.exception("%s failed", route.name)
            return failure(500, "the server failed to answer; its log says how")


def success(data: Any) -> Reply:
    """An answer."""
    return Reply(200, _json({"success": True, "data": data}))


def failure(status: int, message: str) -> Reply:
    """A refusal, with the reason."""
    return Reply(status, _json({"success": False, "error": message}))


def _json(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # What a client sent, and is told back, may hold half a character.
    return text.encode("utf-8", "replace")
