"""Tokens and money, with the change of meaning that OpenCode's releases went through made good.

The same usage of a model was written in three ways (measured by running the releases):

=================  ===========================  ===============================  ====================
releases           `input`                      `output`                         `cost`
=================  ===========================  ===============================  ====================
0.x, 1.0           cached tokens included       reasoning included               cache charged twice
1.1 - 1.3          cached tokens excluded       reasoning included               reasoning charged twice
1.14 and later     cached tokens excluded       reasoning excluded               right
=================  ===========================  ===============================  ====================

`read_tokens` brings all three to the newest meaning. The stored money is never changed;
`CostIssue` names what is wrong with it, and `Prices.cost` computes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from dspy_session.opencode._fields import count, mapping, optional_count

Accounting = Literal["exact", "corrected", "ambiguous"]
CostSource = Literal["step", "message", "none"]
CostIssue = Literal["cache_charged_twice", "reasoning_charged_twice", "release_unknown"]

_CACHE_EXCLUDED_FROM_INPUT = ("anthropic", "bedrock", "vertex-anthropic")
"""Providers whose input never counted cached tokens, in any release."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Five kinds of tokens that do not overlap: their sum is all that went in and came out.

    Attributes:
        input: sent and not served from a cache.
        output: written by the model, reasoning excluded.
        reasoning: thought by the model.
        cache_read: sent and served from a cache.
        cache_write: sent and written to a cache.
    """

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """The sum of the five kinds."""
        return self.input + self.output + self.reasoning + self.cache_read + self.cache_write

    @property
    def prompt(self) -> int:
        """All that was sent: input and cache, read and written."""
        return self.input + self.cache_read + self.cache_write

    @property
    def completion(self) -> int:
        """All that came back: output and reasoning."""
        return self.output + self.reasoning

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )

    def __bool__(self) -> bool:
        return self.total != 0


ZERO = Tokens()


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls used: tokens and money, and how far each can be trusted.

    Attributes:
        tokens: in today's meaning, whatever release wrote them.
        cost: US dollars as OpenCode stored them.
        source: where the figures stand: in the steps, in the message alone, or nowhere.
        accounting: "exact" if the stored tokens had today's meaning, "corrected" if they were brought
            to it, "ambiguous" if the release that wrote them cannot be told.
        issues: what is known to be wrong with `cost`.
    """

    tokens: Tokens = ZERO
    cost: float = 0.0
    source: CostSource = "none"
    accounting: Accounting = "exact"
    issues: frozenset[CostIssue] = frozenset()


_ORDER: dict[Accounting, int] = {"exact": 0, "corrected": 1, "ambiguous": 2}
_SOURCES: dict[CostSource, int] = {"none": 0, "step": 1, "message": 2}


def total_usage(usages: Iterable[Usage]) -> Usage:
    """The sum; the least trustworthy accounting and source of the parts, and all their issues."""
    given = list(usages)
    if len(given) == 1:
        return given[0]
    tokens = [usage.tokens for usage in given]
    return Usage(
        Tokens(
            sum(each.input for each in tokens),
            sum(each.output for each in tokens),
            sum(each.reasoning for each in tokens),
            sum(each.cache_read for each in tokens),
            sum(each.cache_write for each in tokens),
        ),
        sum(usage.cost for usage in given),
        max((usage.source for usage in given), key=_SOURCES.__getitem__, default="none"),
        max((usage.accounting for usage in given), key=_ORDER.__getitem__, default="exact"),
        frozenset(issue for usage in given for issue in usage.issues),
    )


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a model in US dollars per million tokens."""

    input: float
    output: float
    cache_read: float = 0.0
    cache_write: float = 0.0

    def cost(self, tokens: Tokens) -> float:
        """Dollars for these tokens. Reasoning is charged as output, as OpenCode 1.14 and later do."""
        return (
            tokens.input * self.input
            + (tokens.output + tokens.reasoning) * self.output
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
        ) / 1_000_000


def read_usage(tokens: Any, cost: float, source: CostSource, version: str, provider: str) -> Usage:
    """The usage of one model call, from the `tokens` object that a release wrote.

    Args:
        tokens: `{total?, input, output, reasoning, cache: {read, write}}`; anything else reads as zeros.
        cost: the money stored beside it.
        source: where both were found.
        version: the release that created the session, as `1.1.65`.
        provider: the provider's id; some never counted cached tokens as input.
    """
    stored = _stored(tokens)
    if not stored:
        return Usage(ZERO, cost, source)
    total = optional_count(mapping(tokens).get("total"))
    if total is not None:
        return _by_total(stored, total, cost, source)
    return _by_release(stored, cost, source, version, provider)


def _stored(tokens: Any) -> Tokens:
    fields = mapping(tokens)
    cache = mapping(fields.get("cache"))
    return Tokens(
        count(fields.get("input")),
        count(fields.get("output")),
        count(fields.get("reasoning")),
        count(cache.get("read")),
        count(cache.get("write")),
    )


def _by_total(stored: Tokens, total: int, cost: float, source: CostSource) -> Usage:
    """`total` stands beside the kinds since 1.1; it tells by itself whether reasoning is in `output`."""
    if stored.reasoning and stored.total - total == stored.reasoning <= stored.output:
        return Usage(_without_reasoning(stored), cost, source, "corrected", _charged_twice("reasoning", cost))
    return Usage(stored, cost, source)


def _by_release(stored: Tokens, cost: float, source: CostSource, version: str, provider: str) -> Usage:
    release = release_of(version)
    if release is None:
        doubtful = bool(stored.reasoning or stored.cache_read)
        return Usage(
            stored,
            cost,
            source,
            "ambiguous" if doubtful else "exact",
            frozenset({"release_unknown"}) if doubtful and cost else frozenset(),
        )
    if release >= (1, 14) or not (stored.reasoning or stored.cache_read):
        return Usage(stored, cost, source)
    corrected = _without_reasoning(stored) if stored.reasoning <= stored.output else stored
    if release >= (1, 1):
        issues = _charged_twice("reasoning", cost) if stored.reasoning else frozenset()
        return Usage(corrected, cost, source, "corrected" if stored.reasoning else "exact", issues)
    return _first_era(corrected, cost, source, provider)


def _first_era(stored: Tokens, cost: float, source: CostSource, provider: str) -> Usage:
    excluded = provider.startswith(_CACHE_EXCLUDED_FROM_INPUT) or stored.cache_read > stored.input
    if excluded or not stored.cache_read:
        return Usage(stored, cost, source, "corrected")
    fresh = Tokens(
        stored.input - stored.cache_read,
        stored.output,
        stored.reasoning,
        stored.cache_read,
        stored.cache_write,
    )
    return Usage(fresh, cost, source, "corrected", _charged_twice("cache", cost))


def _without_reasoning(stored: Tokens) -> Tokens:
    return Tokens(
        stored.input,
        stored.output - stored.reasoning,
        stored.reasoning,
        stored.cache_read,
        stored.cache_write,
    )


def _charged_twice(what: Literal["cache", "reasoning"], cost: float) -> frozenset[CostIssue]:
    if not cost:
        return frozenset()
    return frozenset({"cache_charged_twice" if what == "cache" else "reasoning_charged_twice"})


def release_of(version: str) -> tuple[int, ...] | None:
    """`(1, 18, 33)` of `"1.18.33"` or `"v1.18.33-beta"`; None if no release is named."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        return None
    release = tuple(int(digits) for digits in found.groups(default="0"))
    return None if release == (0, 0, 0) else release
