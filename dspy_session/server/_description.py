"""The OpenAPI 3.1 description of the API, made from its routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspy_session.server._release import release
from dspy_session.server._routes import Route

Json = dict[str, Any]

ERRORS = {
    400: "A parameter is wrong, or there is none of this name",
    401: "The token is missing or wrong",
    404: "There is no such session",
    421: "The request names another host than this server",
    500: "The server failed; its log says how",
    503: "Another process holds the warehouse's file",
}


def describe(routes: Sequence[Route], *, token: bool, compatible: bool) -> Json:
    """The description of these routes.

    Args:
        token: whether a token is asked for.
        compatible: whether an unknown session gets zeros instead of a 404.
    """
    paths = {route.path: {"get": _operation(route, token, compatible)} for route in routes}
    security: Json = {"security": [{"token": []}]} if token else {}
    schemes: Json = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenCode's history",
            "version": release(),
            "description": (
                "Sessions, answers on one session, and reports. Every answer is "
                '`{"success": true, "data": …}` or `{"success": false, "error": "…"}`.'
            ),
        },
        **security,
        "paths": paths,
        "components": {
            "schemas": {"Error": _error()},
            **({"securitySchemes": schemes} if token else {}),
        },
    }


def _operation(route: Route, token: bool, compatible: bool) -> Json:
    asks = token and not route.open
    codes = [400, *([401] if asks else []), *([404] if route.of_session else []), 421, 500, 503]
    if compatible and route.of_session:
        summary = f"{route.summary}. An unknown session may get zeros, and `meta.error`"
    else:
        summary = route.summary
    parameters = [_query(each) for each in route.parameters]
    if route.of_session:
        parameters.insert(0, _session_id())
    return {
        "operationId": route.name,
        "summary": summary,
        **({"security": []} if token and route.open else {}),
        "parameters": parameters,
        "responses": {"200": _answer(route.data or {"type": "object"}), **_refusals(codes)},
    }


def _refusals(codes: Sequence[int]) -> Json:
    return {str(code): _response(ERRORS[code], {"$ref": "#/components/schemas/Error"}) for code in codes}


def _answer(data: Json) -> Json:
    properties = {"success": {"const": True}, "data": data}
    return _response("The answer", {"type": "object", "required": [*properties], "properties": properties})


def _response(meaning: str, schema: Json) -> Json:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def _error() -> Json:
    properties = {"success": {"const": False}, "error": {"type": "string"}}
    return {"type": "object", "required": [*properties], "properties": properties}


def _session_id() -> Json:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": "session_id",
        "in": "path",
        "required": True,
        "description": "OpenCode's id of a session",
        "schema": schema,
    }


def _query(parameter: Any) -> Json:
    told = {"name": parameter.name, "in": "query", "description": parameter.doc, "schema": parameter.schema()}
    return {**told, "style": "form", "explode": True} if parameter.many else told
