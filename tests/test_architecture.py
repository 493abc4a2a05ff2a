"""What holds the rooms together: imports point down, and the core leans on three packages alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dspy_session"
CORE = {"dspy", "pydantic", "anyio"}
# What an extra brings, by the name it is imported by.
EXTRAS = {
    "psycopg": "postgres",
    "psycopg_pool": "postgres",
    "redis": "redis",
    "cryptography": "crypto",
    "pyarrow": "parquet",
    "opentelemetry": "otel",
    "mlflow": "mlflow",
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The packages that a module imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0], node.lineno


def outside() -> Iterator[tuple[str, Path, int]]:
    """Every import of something that is neither ours nor the standard library's."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, line in imports(path):
            if name != "dspy_session" and name not in sys.stdlib_module_names:
                yield name, path.relative_to(PACKAGE), line


def test_the_core_imports_three_packages_alone() -> None:
    others = [f"{path}:{line} {name}" for name, path, line in outside() if name not in CORE | EXTRAS.keys()]
    assert others == []


def test_each_extra_is_imported_by_one_module() -> None:
    homes: dict[str, set[Path]] = {}
    for name, path, _ in outside():
        if name in EXTRAS:
            homes.setdefault(EXTRAS[name], set()).add(path)
    assert {extra: paths for extra, paths in homes.items() if len(paths) > 1} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert silent == []


def test_importing_the_library_does_not_import_dspy() -> None:
    code = "import sys, dspy_session.errors, dspy_session.opencode; sys.exit('dspy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_can_be_had() -> None:
    import dspy_session

    assert all(getattr(dspy_session, name) is not None for name in dspy_session.__all__)
    assert set(dspy_session.__all__) <= set(dir(dspy_session))


def test_an_unknown_name_is_an_attribute_error() -> None:
    import dspy_session

    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        dspy_session.Sessions  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_on_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    missing = {room for room in rooms - {"__init__", "__pycache__"} if f"`{room}`" not in page}
    assert missing == set()


def test_imports_point_down() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed: `make lint` checks this")
    check = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert check.returncode == 0, check.stdout
