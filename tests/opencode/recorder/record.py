"""Make a recording: `python tests/opencode/recorder/record.py OUTPUT [--version 1.18.33]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from program import fetch
from scenarios import record
from scripted_model import Script, ScriptedModel


def main() -> None:
    """Fetch the release, run the scenarios, and write the database or tree and the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--version", default="latest", help="a release of OpenCode (default: the newest)")
    parser.add_argument("--program", type=Path, help="an OpenCode that is there already")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        program = arguments.program or fetch(arguments.version, Path(scratch) / "program")
        script = Script()
        with ScriptedModel(script) as model:
            running = record(program, Path(scratch) / "run", model.url, script)
        keep(running.data, arguments.output)
    lines = [json.dumps(request, ensure_ascii=False) + "\n" for request in script.requests]
    (arguments.output / "requests.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(script.requests)} requests recorded in {arguments.output}")


def keep(data: Path, output: Path) -> None:
    """Copy the database, its write-ahead log folded in, or the tree of files."""
    if (data / "opencode.db").exists():
        with (
            closing(sqlite3.connect(data / "opencode.db")) as db,
            closing(sqlite3.connect(output / "opencode.db")) as to,
        ):
            db.backup(to)
    elif (data / "storage").exists():
        shutil.copytree(data / "storage", output / "storage", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
