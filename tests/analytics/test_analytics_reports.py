"""Reports against plain counts over the records, and over the recordings of the real OpenCode."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from analytics_strategies import START, histories
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opencode_layouts import Conversation, database
from opencode_recordings import unpack

from dspy_session.errors import ConfigurationError
from dspy_session.opencode import History, SessionRecord, open_source
from dspy_session.opencode.analytics.filters import Filter
from dspy_session.opencode.analytics.reporting import Report
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.opencode.parts import RetryPart

RECORDINGS = ("v1.18.33", "v1.3.2", "v1.1.65")
KINDS = ("input", "output", "reasoning", "cache_read", "cache_write")
# Each example is a warehouse and some thirty queries: to make a failing one smaller would take minutes.
some = settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
PLAIN = sorted(
    name
    for name, method in inspect.getmembers(Reports, inspect.isfunction)
    if not name.startswith("_") and name not in ("ask", "rlm", "unused_skills")
)


@contextmanager
def written(conversations: list[Conversation]) -> Iterator[tuple[History, Reports]]:
    """A history of these sessions, and reports on it."""
    with tempfile.TemporaryDirectory() as folder:
        path = database(Path(folder) / "opencode.db", *conversations, worktree="/")
        with synced(path) as pair:
            yield pair


@contextmanager
def synced(path: Path) -> Iterator[tuple[History, Reports]]:
    with open_source(path) as history:
        warehouse = Warehouse()
        warehouse.load(history.sessions())
        yield history, Reports(warehouse)
        warehouse.close()


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with synced(unpack(request.param, tmp_path_factory.mktemp("recording"))) as pair:
        yield pair


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with synced(unpack("v1.18.33", tmp_path_factory.mktemp("recording"))) as pair:
        yield pair


def own_steps(history: History) -> list[tuple[SessionRecord, Any]]:
    return [(record, step) for record in history for step in record.steps if not step.copied]


def own_messages(record: SessionRecord) -> list[Any]:
    return list(record.messages[record.copied_messages :])


def own_calls(history: History) -> list[tuple[SessionRecord, Any, int | None, Any]]:
    """Calls of tools with the turn and the message that they belong to."""
    found = []
    for record in history:
        turn_of = {message.id: turn.index for turn in record.turns for message in turn.messages}
        for message in own_messages(record):
            found += [
                (record, message, turn_of.get(message.id), part)
                for part in message.parts
                if part.type == "tool"
            ]
    return found


def check_everything(history: History, reports: Reports) -> None:
    """Each report equals a count over the records."""
    check_models(history, reports)
    check_tools(history, reports)
    check_repeats(history, reports)
    check_skills(history, reports)
    check_sessions(history, reports)
    check_days_and_overview(history, reports)
    check_troubles(history, reports)
    check_todos(history, reports)


def check_models(history: History, reports: Reports) -> None:
    steps = own_steps(history)
    rows = {row.model: row for row in reports.models()}
    assert set(rows) == {step.message.model or None for _, step in steps}
    for name, row in rows.items():
        used = [(record, step) for record, step in steps if (step.message.model or None) == name]
        assert row.calls == len(used)
        assert row.sessions == len({record.id for record, _ in used})
        assert row.cost == pytest.approx(sum(step.cost for _, step in used))
        for kind in KINDS:
            assert getattr(row, f"tokens_{kind}") == sum(getattr(step.tokens, kind) for _, step in used)
        sent = row.tokens_input + row.tokens_cache_read + row.tokens_cache_write
        assert row.cache_hit_rate == (pytest.approx(row.tokens_cache_read / sent) if sent else None)
    failed = sum(m.error is not None for r in history for m in own_messages(r) if m.role == "assistant")
    assert sum(row.errors for row in rows.values()) == failed
    by_day = reports.models_by_day()
    assert sum(row.calls for row in by_day) == len(steps)
    assert sum(row.cost for row in by_day) == pytest.approx(sum(step.cost for _, step in steps))


def check_tools(history: History, reports: Reports) -> None:
    calls = own_calls(history)
    rows = {row.tool: row for row in reports.tools()}
    assert set(rows) == {part.tool for *_, part in calls}
    for name, row in rows.items():
        used = [part for *_, part in calls if part.tool == name]
        assert row.calls == len(used)
        assert row.succeeded == sum(part.succeeded for part in used)
        assert row.unfinished == sum(part.status in ("pending", "running") for part in used)
        assert row.succeeded + row.failed + row.unfinished == row.calls
        assert row.success_rate == pytest.approx(row.succeeded / row.calls)
        codes = Counter(part.exit_code for part in used if part.exit_code is not None)
        assert dict(row.exit_codes or {}) == codes
        times = [round(part.duration * 1000) for part in used if part.duration is not None]
        assert row.total_ms == sum(times)
        assert row.p50_ms == (pytest.approx(median(times)) if times else None)
    formats = reports.edit_formats()
    edits = [(m.model, p) for _, m, _, p in calls if p.tool in ("edit", "write", "apply_patch")]
    assert {(row.model, row.format): (row.attempts, row.succeeded) for row in formats} == {
        key: (len(used), sum(part.succeeded for part in used))
        for key, used in grouped((((model, part.tool), part) for model, part in edits)).items()
    }


def check_repeats(history: History, reports: Reports) -> None:
    same = grouped(
        ((record.id, turn, part.tool, str(sorted(part.input.items()))), part)
        for record, _, turn, part in own_calls(history)
    )
    again = [parts for parts in same.values() if len(parts) > 1]
    rows = reports.repeated_calls()
    assert sorted(row.calls for row in rows) == sorted(len(parts) for parts in again)
    assert sum(row.failed for row in rows) == sum(not p.succeeded for parts in again for p in parts)
    retries = sum(not before.succeeded for parts in again for before in parts[:-1])
    assert sum(row.retries for row in reports.tools()) == retries
    assert sum(row.tool_retries for row in reports.retries()) == retries
    runs = reports.verifications()
    expected = Counter[tuple[str, str]]()
    changing: dict[str, int] = defaultdict(int)
    last: dict[tuple[str, str], int] = {}
    for record, _, _, part in own_calls(history):
        if part.tool in ("edit", "write", "apply_patch") and part.succeeded:
            changing[record.id] += 1
        elif part.tool == "bash":
            key = (record.id, part.input.get("command"))
            expected[key] += key in last and changing[record.id] > last[key]
            last[key] = changing[record.id]
    assert {(row.session_id, row.command): row.after_changes for row in runs} == {
        key: count for key, count in expected.items() if count
    }


def check_skills(history: History, reports: Reports) -> None:
    uses = [
        (record, use)
        for record in history
        for use in record.skills
        if use.message_id in {message.id for message in own_messages(record)}
    ]
    rows = {row.skill: row for row in reports.skills()}
    assert set(rows) == {use.name for _, use in uses}
    attributed: dict[str, list[Any]] = defaultdict(list)
    for record, use in uses:
        turn = next(t for t in record.turns if use.message_id in {m.id for m in t.messages})
        order = [message.id for message in turn.messages]
        place = order.index(use.message_id)
        attributed[use.name] += [s for s in turn.steps if order.index(s.message.id) > place]
    for name, row in rows.items():
        used = [(record, use) for record, use in uses if use.name == name]
        assert row.loads == row.by_tool + row.by_command == len(used)
        assert row.by_command == sum(use.how == "command" for _, use in used)
        assert row.sessions == len({record.id for record, _ in used})
        assert (row.succeeded, row.failed) == (
            sum(use.succeeded for _, use in used),
            sum(not use.succeeded for _, use in used),
        )
        assert row.first_used == moment(min(use.at for _, use in used))
        assert row.last_used == moment(max(use.at for _, use in used))
        assert row.attributed_calls == len(attributed[name])
        assert row.attributed_tokens == sum(step.tokens.total for step in attributed[name])
        assert row.attributed_cost == pytest.approx(sum(step.cost for step in attributed[name]))
    loads = reports.skill_loads()
    assert sum(row.attributed_cost for row in loads) == pytest.approx(
        sum(row.attributed_cost for row in rows.values())
    )
    assert len(loads) == len(uses)
    assert sum(row.loads for row in reports.skills_over_time()) == len(uses)
    assert sum(row.loads for row in reports.skills_by_project()) == len(uses)
    used_well = {use.name for _, use in uses if use.succeeded}
    unused = reports.unused_skills(["alpha", "never", "zeta"])
    assert [row.skill for row in unused] == sorted({"alpha", "never", "zeta"} - used_well)


def check_sessions(history: History, reports: Reports) -> None:
    rows = {row.id: row for row in reports.sessions()}
    records = {record.id: record for record in history}
    assert set(rows) == set(records)
    for record in records.values():
        row = rows[record.id]
        assert row.cost == pytest.approx(record.cost)
        assert row.cost_with_sub_agents == pytest.approx(history.usage(record).cost)
        assert row.sub_agents == len(history.descendants(record))
        live = [turn for turn in record.turns if not turn.copied]
        assert (row.turns, row.turns_reverted) == (
            sum(not turn.reverted for turn in live),
            sum(turn.reverted for turn in live),
        )
        assert row.tokens_cache_read == record.tokens.cache_read
        assert row.is_fork == record.is_fork
    tree = reports.tree()
    assert {row.id for row in tree} == set(records)
    assert sum(row.cost for row in tree if row.depth == 0) <= sum(row.cost for row in rows.values()) + 1e-9
    turns = [turn for record in records.values() for turn in record.turns if not turn.copied]
    assert len(reports.turns()) == len(turns)
    assert sum(row.cost for row in reports.turns()) == pytest.approx(sum(turn.cost for turn in turns))


def check_days_and_overview(history: History, reports: Reports) -> None:
    steps, records = own_steps(history), list(history)
    cost = sum(step.cost for _, step in steps)
    days = reports.cost_by_day()
    assert [row.day for row in days] == sorted({row.day for row in days})
    assert sum(row.cost for row in days) == pytest.approx(cost)
    assert sum(row.calls for row in days) == len(steps)
    row = reports.overview().row
    assert row.sessions == len(records)
    assert row.messages == sum(len(own_messages(record)) for record in records)
    assert row.cost == pytest.approx(cost)
    totals = [record.tokens.total for record in records]
    assert row.mean_tokens == pytest.approx(fmean(totals))
    assert row.median_tokens == pytest.approx(median(totals))
    stored = reports.stored_overview().row
    assert stored.messages == sum(len(record.messages) for record in records)
    every = [step for record in records for step in record.steps]
    assert stored.tokens_output == sum(step.tokens.output for step in every)


def check_troubles(history: History, reports: Reports) -> None:
    messages = [message for record in history for message in own_messages(record)]
    calls = own_calls(history)
    rows = reports.errors()
    named = Counter(message.error.name for message in messages if message.error is not None)
    assert Counter({row.error_class: row.errors for row in rows if row.source == "model"}) == named
    assert sum(row.errors for row in rows if row.source == "tool") == sum(not p.succeeded for *_, p in calls)
    tries = sum(len(message.of(RetryPart)) for message in messages)
    assert sum(row.errors for row in rows if row.source == "retry") == tries
    assert sum(row.provider_retries for row in reports.retries()) == tries
    refused = [p for *_, p in calls if (p.error or "").startswith("Error: The user rejected permission")]
    assert len(reports.rejections()) == len(refused)
    limits: Counter[str] = Counter()
    for row in reports.limits():
        limits[row.limit] += row.times
    assert limits["context"] == named["ContextOverflowError"]
    cut = [
        step
        for _, step in own_steps(history)
        if (step.finish is not None and step.finish.reason == "length")
        or (step.message.error is not None and step.message.error.name == "MessageOutputLengthError")
    ]
    assert limits["output_tokens"] == len(cut)
    assert limits["tool_time"] == sum(p.metadata.get("timeout") is True for *_, p in calls)
    assert len(reports.compactions()) == sum(
        part.type == "compaction" for message in messages for part in message.parts
    )


def check_todos(history: History, reports: Reports) -> None:
    rows = {row.session_id: row for row in reports.todos()}
    assert {name: (row.todos, row.open) for name, row in rows.items()} == {
        record.id: (
            len(record.todos),
            tuple(todo.content for todo in record.todos if todo.status in ("pending", "in_progress")),
        )
        for record in history
        if record.todos
    }


def grouped(pairs: Any) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, timezone.utc).replace(tzinfo=None)


# -- the counts agree --


@some
@given(histories())
def test_reports_of_any_history(conversations: list[Conversation]) -> None:
    with written(conversations) as (history, reports):
        check_everything(history, reports)


def test_reports_of_the_recordings(recording: Any) -> None:
    check_everything(*recording)


def test_the_figures_of_opencode_stats(newest: Any) -> None:
    """What `opencode stats` of 1.18.33 prints for this recording."""
    _, reports = newest
    row = reports.stored_overview().row
    assert (row.sessions, row.messages, row.days) == (28, 133, 1)
    assert (round(row.cost, 2), round(row.cost_per_day, 2)) == (2.16, 2.16)
    assert (round(row.mean_tokens / 1000, 1), round(row.median_tokens / 1000, 1)) == (31.2, 18.0)
    assert (round(row.tokens_input / 1000, 1), round(row.tokens_cache_read / 1000, 1)) == (700.6, 168.4)
    assert round(row.tokens_output / 1000, 1) == 3.7
    calls = {row.tool: row.calls for row in reports.tools()}
    # It counts the one call of `read` twice that a fork copied.
    assert calls["read"] == 10 - 1
    assert {name: calls[name] for name in ("edit", "bash", "skill", "task", "grep")} == {
        "edit": 12,
        "bash": 10,
        "skill": 5,
        "task": 4,
        "grep": 3,
    }


def test_ours_differ_by_what_forks_copied(newest: Any) -> None:
    history, reports = newest
    copied = [step for record in history for step in record.steps if step.copied]
    ours, theirs = reports.overview().row, reports.stored_overview().row
    assert copied
    assert theirs.cost - ours.cost == pytest.approx(sum(step.cost for step in copied))
    assert theirs.tokens_input - ours.tokens_input == sum(step.tokens.input for step in copied)
    assert theirs.messages - ours.messages == sum(record.copied_messages for record in history)


# -- parts add up to the whole --

SUMS = {
    "overview": ("messages", "cost", *(f"tokens_{kind}" for kind in KINDS)),
    "models": ("calls", "errors", "cost", *(f"tokens_{kind}" for kind in KINDS)),
    "tools": ("calls", "succeeded", "failed", "unfinished", "total_ms", "result_chars"),
    "skills": ("loads", "by_tool", "by_command", "succeeded", "failed", "total_ms"),
    "cost_by_day": ("calls", "cost", *(f"tokens_{kind}" for kind in KINDS)),
    "sessions": ("turns", "turns_reverted", "calls", "tool_calls", "errors", "cost", "reverted_cost"),
    "edit_formats": ("attempts", "succeeded"),
    "errors": ("errors",),
    "limits": ("times",),
    "retries": ("provider_retries", "streams_broken"),
}


def sums(reports: Reports) -> dict[str, float]:
    """What is added up in each report."""
    found: dict[str, float] = {}
    for name, columns in SUMS.items():
        report = getattr(reports, name)()
        found |= {f"{name}.{column}": sum(getattr(row, column) for row in report) for column in columns}
    return found


def check_partition(reports: Reports, parts: list[Filter], leave_out: tuple[str, ...] = ()) -> None:
    whole = sums(reports)
    found: Counter[str] = Counter()
    for part in parts:
        found.update(sums(Reports(reports.warehouse, part)))
    for name in whole:
        if name not in leave_out:
            assert found[name] == pytest.approx(whole[name]), name


@some
@given(histories())
def test_sessions_add_up(conversations: list[Conversation]) -> None:
    with written(conversations) as (history, reports):
        check_partition(reports, [Filter(session=record.id) for record in history])


@some
@given(histories(), st.integers(0, 200))
def test_periods_add_up(conversations: list[Conversation], hours: int) -> None:
    cut = START / 1000 + hours * 3600
    with written(conversations) as (_, reports):
        check_partition(reports, [Filter(until=cut), Filter(since=cut)])


@some
@given(histories())
def test_models_add_up(conversations: list[Conversation]) -> None:
    with written(conversations) as (history, reports):
        names = {message.model for record in history for message in record.messages if message.model}
        answered = all(turn.replies for record in history for turn in record.turns)
        # A prompt that was never answered was put to no model.
        prompts = ("sessions.turns", "sessions.turns_reverted", "overview.messages", "skills.loads")
        leave_out = () if answered else (*prompts, "skills.by_command", "skills.succeeded")
        check_partition(reports, [Filter(model=name) for name in names], leave_out)


@some
@given(histories())
def test_projects_add_up(conversations: list[Conversation]) -> None:
    with written(conversations) as (_, reports):
        check_partition(reports, [Filter(project="p1"), Filter(project="p2")])
        by_folder = sums(Reports(reports.warehouse, Filter(project="/work")))
        assert by_folder == pytest.approx(sums(reports))


def test_a_models_id_alone_is_enough(newest: Any) -> None:
    _, reports = newest
    short, long = (
        Reports(reports.warehouse, Filter(model=name)).models() for name in ("lab-small", "lab/lab-small")
    )
    assert short == long
    assert short.row.model == "lab/lab-small"


def test_a_day_of_a_report_is_the_report_of_that_day(newest: Any) -> None:
    _, reports = newest
    for row in reports.cost_by_day():
        began = datetime(row.day.year, row.day.month, row.day.day, tzinfo=timezone.utc).timestamp()
        of_day = Reports(reports.warehouse, Filter(since=began, until=began + 86400)).overview().row
        assert of_day.cost == pytest.approx(row.cost)


def test_a_filter_cannot_be_sql(newest: Any) -> None:
    _, reports = newest
    odd = "' OR 1=1; DROP TABLE sessions; --"
    for field in ("project", "model", "agent", "session"):
        assert Reports(reports.warehouse, Filter(**{field: odd})).sessions().rows == ()
    assert len(reports.sessions()) == 28


def test_a_time_that_is_none(newest: Any) -> None:
    _, reports = newest
    with pytest.raises(ConfigurationError, match="yesterday"):
        Reports(reports.warehouse, Filter(since="yesterday")).skills()


# -- what a report is --


@pytest.mark.parametrize("name", PLAIN)
def test_every_report_explains_and_shows_itself(name: str, newest: Any) -> None:
    _, reports = newest
    report: Report[Any] = getattr(reports, name)()
    assert report.name == name
    assert all(each.doc for each in report.columns)
    assert [each.name for each in report.columns] == [f.name for f in dataclasses.fields(report.row_type)]
    assert report.title in str(report)
    page = report._repr_html_()
    assert page.count("<tr>") == len(report) + 1
    for row in report.to_dicts():
        assert list(row) == [each.name for each in report.columns]


def test_a_table_is_safe_to_show(tmp_path: Path) -> None:
    odd = Conversation(
        {
            "id": "ses_1",
            "slug": "s",
            "projectID": "p",
            "directory": "/work",
            "title": "<script>alert(1)</script>\x1b[31m\nred",
            "version": "1.18.33",
            "time": {"created": START, "updated": START},
        }
    )
    with synced(database(tmp_path / "opencode.db", odd)) as (_, reports):
        report = reports.sessions()
    assert "<script>" not in report._repr_html_()
    assert "\x1b" not in str(report)
    assert len(str(report).splitlines()) == 5


def test_an_empty_history(tmp_path: Path) -> None:
    with synced(database(tmp_path / "opencode.db")) as (_, reports):
        for name in PLAIN:
            report = getattr(reports, name)()
            assert len(report) == (1 if "overview" in name else 0)
            assert str(report)
        assert reports.overview().row.cost == 0


def test_what_was_skipped_is_counted(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"info": {"id": "ses_x"')
    unpack("v1.18.33", tmp_path)
    warehouse = Warehouse()
    warehouse.sync(tmp_path)
    assert Reports(warehouse).models().skipped >= 1
    assert Reports(warehouse, Filter(project="second")).models().skipped == 0
    warehouse.close()
