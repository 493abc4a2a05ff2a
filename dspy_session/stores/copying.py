"""Moving conversations from one store to another, whatever the backends."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConversationExistsError, ConversationNotFoundError
from .base import Document, Store, StoredConversation, StoredTurn

__all__ = ["copy_conversation", "copy_store", "export_conversation"]

_BATCH = 200


def copy_conversation(
    source: Store, target: Store, key: str, *, scope: str = "", new_key: str | None = None
) -> int:
    """Copy a conversation as it stands: head, line, annotations that count, summary; how many turns were
    copied.

    Turns go in batches, so a long conversation need not fit into memory, and a copy that was broken off
    goes on where it stopped when it is called again. In the copy a fork is a conversation of its own, what
    was abandoned by moving back is gone, indices begin at 0 even if older turns were pruned, and the times
    are those of the copying. Raises `ConversationNotFoundError`, and `ConversationExistsError` if the
    target has another conversation under the key.
    """
    found = source.load(key, scope=scope, last=0)
    name = key if new_key is None else new_key
    revision, done = _begin(source, target, found, name)
    copied = 0
    for batch in _batches(source, found, found.first + done):
        revision = target.append(
            name,
            [turn.data for turn in batch],
            scope=scope,
            expected=revision,
            annotations=[note for turn in batch for note in turn.annotations],
        )
        copied += len(batch)
    if found.annotations or found.cost:
        target.append(name, scope=scope, expected=revision, annotations=found.annotations, cost=found.cost)
    return copied


def _begin(source: Store, target: Store, found: StoredConversation, name: str) -> tuple[str, int]:
    """The copy's revision and how many turns it has: none, or those of an earlier attempt."""
    metadata = {**found.metadata}
    try:
        there = target.load(name, scope=found.scope, last=1)
    except ConversationNotFoundError:
        revision = target.create(
            *(name, found.head), scope=found.scope, metadata=metadata, title=found.title, tags=found.tags
        )
        return revision, 0
    begun = (
        (there.head, there.metadata) == (found.head, metadata) and not there.annotations and not there.cost
    )
    if begun and 0 < there.total <= found.total - found.first:
        [last] = source.turns(found.key, scope=found.scope, before=found.first + there.total, limit=1)
        begun = last.data == there.turns[0].data
    if not begun or there.total > found.total - found.first:
        raise ConversationExistsError(
            f"the target has a conversation {name!r} in scope {found.scope!r} already"
        )
    return there.revision, there.total


def _batches(source: Store, found: StoredConversation, start: int) -> Iterator[tuple[StoredTurn, ...]]:
    for first in range(start, found.total, _BATCH):
        stop = min(first + _BATCH, found.total)
        yield source.turns(found.key, scope=found.scope, before=stop, limit=stop - first)


def copy_store(source: Store, target: Store, *, scope: str | None = None) -> int:
    """Copy every conversation of a scope, or of all; how many. See `copy_conversation`."""
    copied = 0
    for one in source.scopes() if scope is None else (scope,):
        for row in source.list(scope=one):
            copy_conversation(source, target, row.key, scope=one)
            copied += 1
    return copied


def export_conversation(store: Store, key: str, *, scope: str = "") -> Document:
    """A conversation as one document: what `Store.load` read, each turn with its annotations."""
    found = store.load(key, scope=scope)
    return {
        "key": found.key,
        "scope": found.scope,
        "title": found.title,
        "tags": list(found.tags),
        "cost": found.cost,
        "first": found.first,
        "metadata": found.metadata,
        "head": found.head,
        "annotations": list(found.annotations),
        "turns": [
            {"index": turn.index, "data": turn.data, "annotations": list(turn.annotations)}
            for turn in found.turns
        ],
    }
