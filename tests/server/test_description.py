"""The OpenAPI description: that it is one, and that the server keeps to it, whatever it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import running
from dspy_session.server._routes import routes

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed: nobody tries the API with what it describes"
)

TOKEN = "a-token-of-some-length"
SENT = {"Authorization": f"Bearer {TOKEN}"}
PATHS = [*(route.path for route in routes()), "/api/status"]
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def locked(recorded: Warehouse) -> Iterator[str]:
    """A server that asks for a token: what it describes says so."""
    with running(recorded, interval=0, token=TOKEN) as url:
        yield url


@pytest.fixture(scope="module")
def description(locked: str) -> Any:
    """The description, as schemathesis reads it from the server."""
    return schemathesis.openapi.from_url(f"{locked}openapi.json", headers=SENT)


@pytest.fixture(scope="module")
def session(recorded: Warehouse) -> str:
    """A session that there is."""
    return str(recorded.query("SELECT id FROM sessions ORDER BY turn_count DESC, id LIMIT 1")[0]["id"])


def read(schema: Any, values: list[str]) -> Any:
    """What a parameter's values in a query stand for."""
    if schema.get("type") == "array":
        return values
    try:
        return values[-1] if schema.get("type") == "string" else json.loads(values[-1])
    except ValueError:
        return values[-1]


def is_right(url: str, parameters: Iterable[Any]) -> bool:
    """The query of a URL holds only what is described."""
    described = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
    sent = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return sent.keys() <= described.keys() and all(
        jsonschema.Draft202012Validator(described[name]).is_valid(read(described[name], values))
        for name, values in sent.items()
    )


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("path", PATHS)
def test_the_server_keeps_to_its_description(description: Any, session: str, path: str, mode: str) -> None:
    """Right and wrong requests get the statuses and the documents that are described, for real sessions, too."""
    operation = description[path]["GET"]
    if mode == "negative" and not operation.definition.raw.get("parameters"):
        pytest.skip("without parameters there is no wrong request")

    @FEW
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)), known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters = {**case.path_parameters, "session_id": session}
        response = case.call(headers=SENT)
        # What was meant to be wrong may be right as it was sent: with a known id, or for an empty list (which a query
        # does not show) or a single value where a list is due.
        right = is_right(response.request.url, operation.definition.raw.get("parameters", ()))
        excluded = [schemathesis.checks.negative_data_rejection] if right else []
        case.validate_response(response, excluded_checks=excluded)

    ask()


def test_every_route_is_described(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {route.path for route in routes()} | {"/api/status"}
    operations = [path["get"]["operationId"] for path in document["paths"].values()]
    assert len(operations) == len(set(operations))
    assert all(path["get"]["summary"] for path in document["paths"].values())


def test_what_is_described_is_json_schema(api: httpx.Client) -> None:
    for path in api.get("/openapi.json").json()["paths"].values():
        for response in path["get"]["responses"].values():
            jsonschema.Draft202012Validator.check_schema(response["content"]["application/json"]["schema"])
        for parameter in path["get"]["parameters"]:
            jsonschema.Draft202012Validator.check_schema(parameter["schema"])


def test_a_token_is_described_where_there_is_one(api: httpx.Client, locked: str) -> None:
    bare = api.get("/openapi.json").json()
    asking = httpx.get(f"{locked}openapi.json", headers=SENT).json()
    assert "security" not in bare
    assert asking["security"] == [{"token": []}]
    assert "401" in asking["paths"]["/api/sessions"]["get"]["responses"]
    assert "401" not in bare["paths"]["/api/sessions"]["get"]["responses"]
