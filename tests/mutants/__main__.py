"""Mutation testing: `python -m tests.mutants [GROUP ...]` breaks the code in small ways and runs the tests on each.

Prints the mutants that no test notices and that `survivors.md` does not explain, in the form in which they go there,
and fails if there are any. Works in `build/mutants/<group>`, and goes on there where it was stopped. Lines that raise
one of our errors are not mutated: their wording is for people. Mutants that write SQL in other letters are left out,
for to SQL they are the same.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.groups import GROUPS, Group
from tests.mutants.survivors import LIST, Mutant, explained

ROOT = Path(__file__).parents[2]
SURVIVED, KILLED, NO_TESTS = 0, 1, 33
SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|JOIN|WHERE|AND|VALUES|RETURNING|DESC|PRAGMA|BEGIN|COMMIT|ROLLBACK)\b"
    r"|= \?|\"c\.\w+"
)
NAME = re.compile(r"x(?:ǁ(?P<owner>\w+?)ǁ|_)(?P<function>\w+)__mutmut_(?P<number>\d+)$")


def prepare(name: str, group: Group) -> Path:
    """A copy of the sources with mutmut's settings for a group; what was done there before stays."""
    folder = ROOT / "build" / "mutants" / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("dspy_session", "tests", "docs"):
        shutil.copytree(
            ROOT / part,
            folder / part,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__", "recordings"),
        )
    settings = {
        "source_paths": ["dspy_session"],
        "only_mutate": [f"dspy_session/{module}" for module in group.modules],
        "also_copy": ["docs"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-W", "ignore::ResourceWarning"],
        "pytest_add_cli_args_test_selection": list(group.tests),
        "do_not_mutate_patterns": [r"Error\(", r"warnings\.warn\("],
        "use_git_change_detection": False,
        "timeout_constant": 5.0,
        "timeout_multiplier": 3.0,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text("\n".join([text, "[tool.mutmut]", *lines, ""]), encoding="utf-8")
    return folder


def try_again(folder: Path, group: Group) -> None:
    """Forget which mutants lived: there may be tests now that kill them."""
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for module in group.modules:
        meta = folder / "mutants" / "dspy_session" / f"{module}.meta"
        if meta.is_file():
            results = json.loads(meta.read_text(encoding="utf-8"))
            codes = results["exit_code_by_key"]
            codes.update({key: code if code == KILLED else None for key, code in codes.items()})
            meta.write_text(json.dumps(results), encoding="utf-8")


def functions(path: Path) -> dict[str, str]:
    """The source of every function of a mutated module, by name; methods too."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    return {
        node.name: textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def survivors(folder: Path, group: Group) -> Iterator[Mutant]:
    """The mutants of a group that no test noticed."""
    for module in group.modules:
        path = folder / "mutants" / "dspy_session" / module
        results = json.loads(path.with_name(f"{path.name}.meta").read_text(encoding="utf-8"))
        sources = functions(path)
        for key, code in results["exit_code_by_key"].items():
            mangled = key.rpartition(".")[2]
            name = NAME.match(mangled)
            if name is None or code not in (SURVIVED, NO_TESTS):
                continue
            original = re.sub(r"_\d+$", "_orig", mangled)
            before = sources[original].replace(original, name["function"], 1).splitlines()
            after = sources[mangled].replace(mangled, name["function"], 1).splitlines()
            diff = list(difflib.ndiff(before, after))
            mutant = Mutant(
                module,
                ".".join(part for part in (name["owner"], name["function"]) if part),
                tuple(line[2:].strip() for line in diff if line.startswith("- ")),
                tuple(line[2:].strip() for line in diff if line.startswith("+ ")),
            )
            if not same_sql(mutant):
                yield mutant


def same_sql(mutant: Mutant) -> bool:
    """Whether a mutant is the same statement of SQL in other letters."""
    before, after = "\n".join(mutant.removed), "\n".join(mutant.added)
    return before.upper() == after.upper() and bool(SQL.search(before))


def counted(folder: Path, group: Group) -> tuple[int, int]:
    """How many mutants there are, and how many have been tried."""
    codes: list[int | None] = []
    for module in group.modules:
        meta = folder / "mutants" / "dspy_session" / f"{module}.meta"
        codes += json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].values()
    return len(codes), sum(code is not None for code in codes)


def run(name: str, workers: int) -> list[Mutant]:
    """Run a group, say how it went, and give the survivors that nobody explained."""
    group = GROUPS[name]
    folder = prepare(name, group)
    try_again(folder, group)
    log = folder / "log.txt"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers)]
        status = subprocess.run(command, cwd=folder, stdout=out, stderr=out, check=False).returncode
    if status:
        sys.exit(f"mutmut failed on {name}; {log} says why")
    known = set(explained(LIST.read_text(encoding="utf-8")))
    living = list(dict.fromkeys(survivors(folder, group)))
    fresh = [mutant for mutant in living if mutant not in known]
    killed = [mutant for mutant in known if mutant.module in group.modules and mutant not in living]
    total, tried = counted(folder, group)
    print(f"{name}: {total} mutants, {tried} tried, {len(living)} live, {len(fresh)} of them unexplained")
    for mutant in killed:
        print(f"no longer lives, take it off the list: {mutant.module}\n{mutant}")
    return fresh


def main(names: list[str]) -> int:
    """Run groups, by default all; the exit status is 1 if a mutant lives that nobody explained."""
    if wrong := [name for name in names if name not in GROUPS]:
        sys.exit(f"no group {wrong[0]!r}; there are {', '.join(GROUPS)}")
    workers = int(os.environ.get("WORKERS", "2"))
    fresh = [mutant for name in names or GROUPS for mutant in run(name, workers)]
    for module in dict.fromkeys(mutant.module for mutant in fresh):
        print(f"\n## `{module}`\n", *(m for m in fresh if m.module == module), sep="\n")
    return 1 if fresh else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
