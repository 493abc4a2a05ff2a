"""Reports on skills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dspy_session.opencode.analytics.asking import Asking
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class SkillRow:
    """A skill.

    What is attributed to it is what the model took between a load and the end of the load's turn. That is no
    measurement of the skill: other things were done in the turn as well, and two skills of one turn are both
    given what came after both.
    """

    skill: str = column("the skill")
    loads: int = column("how often it was loaded, or asked for in vain; undone turns included")
    by_tool: int = column("of these, by the model")
    by_command: int = column("of these, by the user's slash command")
    sessions: int = column("sessions that loaded it")
    succeeded: int = column("loads that found it")
    failed: int = column("loads that did not")
    success_rate: float = column("succeeded / loads", "share")
    first_used: datetime | None = column("when it was first loaded (UTC)")
    last_used: datetime | None = column("when it was last loaded (UTC)")
    total_ms: int = column("time that loading took, by the model's calls", "ms")
    mean_ms: float | None = column("time of a load, on average", "ms")
    p50_ms: float | None = column("time of a load, the median", "ms")
    p90_ms: float | None = column("time that 90% of the loads keep within", "ms")
    p95_ms: float | None = column("time that 95% of the loads keep within", "ms")
    attributed_calls: int = column("attribution: calls of the model after a load, in its turn")
    attributed_tokens: int = column("attribution: tokens of all kinds of these calls", "tokens")
    attributed_cost: float = column("attribution: cost of these calls", "USD")


class SkillReports(Asking):
    """Reports on skills."""

    def skills(self) -> Report[SkillRow]:
        """The skills, the most loaded first. Percentiles are interpolated between neighbours."""
        return self._report("skills", "Skills", SkillRow)
