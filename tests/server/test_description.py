"""The OpenAPI description: that it is one, and that the server keeps to it, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
        excluded = []
        if known and case.path_parameters:
            case.path_parameters = {**case.path_parameters, "session_id": session}
            # What was meant to be refused for its id is not, with the right one.
            excluded.append(schemathesis.checks.negative_data_rejection)
        case.call_and_validate(headers=SENT, excluded_checks=excluded)

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
