"""Reports on models: what they took and how they did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from dspy_session.opencode.analytics.asking import Asking
from dspy_session.opencode.analytics.reporting import Report, column


@dataclass(frozen=True)
class ModelRow:
    """A model."""

    model: str | None = column("provider/model; empty where it was not recorded")
    calls: int = column("calls, undone ones and those for compactions included")
    sessions: int = column("sessions that called it")
    errors: int = column("calls that ended with an error")
    retried: int = column("calls that were made again because the stream had broken off")
    cut_off: int = column("calls that ended at the limit of output tokens")
    tokens_input: int = column("tokens sent and not served from a cache", "tokens")
    tokens_output: int = column("tokens written, reasoning excluded", "tokens")
    tokens_reasoning: int = column("tokens thought", "tokens")
    tokens_cache_read: int = column("tokens sent and served from a cache", "tokens")
    tokens_cache_write: int = column("tokens sent and written to a cache", "tokens")
    cache_hit_rate: float | None = column("cache_read / (input + cache_read + cache_write)", "share")
    cost: float = column("as OpenCode stored it; 0 where the provider bills by subscription", "USD")
    doubtful_costs: int = column("calls whose stored cost is known to be wrong, or cannot be judged")


@dataclass(frozen=True)
class ModelDayRow:
    """A model on a day of UTC."""

    day: date = column("the day (UTC) on which the turns began")
    model: str | None = column("provider/model")
    calls: int = column("calls")
    tokens: int = column("tokens of all kinds", "tokens")
    cost: float = column("cost", "USD")


class ModelReports(Asking):
    """Reports on models."""

    def models(self) -> Report[ModelRow]:
        """The models, the dearest first.

        `cache_hit_rate` is the share of all tokens sent that a cache served. Tokens that were written to a
        cache were sent as well, so they are in the denominator.
        """
        return self._report("models", "Models", ModelRow)

    def models_by_day(self) -> Report[ModelDayRow]:
        """Models by the days (UTC) on which the turns began, in order."""
        return self._report("models_by_day", "Models by day", ModelDayRow)
