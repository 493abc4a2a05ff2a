"""MLflow itself, with a tracking store in a file of this test run; nothing listens, nothing is sent."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_session.testing.lm import ScriptedLM

# Read when MLflow and LiteLLM are imported: tests ask no network, and traces are there when a call returns.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"

_names = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What MLflow and the packages under it will do otherwise one day is not for this library's tests to judge."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for category in ("DeprecationWarning", "FutureWarning", "ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """MLflow with a store of its own; making its tables takes seconds, so all tests share it."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    # Warnings are errors here, and MLflow has some of its own.
    importlib.import_module("dspy_session.integrations.mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("first", artifact_location=(folder / "artifacts").as_uri())
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.fixture
def experiment(tracking: Any, tmp_path: Any) -> Iterator[Any]:
    """MLflow with an experiment for this test alone, and no run."""
    name = f"experiment {next(_names)}"
    tracking.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    tracking.set_experiment(name)
    yield tracking
    while tracking.active_run() is not None:
        tracking.end_run()


@pytest.fixture
def logged(experiment: Any) -> Iterator[Callable[[], list[Any]]]:
    """`autolog` is on; the call gives the traces so far, oldest first."""
    from dspy_session.integrations.mlflow import autolog

    before = {name: dspy.settings.get(name) for name in ("callbacks", "track_usage", "lm", "adapter")}
    # A callback that is configured inside of `dspy.context` is not in force there.
    dspy.configure(lm=ScriptedLM(), adapter=None)
    autolog(silent=True)

    def traces() -> list[Any]:
        found = experiment.search_traces(return_type="list", order_by=["timestamp_ms ASC"])
        return list(found)

    yield traces
    autolog(disable=True, silent=True)
    dspy.configure(**before)
