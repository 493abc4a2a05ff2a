"""Charts in notebooks: the Vega-Lite specification, by which runs are compared, and a picture of it.

Jupyter readers that know no Vega-Lite, such as code hosts, show the picture.
"""

from __future__ import annotations

import base64
from typing import Any

# Altair's own type names a version, and some of its versions are none that a notebook may hold.
SPECIFICATION = "application/vnd.vegalite+json"
PICTURE = "image/png"
# What the code of a page begins with in its notebook's kernel.
AT_START = f"__import__({__name__!r}, fromlist=['show']).show()"


def show() -> None:
    """From now on charts are shown as their specification; Altair's own way has an id of chance in it."""
    import altair

    def bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {SPECIFICATION: spec, "text/plain": "(a chart)"}

    altair.renderers.register("specification", bundle)
    altair.renderers.enable("specification")


def without_version(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification without what changes with the version of Altair."""
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}


def picture(spec: dict[str, Any]) -> str:
    """The PNG of a specification, in base64."""
    import vl_convert

    return base64.b64encode(vl_convert.vegalite_to_png(dict(spec))).decode("ascii")
