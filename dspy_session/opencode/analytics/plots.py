"""Charts of reports, by Altair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dspy_session.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from altair import Chart as Chart

    from dspy_session.opencode.analytics.reporting import Report


def chart(report: Report[Any]) -> Chart:
    """The chart of a report.

    Raises:
        ConfigurationError: this report has no chart; names those that do.
        MissingExtraError: Altair is not installed.
    """
    drawn = CHARTS.get(report.name)
    if drawn is None:
        raise ConfigurationError(f"the report {report.name!r} has no chart; these have: {', '.join(CHARTS)}")
    try:
        import altair
    except ImportError:
        raise MissingExtraError("altair", "plots") from None
    made: Chart = drawn(altair, altair.Data(values=report.to_dicts()))
    return made.properties(title=report.title)


def _day(alt: Any) -> Any:
    # Without `utc`, a day would be shown as the day before it to everybody west of Greenwich.
    axis = alt.Axis(format="%b %d", labelOverlap=True)
    return alt.X("utcyearmonthdate(day):T", title="day (UTC)", scale=alt.Scale(type="utc"), axis=axis)


def _by_day(alt: Any, data: Any, y: Any, tooltip: list[str], color: str | None = None) -> Any:
    """Bars by day, stacked by `color` where one is given."""
    stacked = {} if color is None else {"color": alt.Color(f"{color}:N", title=None)}
    return alt.Chart(data, width=600).mark_bar().encode(x=_day(alt), y=y, tooltip=tooltip, **stacked)


def _cost_by_day(alt: Any, data: Any) -> Any:
    told = ["day:N", "cost:Q", "sessions:Q", "turns:Q", "calls:Q"]
    return _by_day(alt, data, alt.Y("cost:Q", title="cost (USD)"), told)


def _models_by_day(alt: Any, data: Any) -> Any:
    told = ["day:N", "model:N", "cost:Q", "calls:Q", "tokens:Q"]
    return _by_day(alt, data, alt.Y("cost:Q", title="cost (USD)"), told, "model")


def _skills_over_time(alt: Any, data: Any) -> Any:
    loads = alt.Y("loads:Q", axis=alt.Axis(tickMinStep=1))
    return _by_day(alt, data, loads, ["day:N", "skill:N", "loads:Q", "sessions:Q"], "skill")


def _tools(alt: Any, data: Any) -> Any:
    return (
        alt.Chart(data)
        .transform_fold(["succeeded", "failed", "unfinished"], as_=["outcome", "count"])
        .mark_bar()
        .encode(
            x=alt.X("sum(count):Q", title="calls", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("tool:N", title=None, sort=alt.EncodingSortField("calls", order="descending")),
            color=_outcome(alt, ["succeeded", "failed", "unfinished"]),
            tooltip=["tool:N", "outcome:N", "count:Q"],
        )
    )


def _skills(alt: Any, data: Any) -> Any:
    return (
        alt.Chart(data)
        .transform_fold(["succeeded", "failed"], as_=["outcome", "count"])
        .mark_bar()
        .encode(
            x=alt.X("sum(count):Q", title="loads", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("skill:N", title=None, sort=alt.EncodingSortField("loads", order="descending")),
            color=_outcome(alt, ["succeeded", "failed"]),
            tooltip=["skill:N", "outcome:N", "count:Q", "sessions:Q"],
        )
    )


def _models(alt: Any, data: Any) -> Any:
    kinds = ["input", "cache_read", "cache_write", "output", "reasoning"]
    return (
        alt.Chart(data)
        .transform_fold([f"tokens_{kind}" for kind in kinds], as_=["column", "count"])
        .transform_calculate(kind="substring(datum.column, 7)", place=f"indexof({kinds}, datum.kind)")
        .mark_bar()
        .encode(
            x=alt.X("sum(count):Q", title="tokens"),
            y=alt.Y("model:N", title=None, sort=alt.EncodingSortField("cost", order="descending")),
            color=alt.Color("kind:N", title=None, sort=kinds),
            order=alt.Order("place:Q"),
            tooltip=["model:N", "kind:N", "count:Q", "cost:Q"],
        )
    )


def _outcome(alt: Any, names: list[str]) -> Any:
    # Blue, orange and grey can be told apart by people who cannot tell red from green.
    colours = ["#4c78a8", "#f58518", "#bab0ac"][: len(names)]
    return alt.Color("outcome:N", title=None, scale=alt.Scale(domain=names, range=colours))


CHARTS: dict[str, Callable[[Any, Any], Any]] = {
    "cost_by_day": _cost_by_day,
    "tools": _tools,
    "skills": _skills,
    "skills_over_time": _skills_over_time,
    "models": _models,
    "models_by_day": _models_by_day,
}
"""The reports that have a chart."""
