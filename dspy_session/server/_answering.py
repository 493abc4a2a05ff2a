"""From a route and a query to a document and a status: checks, asks, replaces secrets, and hides internals."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from dspy_session.errors import ConfigurationError, UnknownPathError, WarehouseBusyError
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
        except WarehouseBusyError:
            return failure(503, "another process holds the warehouse's file: try again when it has ended")
        except Exception:
            _log.exception("%s failed", route.name)
            return failure(500, "the server failed to answer; its log says how")


def success(data: Any) -> Reply:
    """An answer."""
    return Reply(200, _json({"success": True, "data": data}))


def failure(status: int, message: str) -> Reply:
    """A refusal, with the reason."""
    return Reply(status, _json({"success": False, "error": message}))


def etag_of(revision: str, path: str, query: str) -> str:
    """Names an answer before it is made: the same question to the same state has the same one."""
    # `days` counts back from now, to the minute.
    minute = int(time.time() // 60) if any(name == "days" for name, _ in parse_qsl(query)) else 0
    asked = f"{revision} {minute} {path}?{query}"
    return f'"{hashlib.sha256(asked.encode("utf-8", "replace")).hexdigest()[:24]}"'


def caching(etag: str | None) -> dict[str, str]:
    """The headers that tell a browser what it may keep: what has a name, to ask whether it still holds."""
    kept = "no-store" if etag is None else "private, no-cache"
    return {"Cache-Control": kept, **({} if etag is None else {"ETag": etag})}


def _json(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # What a client sent, and is told back, may hold half a character.
    return text.encode("utf-8", "replace")
