"""What a filter can be set to: the projects, models and agents of a warehouse."""

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
