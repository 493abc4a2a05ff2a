"""JSON files that are either as they were or as they should be, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dspy_session.errors import FormatError


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON atomically: a crash or a full disk leaves the old file whole.

    The data goes to a file beside the target, is forced to disk, and takes the target's name.
    """
    # Rendered before any file is touched, so that bad data leaves no trace.
    text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)
    target = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _mode(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    # The new name itself must reach the disk. Not every system lets a folder be opened.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a file that `write_json` wrote.

    Raises:
        FormatError: it is not JSON, or not an object.
        OSError: it cannot be read.
    """
    raw = Path(path).read_bytes()
    try:
        data = json.loads(raw.decode("utf-8", errors="surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is damaged or no JSON: {error}") from error
    if not isinstance(data, dict):
        raise FormatError(f"{path} holds a JSON {type(data).__name__}, not an object")
    return data
