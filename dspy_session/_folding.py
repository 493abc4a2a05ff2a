"""Folding old turns into text, after a turn: episodes into long-term memories, old turns into running summaries.

It is not part of the turn. The turn is committed before, with what is to be folded still there; so whatever fails
here loses nothing, and is tried again after the next turn.
"""

from __future__ import annotations

import contextvars
import inspect
import json
from asyncio import run
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio.to_thread
import dspy

from dspy_session._exchange import Exchange, Message
from dspy_session._marks import Episode
from dspy_session._options import Options
from dspy_session.errors import ConfigurationError
from dspy_session.history import Summary
from dspy_session.memory import NodePolicy, NodeTable
from dspy_session.state import SessionState
from dspy_session.turns import TurnRecord
from dspy_session.windows import summary


def transcript(records: Iterable[TurnRecord]) -> str:
    """Turns as text: `- turn: 0`, then `inputs` and `outputs` as JSON."""
    return _transcript(record.exchange for record in records)


def _transcript(exchanges: Iterable[Exchange]) -> str:
    lines = []
    for place, exchange in enumerate(exchanges):
        lines += [
            f"- turn: {place}",
            f"  inputs: {json.dumps(exchange.inputs, ensure_ascii=False, default=str)}",
            f"  outputs: {json.dumps(exchange.outputs, ensure_ascii=False, default=str)}",
        ]
    return "\n".join(lines)


def _exchange(message: Message) -> Exchange:
    given = {name: value for name, value in message.items() if name in message.input_names}
    return Exchange(given, {name: value for name, value in message.items() if name not in given})


_TEXT_NAMES = ("updated_memory", "memory", "l2_memory", "output")


def folded_text(answer: Any) -> str:
    """The text in the answer of a module that folds: `updated_memory`, else the first field but reasoning."""
    if isinstance(answer, str):
        return answer
    fields = dict(answer.items()) if hasattr(answer, "items") else {}
    for name in (*_TEXT_NAMES, *(name for name in fields if name != "reasoning")):
        if fields.get(name) is not None:
            return str(fields[name])
    raise ConfigurationError(
        f"the answer holds no text: {sorted(fields) if fields else type(answer).__name__}"
    )


class Fold(Protocol):
    """Something to be folded."""

    @property
    def what(self) -> str: ...

    @property
    def module(self) -> Callable[..., Any]: ...

    def arguments(self) -> Mapping[str, str]: ...

    def commit(self, text: str) -> None: ...


@dataclass(frozen=True)
class Consolidation:
    """Episodes of one node that are to be folded into its long-term memory."""

    what: str
    module: Callable[..., Any]
    node: SessionState
    episodes: tuple[Episode, ...]
    past_memory: str

    def arguments(self) -> dict[str, str]:
        """What the consolidator is called with."""
        records = [record for episode in self.episodes for record in episode.records]
        return {"past_memory": self.past_memory, "episode_transcript": transcript(records)}

    def commit(self, text: str) -> None:
        """Take over the new memory, unless the episodes were undone or consolidated meanwhile."""
        with self.node.mutex:
            if tuple(self.node.pending[: len(self.episodes)]) == self.episodes:
                self.node.l2_memory = text
                self.node.pending = self.node.pending[len(self.episodes) :]


@dataclass(frozen=True)
class Summarizing:
    """Old turns that are to be folded into the running summary of a log."""

    what: str
    window: summary
    state: SessionState
    past: Summary | None
    records: tuple[TurnRecord, ...]
    made: int

    @property
    def module(self) -> Callable[..., Any]:
        """The window's module."""
        return self.window.module

    def arguments(self) -> dict[str, str]:
        """What the module is called with."""
        exchanges = [record.exchange for record in self.records]
        if self.past is None and not self.window.keep_initial:
            told = [_exchange(message) for message in self.state.head]
            exchanges = [*told, *exchanges]
        text = "" if self.past is None else self.past.text
        return dict(zip(self.window.inputs, (text, _transcript(exchanges)), strict=True))

    def commit(self, text: str) -> None:
        """Take over the new summary, unless turns were taken back or summarized meanwhile."""
        covers = self.records[-1].index + 1
        with self.state.mutex:
            position = self.state.position
            there = position.records()[covers - 1 - position.start : covers - position.start]
            newest = self.state.summaries[-1] if self.state.summaries else None
            if there == [self.records[-1]] and position.stop >= self.made and newest is self.past:
                self.state.summaries.append(Summary(text, covers, self.made))


def due(state: SessionState, options: Options, table: NodeTable | None) -> list[Fold]:
    """What a state waits for, its nodes' states included."""
    found: list[Fold] = []
    with state.mutex:
        _add_summarizing(found, "the conversation", state, options)
        if table is None:
            return found
        for path, node in list(state.node_states.items()):
            policy = table.policies.get(path)
            if policy is not None and policy.records:
                _add_of_node(found, path, node, policy, table)
    return found


def _add_of_node(
    found: list[Fold], path: str, node: SessionState, policy: NodePolicy, table: NodeTable
) -> None:
    if node.pending and policy.consolidator is not None:
        episodes = tuple(node.pending)
        found.append(Consolidation(f"node {path}", policy.consolidator, node, episodes, node.l2_memory))
    part = table.part(path)
    found += due(node, policy.options, None if part is None else part.node_table)


def _add_summarizing(found: list[Fold], what: str, state: SessionState, options: Options) -> None:
    window = options.window
    if not isinstance(window, summary):
        return
    position = state.position
    past = state.summary_at(position.stop)
    first = max(position.start, 0 if past is None else past.covers)
    last = position.stop - window.keep
    if last - first >= window.every:
        records = position.records()[first - position.start : last - position.start]
        found.append(Summarizing(what, window, state, past, tuple(records), position.stop))


def fold(due: Fold) -> None:
    """Fold from sync code."""
    answer = _call(due)
    if inspect.isawaitable(answer):
        answer = run_apart(answer)
    due.commit(folded_text(answer))


def _call(due: Fold) -> Any:
    module = due.module
    if isinstance(module, dspy.Module) and not hasattr(type(module), "forward"):
        return module.acall(**due.arguments())
    return module(**due.arguments())


async def afold(due: Fold) -> None:
    """Fold from async code, without blocking its loop."""
    module, arguments = due.module, due.arguments()
    if isinstance(module, dspy.Module) and hasattr(type(module), "aforward"):
        answer = await module.acall(**arguments)
    elif inspect.iscoroutinefunction(module):
        answer = await module(**arguments)
    else:
        answer = await anyio.to_thread.run_sync(partial(module, **arguments))
        if inspect.isawaitable(answer):
            answer = await answer
    due.commit(folded_text(answer))


def run_apart(awaitable: Any) -> Any:
    """Run an awaitable to its end from sync code, beside a loop that may be running in this thread."""

    async def awaited() -> Any:
        return await awaitable

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(context.run, run, awaited()).result()
