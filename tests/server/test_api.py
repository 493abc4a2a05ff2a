"""The HTTP API: every route over the recordings, what it refuses, and what it never gives away."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from dspy_session.opencode.analytics._part_rows import SUMMARY
from dspy_session.opencode.analytics.answers import Answers
from dspy_session.opencode.analytics.filters import Filter
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.turn_pages import LONGEST, LONGEST_TITLE
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.server import running
from dspy_session.server._answering import etag_of
from dspy_session.server._routes import routes
from tests.server.histories import conversation, served, written

SECRET = "sk-ant-api03-0123456789abcdefABCDEF"
OF_SESSION = [route for route in routes() if route.of_session]
OTHERS = [route for route in routes() if not route.of_session]
UNTIMED = ("generated_at",)


def named(route: object) -> str:
    return str(getattr(route, "name", route))


def without_times(value: object) -> object:
    """An answer without the moment at which it was made."""
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if name not in UNTIMED}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def sessions(api: httpx.Client) -> list[str]:
    return [row["id"] for row in api.get("/api/sessions?limit=1000").json()["data"]["sessions"]]


@pytest.mark.parametrize("route", OF_SESSION, ids=named)
def test_every_question_is_answered_for_every_recorded_session(api: httpx.Client, route: object) -> None:
    for session in sessions(api):
        answer = api.get(route.path.format(session_id=session))
        assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text
        assert answer.json()["data"]["meta"]["session_id"] == session


@pytest.mark.parametrize("route", OTHERS, ids=named)
def test_every_list_and_report_is_answered(api: httpx.Client, route: object) -> None:
    needed = {each.name: "x" for each in route.parameters if each.many}
    answer = api.get(route.path, params=needed)
    assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text


@pytest.mark.parametrize("question", ["reasoning", "steps", "git-history", "precise-cost"])
def test_answers_are_those_of_the_library(api: httpx.Client, recorded: Warehouse, question: str) -> None:
    ask = getattr(Answers(recorded), f"get_session_{question.replace('-', '_')}")
    for session in sessions(api):
        data = api.get(f"/api/session/{session}/{question}").json()["data"]
        assert without_times(data) == without_times(json.loads(json.dumps(ask(session))))


def test_reports_are_those_of_the_library(api: httpx.Client, recorded: Warehouse) -> None:
    given = {"project": "shelf", "model": "lab/lab-large", "agent": "build", "since": "2026-11-01"}
    expected = Reports(
        recorded, Filter("shelf", since="2026-11-01", model="lab/lab-large", agent="build")
    ).tools()
    data = api.get("/api/reports/tools", params=given).json()["data"]
    assert data["rows"] == json.loads(json.dumps(expected.to_dicts()))
    assert [column["name"] for column in data["columns"]] == [column.name for column in expected.columns]
    assert data["rows"]


def test_days_count_back_from_now(api: httpx.Client) -> None:
    since = api.get("/api/reports/overview", params={"days": 36_500}).json()["data"]["rows"][0]["sessions"]
    assert since == api.get("/api/reports/overview").json()["data"]["rows"][0]["sessions"] > 0


def test_lists_come_in_pages(api: httpx.Client) -> None:
    whole = sessions(api)
    paged = []
    for offset in range(0, len(whole), 7):
        data = api.get("/api/sessions", params={"limit": 7, "offset": offset}).json()["data"]
        assert data["meta"]["count"] == len(whole)
        paged += [row["id"] for row in data["sessions"]]
    assert paged == whole
    rows = api.get("/api/reports/tools").json()["data"]["rows"]
    assert api.get("/api/reports/tools?offset=2&limit=3").json()["data"]["rows"] == rows[2:5]


def test_sessions_are_searched_ordered_and_nested(api: httpx.Client) -> None:
    found = api.get("/api/sessions?search=SURVEY").json()["data"]["sessions"]
    assert found
    assert all("survey" in row["title"].lower() for row in found)
    costs = [
        row["cost_with_sub_agents"] for row in api.get("/api/sessions?order=cost").json()["data"]["sessions"]
    ]
    assert costs == sorted(costs, reverse=True)
    tree = api.get("/api/sessions?tree=true&limit=1000").json()["data"]["sessions"]
    children = {row["id"]: [child["parent_id"] for child in row["children"]] for row in tree}
    assert any(children.values())
    assert all(parent == session for session, parents in children.items() for parent in parents)


def test_sessions_that_started_each_other_are_in_the_tree_all_the_same(tmp_path: Path) -> None:
    pairs = [(1, 1), (2, 3), (3, 4), (4, 2), (5, 4), (6, 6), (7, None)]
    named = [conversation(one, parent=None if of is None else f"ses_{of:04d}") for one, of in pairs]
    with served(written(tmp_path, *named)) as url:
        answer = httpx.get(f"{url}api/sessions?tree=true").json()
        assert httpx.get(f"{url}api/session/ses_0001").status_code == 200
    found: list[str] = []
    waiting = answer["data"]["sessions"]
    while waiting:
        row = waiting.pop()
        found.append(row["id"])
        waiting += row["children"]
    assert sorted(found) == [f"ses_{one:04d}" for one, _ in pairs]


def test_sub_agents_of_any_depth_are_told(tmp_path: Path) -> None:
    deep = [conversation(one, parent=f"ses_{one - 1:04d}" if one else None) for one in range(250)]
    with served(written(tmp_path, *deep)) as url:
        answer = httpx.get(f"{url}api/sessions?tree=true", timeout=60)
    assert answer.status_code == 200
    found, waiting = [], answer.json()["data"]["sessions"]
    while waiting:
        row = waiting.pop()
        found.append(row["id"])
        waiting += row["children"]
    assert sorted(found) == [f"ses_{one:04d}" for one in range(250)]


def test_turns_hold_all_parts_of_a_session_once(api: httpx.Client, recorded: Warehouse) -> None:
    for session in sessions(api):
        parts: list[str] = []
        count = api.get(f"/api/session/{session}").json()["data"]["meta"]["count"]
        for offset in range(max(count, 1)):
            answer = api.get(f"/api/session/{session}/turns", params={"offset": offset, "limit": 1})
            page = answer.json()["data"]
            for turn in page["turns"]:
                steps = [step for message in turn["messages"] for step in message["steps"]]
                parts += [part["id"] for step in steps for part in step["parts"]]
                # What a compaction costs is no turn's.
                spent = sum(step["cost"] for step in steps if step.get("cost") and not step["is_summary"])
                assert spent == pytest.approx(turn["cost"])
        stored = recorded.query(
            "SELECT id FROM parts WHERE session_id = $id AND part_type NOT LIKE 'step-%' ORDER BY seq",
            {"id": session},
        )
        assert parts == [row["id"] for row in stored]


def test_an_unknown_session_is_not_found(api: httpx.Client) -> None:
    for route in OF_SESSION:
        answer = api.get(route.path.format(session_id="ses_nobody"))
        assert (answer.status_code, answer.json()["success"]) == (404, False)
        assert "ses_nobody" in answer.json()["error"]


def test_compatible_servers_answer_for_unknown_sessions(recorded: Warehouse) -> None:
    with running(recorded, interval=0, compatible=True) as url:
        answer = httpx.get(f"{url}api/session/ses_nobody/steps")
    assert answer.status_code == 200
    assert answer.json()["data"]["meta"]["error"]
    assert answer.json()["data"]["summary"]["total_steps"] == 0


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/sessions?limit=0", "limit"),
        ("/api/sessions?limit=many", "whole number"),
        ("/api/sessions?limit=1&limit=2", "given 2 times"),
        ("/api/sessions?limti=1", "there are project, since"),
        ("/api/sessions?since=yesterday", "2026-10-01"),
        ("/api/sessions?since=2026-02-30", "calendar"),
        ("/api/sessions?until=2026-01-01T25:00:00Z", "time of the day"),
        ("/api/sessions?order=id", "one of created"),
        ("/api/sessions?tree=yes", "true or false"),
        ("/api/sessions?project=", "1 to 500"),
        ("/api/sessions?search=" + "x" * 501, "1 to 500"),
        ("/api/sessions?search=%00", "NUL"),
        ("/api/reports/tools?days=-1", "days"),
        ("/api/session/x/steps?limit=1", "there are none here"),
        ("/api/health?x=1", "there are none here"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(api: httpx.Client, path: str, told: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert told in answer.json()["error"]


def test_unknown_paths_and_methods(api: httpx.Client) -> None:
    assert api.get("/api/nothing").status_code == 404
    assert api.get("/api/session/ses_1/nothing").json()["success"] is False
    assert "overview" in api.get("/api/reports/nothing").json()["error"]
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = api.request(method, "/api/sessions")
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


def test_a_failure_shows_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    with Warehouse() as broken, running(broken, interval=0) as url:
        broken.query("DROP TABLE turns")
        answer = httpx.get(f"{url}api/sessions")
    assert answer.status_code == 500
    assert answer.json() == {"success": False, "error": "the server failed to answer; its log says how"}
    assert "sessions failed" in caplog.text


@pytest.mark.parametrize(
    "session",
    ["' OR 1=1 --", "x'; DROP TABLE sessions; --", "$session", "%", "ses_%", "\\", "🙂", "{session_id}"],
)
def test_nothing_that_a_client_sends_becomes_sql(api: httpx.Client, session: str) -> None:
    before = sessions(api)
    assert api.get(f"/api/session/{quote(session, safe='')}/steps").status_code == 404
    for name in ("project", "model", "agent", "search"):
        answer = api.get("/api/sessions", params={name: session})
        assert answer.status_code == 200
        assert len(answer.json()["data"]["sessions"]) < len(before)
    assert sessions(api) == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/..\\app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/index.html%00.js",
        "/static/",
        "/static/..",
        "/../pyproject.toml",
        "/api/session/../../etc/passwd",
    ],
)
def test_paths_lead_nowhere_but_to_the_dashboards_files(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    # Neither side tidies this path up.
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"import" not in body
    assert b"root:" not in body


def test_unchanged_answers_need_not_be_sent_again(tmp_path: Path) -> None:
    with (
        running(written(tmp_path, conversation(1)), interval=3600) as url,
        httpx.Client(base_url=url) as client,
    ):
        first = client.get("/api/sessions")
        again = client.get("/api/sessions", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = client.get("/api/sessions?limit=1", headers={"If-None-Match": first.headers["etag"]})
        assert other.status_code == 200
        page = client.get("/static/app.js")
        assert (
            client.get("/static/app.js", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
        )


def test_what_counts_back_from_now_is_named_so_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for query in ("days=1", "d%61ys=1", "limit=1&%64%61%79%73=1"):
        names = set()
        for minute in (1, 2):
            monkeypatch.setattr("time.time", lambda minute=minute: 60.0 * minute)
            names.add(etag_of("r", "/api/sessions", query))
        assert len(names) == 2, query


def test_heads_can_be_asked_for(api: httpx.Client) -> None:
    for path in ("/", "/api/health", "/api/sessions", "/static/app.js", "/openapi.json"):
        answer = api.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


def test_every_answer_bears_the_headers_that_keep_others_out(api: httpx.Client) -> None:
    for path in (
        "/",
        "/static/app.js",
        "/api/sessions",
        "/api/nothing",
        "/api/sessions?limit=x",
        "/openapi.json",
    ):
        headers = api.get(path, headers={"Origin": "http://evil.example"}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control-")]


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A history with a key in a prompt, a thought, a command, its output, a diff, and a reply."""
    said = f"my key is {SECRET}"
    return written(tmp_path, conversation(1, said, prompt=said, thought=said, reply=said, secret=SECRET))


def everything(url: str) -> Iterator[str]:
    for route in routes():
        yield httpx.get(url[:-1] + route.path.format(session_id="ses_0001"), timeout=60).text


def test_no_answer_gives_away_a_secret(leaky: Path) -> None:
    with served(leaky) as url:
        answers = "".join(everything(url))
    assert SECRET not in answers
    assert "[redacted:" in answers


def test_sub_agents_of_sub_agents_without_end(tmp_path: Path) -> None:
    chain = [conversation(n, parent=f"ses_{n - 1:04d}" if n else None) for n in range(300)]
    with served(written(tmp_path, *chain)) as url:
        found = httpx.get(f"{url}api/session/ses_0000/delegations", timeout=60)
        told = httpx.get(f"{url}api/session/ses_0000/delegation-timeline", timeout=60)
    answer = found.json()["data"]
    assert answer["summary"]["max_depth"] == answer["summary"]["total_delegations"] == 299
    node, levels = answer["tree"], 0
    while node["children"]:
        (node,), levels = node["children"], levels + 1
    assert levels == 50
    assert told.json()["data"]["meta"]["count"] == 299


def test_no_cut_leaves_half_a_secret(tmp_path: Path) -> None:
    """The host of the URL, and so the sign that there is a password in it, comes after the cut."""
    sessions = []
    for longest in (LONGEST_TITLE, SUMMARY, LONGEST):
        for before in (0, 12, 24, 36):
            said = "word " * (longest // 5) + "and more"
            said = f"{said[: longest - before]} https://ann:horse-battery-staple-8f2e6a@db.example/stock"
            texts = {"prompt": said, "thought": said, "reply": said, "secret": said}
            sessions.append(conversation(len(sessions), **texts))
    with served(written(tmp_path, *sessions)) as url:
        for each in sessions:
            path = f"{url}api/session/{each.id}"
            answers = [httpx.get(path + view).text for view in ("", "/turns")]
            assert "horse" not in "".join(answers)
            assert all("word word" in answer for answer in answers)


def test_secrets_can_be_left_in(leaky: Path) -> None:
    with served(leaky, redact=False) as url:
        turns = httpx.get(f"{url}api/session/ses_0001/turns").json()["data"]["turns"]
    assert json.dumps(turns).count(SECRET) >= 6


def test_dates_of_the_first_and_last_years_are_read(api: httpx.Client) -> None:
    for day in (date.min, date.max):
        for zone in ("", "T00:00:00Z", "T23:59:60.123456789+23:59", "T00:00:00-23:59"):
            assert api.get("/api/sessions", params={"since": f"{day}{zone}"}).status_code == 200
