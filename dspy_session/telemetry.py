"""What operators see of stored conversations: counts, and OpenTelemetry's attributes and metrics.

Without OpenTelemetry (extra `otel`) only `counts` is kept. With it the current span gets the attribute
`gen_ai.conversation.id` (OpenTelemetry's semantic conventions for generative AI) when a conversation is opened,
and each count is a counter `dspy_session.<name>` of the meter `dspy_session`.

===============  ======================================================================
count            meaning
===============  ======================================================================
`conversations`  conversations that were opened
`turns`          turns that a store acknowledged
`conflicts`      commits that somebody else had come before
`retries`        commits that were tried again because the store could not be reached
`failures`       turns that a store refused, and that the caller got back with an error
===============  ======================================================================
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

CONVERSATION_ID = "gen_ai.conversation.id"

_counts: Counter[str] = Counter()
_guard = threading.Lock()


def counts() -> Mapping[str, int]:
    """What this process has counted so far, by name."""
    with _guard:
        return dict(_counts)


def count(name: str, amount: int = 1) -> None:
    """Add to a count."""
    with _guard:
        _counts[name] += amount
    counter = _counter(name)
    if counter is not None:
        counter.add(amount)


def opened(key: str) -> None:
    """A conversation was opened: tell the current span which."""
    count("conversations")
    if _installed():
        from opentelemetry import trace

        trace.get_current_span().set_attribute(CONVERSATION_ID, key)


@lru_cache(maxsize=1)
def _installed() -> bool:
    try:
        return find_spec("opentelemetry.trace") is not None and find_spec("opentelemetry.metrics") is not None
    except ModuleNotFoundError:
        return False


@lru_cache(maxsize=32)
def _counter(name: str) -> Any:
    if not _installed():
        return None
    from opentelemetry import metrics

    return metrics.get_meter("dspy_session").create_counter(
        f"dspy_session.{name}", unit=f"{{{name.rstrip('s')}}}"
    )
