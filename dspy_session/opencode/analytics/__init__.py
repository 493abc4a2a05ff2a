"""Questions about OpenCode's history, answered: reports over tables that are kept in step with it.

    from dspy_session.opencode.analytics import Filter, Reports, Warehouse

    with Warehouse("history.duckdb") as warehouse:
        warehouse.sync()
        print(Reports(warehouse, Filter(since="2026-01-01")).skills())

Read in this order: `tables` (what is kept, as data), `rows` (how a session's record becomes rows), `warehouse`
and `sync` (how they get there), `filters` and `reports` (questions on many sessions), `answers` (questions on
one), `parquet_files` (for other programs and machines), `plots`. The SQL of each question is a file of its
own under `sql/`. Needs the extra `analytics`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_session.opencode.analytics.answers import Answers as Answers
    from dspy_session.opencode.analytics.filters import Filter as Filter
    from dspy_session.opencode.analytics.reporting import Report as Report
    from dspy_session.opencode.analytics.reports import Reports as Reports
    from dspy_session.opencode.analytics.rlm import rlm_report as rlm_report
    from dspy_session.opencode.analytics.skill_files import known_skills as known_skills
    from dspy_session.opencode.analytics.sync import SyncReport as SyncReport
    from dspy_session.opencode.analytics.telemetry_file import load_metrics as load_metrics
    from dspy_session.opencode.analytics.warehouse import Warehouse as Warehouse

_HOME = {
    "Answers": "answers",
    "Filter": "filters",
    "Report": "reporting",
    "Reports": "reports",
    "SyncReport": "sync",
    "Warehouse": "warehouse",
    "known_skills": "skill_files",
    "load_metrics": "telemetry_file",
    "rlm_report": "rlm",
}
__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
