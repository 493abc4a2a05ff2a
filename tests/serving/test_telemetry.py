"""Counts and OpenTelemetry attributes, against the real library."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from dspy_session import telemetry
from dspy_session.errors import StaleStateError, StoreError
from dspy_session.stores import open_store
from tests.conversations.programs import Broken, chat


@pytest.fixture(scope="module")
def exported():
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    meters = MeterProvider(metric_readers=[reader])
    metrics.set_meter_provider(meters)
    yield spans, reader
    tracers.shutdown()
    meters.shutdown()


def points(reader):
    """The counters' values, by name."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: metric.data.data_points[0].value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "dspy_session"
        for metric in scope.metrics
    }


def test_the_current_span_names_the_conversation(exported, lm):
    from opentelemetry import trace

    spans, app = exported[0], chat()
    spans.clear()

    async def request(store, user):
        with trace.get_tracer("server").start_as_current_span(f"request of {user}"):
            async with app.conversation(user, store=store):
                await app.acall(question="one")

    async def main(store):
        await asyncio.gather(request(store, "ada"), request(store, "max"))

    with open_store("memory://") as store:
        asyncio.run(main(store))
    named = {span.name: span.attributes["gen_ai.conversation.id"] for span in spans.get_finished_spans()}
    assert named == {"request of ada": "ada", "request of max": "max"}


def test_counts(exported, lm):
    app, other, before, exported_before = chat(), chat(), telemetry.counts(), points(exported[1])
    with open_store("memory://") as store:
        with app.conversation("k", store=Broken(store, "before")):
            app(question="one")
        with app.conversation("k", store=store, lease=None):
            with other.conversation("k", store=store):
                other(question="two")
            with pytest.raises(StaleStateError):
                app(question="three")
    grown = {name: n - before.get(name, 0) for name, n in telemetry.counts().items()}
    assert grown == {"conversations": 3, "turns": 2, "conflicts": 1, "retries": 1, "failures": 1}
    told = {name: n - exported_before.get(name, 0) for name, n in points(exported[1]).items()}
    assert told == {f"dspy_session.{name}": n for name, n in grown.items()}


def test_a_refused_turn_is_counted(lm):
    app, before = chat(), telemetry.counts().get("failures", 0)
    with (
        open_store("memory://") as store,
        app.conversation("k", store=Broken(store, "before", error=lambda: StoreError("full"))),
        pytest.raises(StoreError),
    ):
        app(question="one")
    assert telemetry.counts()["failures"] == before + 1


def test_without_opentelemetry_only_counts_are_kept():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from dspy_session import telemetry\n"
        "telemetry.opened('k'); telemetry.count('turns', 2)\n"
        "assert telemetry.counts() == {'conversations': 1, 'turns': 2}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
