"""The public API of the analytics, used as its types say: two strict type checkers read this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspy_session import Session
from dspy_session.opencode.analytics import (
    Answers,
    Filter,
    Report,
    Reports,
    SyncReport,
    Warehouse,
    known_skills,
    load_metrics,
    rlm_report,
)


def keeping(path: Path) -> None:
    with Warehouse(path, read_only=False, wait=3.0) as warehouse:
        done: SyncReport = warehouse.sync("opencode.db", progress=lambda read, of: print(read, of))
        numbers: tuple[int, ...] = (done.seen, done.read, done.unchanged, done.failed, done.missing)
        print(numbers, done.rows, done.reasoning, done.skipped, done.seconds, done.loaded)
        rows: list[dict[str, Any]] = warehouse.query(
            "SELECT id FROM sessions WHERE id = $id", {"id": "ses_1"}
        )
        files: tuple[Path, ...] = warehouse.to_parquet("parquet")
        merged: int = warehouse.merge("other")
        print(rows, files, merged, warehouse.skipped)
    both = Warehouse.from_parquet("parquet", "other", path=None)
    both.close()


def asking(warehouse: Warehouse, session: Session) -> None:
    some = Filter(
        project=".", since="2026-01-01", until=None, model="lab/large", agent="build", session="ses_1"
    )
    reports = Reports(warehouse, some)
    for row in reports.sessions():
        cost: float | None = row.cost
        print(row.id, cost)
    every: list[Report[Any]] = [
        *(
            reports.tree(),
            reports.turns(),
            reports.cost_by_day(),
            reports.overview(),
            reports.stored_overview(),
        ),
        *(reports.skills(), reports.skill_loads(), reports.unused_skills(known_skills(".", home=None))),
        *(reports.skills_over_time(), reports.skills_by_project(), reports.todos(), reports.retries()),
        *(reports.tools(), reports.repeated_calls(), reports.verifications(), reports.edit_formats()),
        *(reports.models(), reports.models_by_day(), reports.errors(), reports.rejections()),
        *(reports.compactions(), reports.limits(), reports.rlm(session), rlm_report(session, chunks=None)),
    ]
    for report in every:
        told: list[dict[str, Any]] = report.to_dicts()
        names: list[str] = [column.name for column in report.columns]
        print(report.name, report.title, report.row_type, report.rows, report.skipped, told, names)
        print(report.shown(names), report.numeric, report.plot(), len(report))
    print(reports.overview().row)


def answering(warehouse: Warehouse) -> None:
    answers = Answers(warehouse)
    found: list[Any] = [
        answers.get_session_reasoning("ses_1", strict=False),
        answers.get_session_steps("ses_1"),
        answers.get_session_git_history("ses_1"),
        answers.get_session_precise_cost("ses_1"),
        answers.get_session_file_parts("ses_1"),
        answers.get_session_summary("ses_1"),
        answers.get_session_tokens("ses_1"),
        answers.get_session_tools("ses_1"),
        answers.get_session_files("ses_1"),
        answers.get_session_agents("ses_1"),
        answers.get_session_prompts("ses_1"),
        answers.get_session_messages("ses_1"),
        answers.get_session_exchanges("ses_1"),
        answers.get_session_timeline("ses_1"),
        answers.get_session_full_timeline("ses_1"),
        answers.get_session_delegations("ses_1"),
        answers.get_session_delegation_timeline("ses_1"),
        answers.get_session_skills("ses_1"),
        answers.get_skill_usage_stats("."),
    ]
    print(found)


def measured() -> None:
    metrics = load_metrics("metrics.json")
    rate: float | None = metrics.rlm.accuracy
    stats: list[dict[str, Any]] = metrics.skill_stats().to_dicts()
    print(
        rate,
        stats,
        metrics.best_format("lab/large"),
        metrics.skills,
        metrics.edits,
        metrics.intents.confidence,
    )
