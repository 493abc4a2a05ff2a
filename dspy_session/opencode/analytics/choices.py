"""What a warehouse holds, in brief: the projects, models and agents to filter by, and a name for its state."""

from __future__ import annotations

from typing import Any

from dspy_session.opencode.analytics.asking import Tables
from dspy_session.opencode.analytics.filters import sql
from dspy_session.opencode.analytics.reporting import jsonable


def choices(warehouse: Tables) -> dict[str, Any]:
    """The projects (`id`, `name`, `worktree`, `sessions`), models and agents, the busiest first; and the time
    of the first and the last session.
    """
    found = warehouse.query(sql("choices"))[0]
    return {name: jsonable(value) for name, value in found.items()}


def state(warehouse: Tables) -> str:
    """Names what the warehouse holds: another name, if a sync of any process has read sessions since."""
    found = warehouse.query(sql("state"))[0]
    return f"{found['sessions']}.{found['state']:x}"
