"""All reports in one place."""

from __future__ import annotations

from typing import Any

from dspy_session.opencode.analytics.model_reports import ModelReports
from dspy_session.opencode.analytics.reporting import Report
from dspy_session.opencode.analytics.rlm import RlmRow, rlm_report
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

    def rlm(self, turns: Any, *, chunks: str | None = None) -> Report[RlmRow]:
        """What recursive language models did, by the calls that a session recorded: see `rlm_report`.

        OpenCode's history holds nothing of it, so neither warehouse nor filter are asked.
        """
        return rlm_report(turns, chunks=chunks)
