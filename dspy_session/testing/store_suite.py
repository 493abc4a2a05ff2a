"""The conformance suite of stores: what `dspy_session.stores.base` promises, as tests.

With pytest, subclass it:

    class TestMyStore(StoreSuite):
        def open_store(self):
            return MyStore("…")

Without, call `check_store`. Every test works in a scope of its own, so a store may hold other things, and
several runs may share a server. Where a store cannot keep a promise, say so: `divergences` maps the name of a
test to the reason. Such a test has to fail; once it passes, the suite fails, so that no excuse outlives its
reason.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping

from ..stores.base import Store
from ._promises.commits import Commits
from ._promises.documents import Documents
from ._promises.keeping import Keeping
from ._promises.leases import Leases
from ._promises.lines import Lines
from ._promises.names import Names

__all__ = ["StoreSuite", "check_store"]


class StoreSuite(Documents, Commits, Lines, Names, Keeping, Leases):
    """The tests; see the module."""


def check_store(
    open_store: Callable[[], Store], divergences: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    """Run the suite on a store; per test None if it held, else what went wrong.

    `open_store` is called for every test, and within some of them again for another handle on the same data.
    """
    suite = type("Suite", (StoreSuite,), {"divergences": divergences or {}})
    results: dict[str, str | None] = {}
    for name in sorted(dir(suite)):
        if name.startswith("test_"):
            case = suite()
            case.open_store = open_store
            try:
                case.setup_method()
                getattr(case, name)()
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
            finally:
                case.teardown_method()
    return results
