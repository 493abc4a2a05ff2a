"""What an installation has to bring, and a checkout always has: data files, metadata, the command."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import pytest

from dspy_session.stores import open_store
from tests.packaging import bare
from tests.stores.backends import PERSISTENT, address
from tests.stores.conftest import pytest_terminal_summary as pytest_terminal_summary


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert files("dspy_session").joinpath("py.typed").is_file()


@pytest.mark.parametrize("backend", PERSISTENT)
def test_stores_find_their_statements_and_scripts(backend: str) -> None:
    with address(backend) as url, open_store(url) as store:
        revision = store.create("k", {})
        store.append("k", [{"id": "1"}], expected=revision)
        assert [turn.data for turn in store.load("k").turns] == [{"id": "1"}]
        assert store.verify().ok


def test_the_dashboards_files_come_along() -> None:
    folder = files("dspy_session.server").joinpath("dashboard")
    names = {file.name for file in folder.iterdir()}
    page = folder.joinpath("index.html").read_text(encoding="utf-8")
    asked_for = set(re.findall(r'(?:src|href)="/static/([^"]+)"', page))
    imported = {
        name
        for file in folder.iterdir()
        for name in re.findall(r'from "\./([^"]+)"', file.read_text(encoding="utf-8"))
    }
    assert {"app.js", "styles.css"} <= asked_for | imported <= names
    assert "dom.js" in imported


def test_the_license_and_the_readme_come_along() -> None:
    installed = distribution("dspy-session")
    assert "MIT" in str(installed.metadata["License-Expression"])
    assert str(installed.metadata["Description"] or installed.metadata.get_payload()).startswith(
        "# dspy-session"
    )


def test_the_command_is_installed_and_tells_what_it_can() -> None:
    command = Path(sys.executable).with_name("dspy-session")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=120)
    assert re.search(r"^usage: dspy-session .*COMMAND", done.stdout)


def test_every_module_imports_or_names_its_extra() -> None:
    assert bare.modules() == {}


def test_every_lazy_name_is_where_it_is_said_to_be() -> None:
    bare.names()
