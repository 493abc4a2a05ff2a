"""Reports on skills."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

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


@dataclass(frozen=True)
class SkillLoadRow:
    """One load of a skill. What is attributed to it is told at `SkillRow`."""

    skill: str = column("the skill")
    session_id: str = column("the session")
    session_title: str = column("the session's title")
    project: str | None = column("the last name of the project's root folder")
    turn_index: int | None = column("the turn, from 0")
    how: str = column("tool if the model loaded it, command if the user did")
    agent: str | None = column("the agent")
    model: str | None = column("provider/model")
    loaded_at: datetime | None = column("when (UTC)")
    duration_ms: int | None = column("how long loading took, for the model's calls", "ms")
    succeeded: bool = column("it was there")
    folder: str | None = column("where the skill lies, where that is recorded")
    turn_succeeded: bool | None = column("whether the turn did what was asked, as far as can be told")
    reverted: bool = column("the user undid it")
    attributed_calls: int = column("attribution: calls of the model after the load, in its turn")
    attributed_tokens: int = column("attribution: tokens of all kinds of these calls", "tokens")
    attributed_cost: float = column("attribution: cost of these calls", "USD")


@dataclass(frozen=True)
class UnusedSkillRow:
    """A skill that nobody loaded."""

    skill: str = column("the skill")


@dataclass(frozen=True)
class SkillDayRow:
    """A skill on a day of UTC."""

    day: date = column("the day (UTC) on which the turns began")
    skill: str = column("the skill")
    loads: int = column("how often it was loaded, or asked for in vain")
    succeeded: int = column("loads that found it")
    sessions: int = column("sessions that loaded it")
    mean_ms: float | None = column("time of a load, on average", "ms")


@dataclass(frozen=True)
class SkillProjectRow:
    """A skill in a project."""

    skill: str = column("the skill")
    project: str | None = column("the last name of the project's root folder")
    loads: int = column("how often it was loaded there, or asked for in vain")
    succeeded: int = column("loads that found it")
    sessions: int = column("sessions of the project that loaded it")
    share_of_sessions: float = column("of all sessions of the project", "share")
    projects: int = column("projects that loaded the skill at all")
    first_used: datetime | None = column("when it was first loaded there (UTC)")
    last_used: datetime | None = column("when it was last loaded there (UTC)")


class SkillReports(Asking):
    """Reports on skills."""

    def skills(self) -> Report[SkillRow]:
        """The skills, the most loaded first. Percentiles are interpolated between neighbours."""
        return self._report("skills", "Skills", SkillRow)

    def skill_loads(self) -> Report[SkillLoadRow]:
        """Every load of a skill, the latest first."""
        return self._report("skill_loads", "Loads of skills", SkillLoadRow)

    def unused_skills(self, known: Iterable[str]) -> Report[UnusedSkillRow]:
        """The skills that were never loaded, by name.

        Args:
            known: the names of those that there are; `known_skills()` finds them in folders. OpenCode does not
                record which skills it had on offer.
        """
        return self._report("unused_skills", "Skills never loaded", UnusedSkillRow, known=list(known))

    def skills_over_time(self) -> Report[SkillDayRow]:
        """Skills by the days (UTC) on which they were loaded, in order."""
        return self._report("skills_over_time", "Skills over time", SkillDayRow)

    def skills_by_project(self) -> Report[SkillProjectRow]:
        """Skills by project: which are used in one alone, and which everywhere."""
        return self._report("skills_by_project", "Skills by project", SkillProjectRow)
