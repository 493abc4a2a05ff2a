"""From a path, or from nothing, to the sources that lie there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dspy_session.errors import SourceFormatError, SourceNotFoundError
from dspy_session.opencode.sources.base import Skips, Source
from dspy_session.opencode.sources.database import DatabaseSource
from dspy_session.opencode.sources.export import ExportSource
from dspy_session.opencode.sources.plugin_log import PluginLogSource, RawLogSource
from dspy_session.opencode.sources.storage import ProjectStorageSource, StorageSource

FILES: tuple[type[Source], ...] = (DatabaseSource, ExportSource, RawLogSource, PluginLogSource)
FOLDERS: tuple[type[Source], ...] = (ProjectStorageSource, StorageSource)

_DEPTH = 5
_NAMED = ("dspy-", "session-", "ses_", "opencode")
_NEVER = frozenset(
    ["node_modules", ".git", ".venv", "__pycache__", "snapshot", "snapshots", "tool-output", "log", "cache"]
)
_OTHERS = frozenset(
    ["auth.json", "mcp-auth.json", "account.json", "opencode.json", "package.json", "tui.json"]
)
"""Files that lie beside histories; some hold keys, and are not even opened."""


def sources_of(path: str | os.PathLike[str], skips: Skips) -> list[Source]:
    """All sources at a path: the file itself, or whatever a folder holds.

    Files in a folder that are none of ours are passed over in silence, except `.json` and `.db` files that
    lie in the folder itself or are named as ours are; these are counted in `skips`.

    Raises:
        SourceNotFoundError: nothing is there, or nothing of OpenCode's.
        SourceFormatError: the file named is of no known kind.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise SourceNotFoundError(f"{place}: no such file or folder")
    if place.is_file():
        found = _of_file(place)
        if found is None:
            raise SourceFormatError(
                f"{place}: not a history of OpenCode: expected its database, a file of `opencode export`, "
                "or a log of the DSPy plugin (dspy-*.json, session-*.json)"
            )
        return [found]
    sources = list(_of_folder(place, skips, _DEPTH))
    if not sources:
        raise SourceNotFoundError(
            f"{place}: no history of OpenCode in this folder: expected opencode.db, storage/, project/, "
            "exported sessions or .opencode-logs/"
        )
    return sources


def discovered(environ: Mapping[str, str] | None = None) -> list[Source]:
    """The sources of this user, where OpenCode keeps them.

    `OPENCODE_DB` names the database (an absolute path, or a name inside the data folder); the data folder is
    `OPENCODE_DATA_DIR`, else `$XDG_DATA_HOME/opencode`, else `~/.local/share/opencode`. Without
    `OPENCODE_DB`, the databases of all channels (`opencode.db`, `opencode-<channel>.db`) are read.

    Raises:
        SourceNotFoundError: there are none; says where they were looked for.
    """
    env = os.environ if environ is None else environ
    folder = data_folder(env)
    named = env.get("OPENCODE_DB")
    if named and named != ":memory:":
        databases = [folder / Path(named).expanduser()]
        if not databases[0].is_file():
            raise SourceNotFoundError(f"OPENCODE_DB names {databases[0]}, and there is no such file")
    else:
        databases = sorted(folder.glob("opencode.db")) + sorted(folder.glob("opencode-*.db"))
    sources: list[Source] = [DatabaseSource(file) for file in databases if DatabaseSource.recognises(file)]
    for kind in FOLDERS:
        trees = [folder / "storage", *sorted(folder.glob("project/*/storage"))]
        sources += [kind(tree) for tree in trees if kind.recognises(tree)]
    if not sources:
        looked = " and ".join(str(place) for place in (*databases, folder))
        raise SourceNotFoundError(
            f"no history of OpenCode found in {looked}: give its path to open_source(), or set "
            "OPENCODE_DB or OPENCODE_DATA_DIR"
        )
    return sources


def data_folder(environ: Mapping[str, str]) -> Path:
    """OpenCode's data folder."""
    if environ.get("OPENCODE_DATA_DIR"):
        return Path(environ["OPENCODE_DATA_DIR"]).expanduser()
    shared = environ.get("XDG_DATA_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".local" / "share") / "opencode"


def _of_file(file: Path) -> Source | None:
    return next((kind(file) for kind in FILES if kind.recognises(file)), None)


def _of_folder(folder: Path, skips: Skips, depth: int) -> Iterator[Source]:
    known = [kind(folder) for kind in FOLDERS if kind.recognises(folder)]
    if known or _is_remainder(folder):
        yield from known
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        skips.add(folder, None, f"the folder cannot be read: {error}")
        return
    for entry in entries:
        if entry.is_dir():
            if depth > 0 and entry.name not in _NEVER and not entry.is_symlink():
                yield from _of_folder(entry, skips, depth - 1)
        elif entry.suffix in (".json", ".db") and entry.name not in _OTHERS:
            yield from _of_entry(entry, skips, tell=depth == _DEPTH or entry.name.startswith(_NAMED))


def _is_remainder(folder: Path) -> bool:
    """True for what is left of `storage/` after the move to the database: diffs and the mark of the move."""
    return folder.name == "storage" and (
        (folder / "migration").is_file() or (folder / "session_diff").is_dir()
    )


def _of_entry(file: Path, skips: Skips, *, tell: bool) -> Iterator[Source]:
    """The source that a file is. If it is none, that is told of files that could be meant as one."""
    try:
        found = _of_file(file)
    except OSError as error:
        skips.add(file, None, f"cannot be read: {error}")
        return
    if found is not None:
        yield found
    elif tell:
        skips.add(file, None, "not a history of OpenCode")
