"""How Sphinx makes the site: the pages of this folder, and a reference from the docstrings.

`make reference` builds it into `build/docs`, and takes every warning for an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import inspect
from sphinx.util.inspect import stringify_signature

sys.path.insert(0, str(Path(__file__).parents[1]))

# MLflow's models cannot be made once Sphinx has changed how annotations are read.
import dspy_session.integrations.mlflow  # noqa: F401
from docs._scripts import reference

project = "dspy-session"
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
release = re.findall(r'^version = "(.+)"$', PYPROJECT.read_text(encoding="utf-8"), re.M)[0]
version = release
copyright = "the authors of dspy-session"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_scripts", "**/__pycache__"]

# Docstrings are written in Google's style, with code between single backticks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autoclass_content = "both"
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90

myst_heading_anchors = 4

html_theme = "furo"
html_title = f"dspy-session {release}"
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

reference.resolve_annotations()
reference.write()


def belongs_elsewhere(app: Sphinx, kind: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """What a class has from a private base of ours is documented as its own; what it has from others, they document.

    What is there for the library's own parts is left out.
    """
    value = getattr(value, "fget", value)
    if reference.is_between_rooms(value):
        return True
    if getattr(value, "__module__", None) is None:
        # Methods of builtins have no module, but the class that defines them.
        value = getattr(value, "__objclass__", value)
    home = getattr(value, "__module__", None)
    here = app.env.docname.rpartition("/")[2]
    if not isinstance(home, str) or home == here:
        return None
    return None if home.startswith("dspy_session.") and reference.is_private(home) else True


def full_signature(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """DSPy's metaclass hides what the programs' classes take: their `__init__` says it."""
    if kind != "class" or signature != "(*args, **kwargs)":
        return None
    taken = inspect.signature(value.__init__, bound_method=True)
    return stringify_signature(taken, show_return_annotation=False, unqualified_typehints=True), returned


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", belongs_elsewhere)
    app.connect("autodoc-process-signature", full_signature)
