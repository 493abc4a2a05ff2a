"""What holds the rooms together: imports point down, and the core leans on three packages alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dspy_session

ROOT = Path(__file__).parents[1]
# What is tested, be it the checkout or an installed wheel.
PACKAGE = Path(dspy_session.__file__).parent
CORE = {"dspy", "pydantic", "anyio"}
# What an extra brings, by the name it is imported by.
EXTRAS = {
    "psycopg": "postgres",
    "psycopg_pool": "postgres",
    "redis": "redis",
    "cryptography": "crypto",
    "pyarrow": "parquet",
    "duckdb": "analytics",
    "starlette": "server",
    "uvicorn": "server",
    "opentelemetry": "otel",
    "mlflow": "mlflow",
    "altair": "plots",
    "rich": "cli",
}
# Modules that are longer than a stranger reads in a few minutes, each with the reason why it is one idea still.
LONG_MODULES: dict[str, str] = {}
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 25


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


def test_a_module_past_400_lines_has_a_reason() -> None:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths.items()}
    long = {name for name, length in lengths.items() if length > LINES_OF_A_MODULE}
    assert long == LONG_MODULES.keys()
    assert all(reason.strip() for reason in LONG_MODULES.values())


def test_nine_functions_in_ten_are_below_25_lines() -> None:
    functions = {
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno)
        - node.lineno
        + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    long = [name for name, lines in functions.items() if lines >= LINES_OF_A_FUNCTION]
    assert len(long) <= len(functions) / 10, long


def test_importing_the_library_does_not_import_dspy() -> None:
    code = "import sys, dspy_session.errors, dspy_session.opencode; sys.exit('dspy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(dspy_session, name) is not None for name in dspy_session.__all__)
    assert set(dspy_session.__all__) <= set(dir(dspy_session))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        dspy_session.Sessions  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_on_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    houses = (PACKAGE, PACKAGE / "stores")
    rooms = {path.stem for house in houses for path in house.iterdir() if path.suffix == ".py"}
    rooms |= {path.stem for path in PACKAGE.iterdir() if path.is_dir()}
    missing = {room for room in rooms - {"__init__", "__pycache__"} if f"`{room}`" not in page}
    assert missing == set()


def test_the_map_of_the_tests_names_every_folder() -> None:
    tests = Path(__file__).parent
    told = (tests / "README.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in tests.glob("*/*.py")}
    assert {name for name in folders if f"`{name}/" not in told} == set()


def test_rooms_on_the_page_know_only_those_in_their_row_and_below() -> None:
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed, which brings it")
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = [
        re.findall(r"`(\w+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")
    ]
    row = {room: place for place, rooms in enumerate(rows) for room in rooms}
    graph = grimp.build_graph("dspy_session", exclude_type_checking_imports=True, cache_dir=None)
    up = {
        f"{module} imports {other}"
        for module in graph.modules - {"dspy_session"}
        for other in graph.find_modules_directly_imported_by(module) - {"dspy_session"}
        if row[other.split(".")[1]] < row[module.split(".")[1]]
    }
    assert up == set()


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
