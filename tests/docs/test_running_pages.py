"""That the runner of the pages notices what it is there for."""

from __future__ import annotations

import traceback
from pathlib import Path

import dspy
import pytest

from docs._scripts import pages

PAGE = """# A page

```python
x = 1
```

Words.

```python
print(x + 1)
```

```text
3
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_output_that_is_no_longer_true_is_replaced(page: Path) -> None:
    assert pages.run(page) == PAGE.replace("\n3\n", "\n2\n")


def test_prompts_can_be_left_as_they_are(page: Path) -> None:
    page.write_text(PAGE.replace("```text\n", "```text prompt\n"), encoding="utf-8")
    assert "\n3\n" in pages.run(page, prompts=False)
    assert "\n2\n" in pages.run(page)


def test_errors_point_at_the_line_of_the_page(page: Path) -> None:
    page.write_text(PAGE.replace("x + 1", "x + y"), encoding="utf-8")
    with pytest.raises(NameError) as caught:
        pages.run(page)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno) == (str(page), 10)


def test_settings_and_folder_are_as_before(page: Path) -> None:
    page.write_text(
        "```python\nimport dspy\ndspy.configure(lm=dspy.LM('a/b'))\nopen('x', 'w').close()\n```\n", "utf-8"
    )
    before, here = dspy.settings.lm, Path.cwd()
    pages.run(page)
    assert dspy.settings.lm is before
    assert Path.cwd() == here
    assert not Path("x").exists()
