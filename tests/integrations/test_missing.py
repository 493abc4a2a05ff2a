"""A library that is not there is named, with what to install."""

from __future__ import annotations

import subprocess
import sys


def test_a_missing_mlflow_is_named() -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "import dspy_session.integrations\n"
        "try:\n    import dspy_session.integrations.mlflow\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "MissingExtraError mlflow is not installed: pip install 'dspy-session[mlflow]'\n"
