"""What must work where nothing is installed but the library and what it requires: `python bare.py`.

No test tool is there to run it. It ends with an error, or tells what it found.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path


def modules() -> dict[str, str]:
    """Import every module; those that want an extra, with its hint."""
    import dspy_session
    from dspy_session.errors import MissingExtraError

    hints: dict[str, str] = {}
    for module in pkgutil.walk_packages(dspy_session.__path__, "dspy_session."):
        try:
            importlib.import_module(module.name)
        except MissingExtraError as error:
            hints[module.name] = str(error)
    return hints


def names() -> int:
    """Fetch every public name; how many there are."""
    found = 0
    for package in ("dspy_session", "dspy_session.opencode", "dspy_session.stores"):
        module = importlib.import_module(package)
        for name in module.__all__:
            getattr(module, name)
            found += 1
    return found


def conversation(folder: Path) -> None:
    """Hold a conversation, keep it in SQLite and in a file, and go on from both."""
    import dspy

    from dspy_session import Session, sessionify
    from dspy_session.stores import open_store
    from dspy_session.testing.lm import ScriptedLM

    lm = ScriptedLM()
    with dspy.context(lm=lm), open_store(f"sqlite:///{folder}/chat.db") as store:
        chat = sessionify(dspy.Predict("question -> answer"))
        for question in ("one", "two"):
            with chat.conversation("ada", store=store):
                chat(question=question)
        chat(question="three")
        chat.save(folder / "talk.json")
        Session.load_from(folder / "talk.json", dspy.Predict("question -> answer"))(question="four")
    assert [len(request) for request in lm.requests] == [2, 4, 2, 4]


def main() -> None:
    """All of it, and the command."""
    import dspy_session

    for module, hint in modules().items():
        print(f"{module}: {hint}")
    print(f"{names()} public names")
    with tempfile.TemporaryDirectory() as folder:
        conversation(Path(folder))
    command = Path(sys.executable).with_name("dspy-session")
    subprocess.run([command, "store", "ls", "--store", "memory://"], check=True, stdout=subprocess.DEVNULL)
    print(f"{Path(dspy_session.__file__).parent} works without any extra")


if __name__ == "__main__":
    main()
