"""Rendered turns, kept: a past turn's messages are the same in every later request."""

from __future__ import annotations

import copy
import sys
from typing import Any

Chat = dict[str, Any]

CACHE_BYTES = 64 * 1024 * 1024
"""The most that cached renderings of past turns may take, over all conversations of the process."""


class _Cache:
    """Rendered turns, in two generations: when the young one is full it becomes the old one, and the old one goes.

    A turn that is still in use moves back to the young generation when it is asked for, so what is dropped has not
    been used for half of the cap. Races between threads can only render a turn twice.
    """

    def __init__(self, cap: int) -> None:
        self._half = cap // 2
        self._young: dict[Any, tuple[Chat, ...]] = {}
        self._old: dict[Any, tuple[Chat, ...]] = {}
        self._bytes = 0

    def get(self, key: Any) -> tuple[Chat, ...] | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Any, rendered: tuple[Chat, ...]) -> None:
        self._bytes += 400 + sum(sys.getsizeof(message["content"]) for message in rendered)
        if self._bytes > self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = rendered

    def clear(self) -> None:
        self._young, self._old, self._bytes = {}, {}, 0


RENDERED = _Cache(CACHE_BYTES)


class _Flat(dict[str, Any]):
    """A chat message of text alone. DSPy deep-copies each request: this one is copied at the price of a dict."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Chat:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(self),))


def flat(chat: Chat) -> Chat:
    return _Flat(chat) if all(isinstance(value, (str, type(None))) for value in chat.values()) else chat


def copied(chat: Chat) -> Chat:
    return _Flat(chat) if type(chat) is _Flat else copy.deepcopy(chat)
