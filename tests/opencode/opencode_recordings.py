"""Recordings of the real OpenCode, laid out as on a user's disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"


def unpack(recording: str, folder: Path) -> Path:
    """A recording's database or tree, in a folder."""
    if recording == "v1.1.65":
        for name, content in json.loads((RECORDINGS / "v1.1.65.tree.json").read_text()).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder
    shutil.copyfile(RECORDINGS / f"{recording}.db", folder / "opencode.db")
    return folder / "opencode.db"
