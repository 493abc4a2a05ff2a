"""All reports in one place."""

from __future__ import annotations

from dspy_session.opencode.analytics.model_reports import ModelReports
from dspy_session.opencode.analytics.session_reports import SessionReports
from dspy_session.opencode.analytics.skill_reports import SkillReports
from dspy_session.opencode.analytics.tool_reports import ToolReports
from dspy_session.opencode.analytics.trouble_reports import TroubleReports


class Reports(SessionReports, SkillReports, ToolReports, ModelReports, TroubleReports):
    """Reports on OpenCode's history: one method a question.

        warehouse = Warehouse()
        warehouse.sync()
        print(Reports(warehouse, Filter(since="2026-01-01")).skills())

    What a fork copied from another session is counted there alone. What the user undid was paid for all the
    same: it counts in calls, tokens and cost, but no undone turn counts as a success.

    Args:
        warehouse: a `Warehouse` that was synced.
        filter: which part of the history; all of it by default.
    """
