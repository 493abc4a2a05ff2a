"""Where conversations are kept: one contract (`base`), several backends, and wrappers around them.

`open_store` opens one by its address. Read `base` for what every store promises, then `lease` for how
requests take turns; `aio` uses a store from an event loop, `encryption` and `redaction` wrap one.
"""

from __future__ import annotations

from ._opening import open_store
from .base import (
    MAX_KEY_BYTES,
    ConversationSummary,
    Document,
    Problem,
    Store,
    StoredConversation,
    StoredTurn,
    VerifyReport,
)
from .lease import Lease

__all__ = [
    "MAX_KEY_BYTES",
    "ConversationSummary",
    "Document",
    "Lease",
    "Problem",
    "Store",
    "StoredConversation",
    "StoredTurn",
    "VerifyReport",
    "open_store",
]
