"""Charts: they hold the report's figures, and can be drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from opencode_recordings import unpack

from dspy_session.errors import ConfigurationError, MissingExtraError
from dspy_session.opencode.analytics.plots import CHARTS
from dspy_session.opencode.analytics.reports import Reports
from dspy_session.opencode.analytics.warehouse import Warehouse


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reports]:
    warehouse = Warehouse()
    warehouse.sync(unpack("v1.18.33", tmp_path_factory.mktemp("recording")))
    yield Reports(warehouse)
    warehouse.close()


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_holds_the_report(name: str, reports: Reports) -> None:
    pytest.importorskip("altair", reason="altair is not installed")
    report = getattr(reports, name)()
    spec = report.plot().to_dict()
    held = spec["data"].get("values") or next(iter(spec["datasets"].values()))
    assert held == report.to_dicts()
    assert spec["title"] == report.title


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_can_be_drawn(name: str, reports: Reports) -> None:
    convert = pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    drawn = convert.vegalite_to_svg(getattr(reports, name)().plot().to_dict())
    assert drawn.startswith("<svg")
    assert drawn.count("<path") > 3


def test_a_report_without_a_chart(reports: Reports) -> None:
    with pytest.raises(ConfigurationError, match="cost_by_day"):
        reports.todos().plot()


def test_without_altair(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtraError, match="plots"):
        reports.tools().plot()
