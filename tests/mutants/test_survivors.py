"""The list of mutants that may live speaks of the code as it is, and says of each why."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import same_sql
from tests.mutants.groups import GROUPS
from tests.mutants.survivors import LIST, PACKAGE, Mutant, explained, outdated

LISTED = list(explained(LIST.read_text(encoding="utf-8")))
PAGE = """# Mutants

## `windows.py`

Both are the same for every number that there is.

```diff
@@ positive
-    {line}
+    if value <= 0:
```
"""


def first(page: str) -> Mutant:
    return next(explained(page))


def test_every_entry_speaks_of_the_code_as_it_is() -> None:
    assert [reason for mutant in LISTED if (reason := outdated(mutant))] == []


def test_no_entry_is_there_twice() -> None:
    assert len(LISTED) == len(set(LISTED))


def test_entries_are_of_modules_that_are_mutated() -> None:
    mutated = {module for group in GROUPS.values() for module in group.modules}
    assert {mutant.module for mutant in LISTED} <= mutated
    assert [module for module in mutated if not (PACKAGE / module).is_file()] == []


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = first(PAGE.format(line="if value < 1:"))
    assert (entry.module, entry.function, entry.removed) == ("windows.py", "positive", ("if value < 1:",))
    assert first(f"## `windows.py`\n\nSome words on why it may.\n\n{entry}\n") == entry


def test_an_entry_of_other_code_is_noticed() -> None:
    entry = first(PAGE.format(line="if value < 1_000:"))
    assert outdated(entry) == "windows.py, positive: the code has no line 'if value < 1_000:'"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("windows.py", "no_such.py", "no_such.py has no function positive"),
        ("@@ positive", "@@ negative", "windows.py has no function negative"),
        ("Both are the same for every number that there is.", "", "it is not said why the mutant may live"),
        ("+    if value <= 0:", "+    {line}", "the mutant changes nothing"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told(old: str, new: str, said: str) -> None:
    line = next(
        line
        for line in (PACKAGE / "windows.py").read_text(encoding="utf-8").splitlines()
        if "def positive" in line
    ).strip()
    assert outdated(first(PAGE.format(line=line))) is None
    assert said in str(outdated(first(PAGE.replace(old, new).format(line=line))))


def test_sql_in_other_letters_is_the_same_and_other_sql_is_not() -> None:
    def change(before: str, after: str) -> bool:
        return same_sql(Mutant("stores/sqlite.py", "f", (before,), (after,)))

    assert change('run("SELECT id FROM turn")', 'run("select id from turn")')
    assert change('" WHERE id = ?",', '" where id = ?",')
    assert not change('run("SELECT id FROM turn")', 'run("XXSELECT id FROM turnXX")')
    assert not change('settings = {"backend": "sqlite"}', 'settings = {"BACKEND": "sqlite"}')
