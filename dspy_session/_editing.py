"""Changing a conversation by hand: adding, replacing and taking back turns, asking again, forking."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from dspy_session._as_module import cloned
from dspy_session._calls import TurnCall
from dspy_session._exchange import Exchange, keep
from dspy_session._injection import is_session
from dspy_session._open_nodes import add_to_nodes
from dspy_session._options import stored_turns
from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.history import Position
from dspy_session.memory import NodeTable
from dspy_session.turns import Turn, TurnRecord

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

Own = TypeVar("Own", bound="SessionBase")


def fields(parameter: str, values: Any) -> dict[str, Any]:
    """Check and copy field values that a caller gave."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise ConfigurationError(f"{parameter} must be a dict of field names to values, not {values!r}")
    return keep(values, f"the {parameter.removesuffix('s')}")


class Editing:
    """The part of a session that changes its conversation."""

    def add_turn(  # type: ignore[misc]
        self: SessionBase,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        extras: Mapping[str, Any] | None = None,
    ) -> Turn:
        """Add a turn that no call made; later calls are shown it.

        Args:
            inputs: the program's inputs.
            outputs: its outputs.
            extras: what else to keep.

        Returns:
            The turn. Its snapshot is the history that a call would have been given.
        """
        exchange = Exchange(
            fields("inputs", inputs), fields("outputs", outputs), fields("extras", extras or {})
        )
        state = self.state
        with state.mutex:
            view = self.windowed(state.view(self.options.projection))
            record = TurnRecord(state.next_index(), exchange, view, created=time.time())
            if self.node_table is not None:
                record.nodes = add_to_nodes(self.node_table, self, state, exchange)
            state.append(record, stored_turns(self.options, state))
        return Turn.of(record, state)

    def edit_turn(  # type: ignore[misc]
        self: SessionBase,
        index: int | str | Turn,
        *,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Turn:
        """Correct a turn; later calls are shown the correction.

        Turns that were recorded since keep the snapshots of what they were given. The corrected turn has an id of
        its own and no score: `record.replaces` names the one that it takes the place of.

        Args:
            index: the turn, by index (negative from the end), id, or itself.
            inputs: all inputs anew, or None to keep them.
            outputs: all outputs anew, or None to keep them.
            extras: all extras anew, or None to keep them.

        Raises:
            UnknownPathError: there is no such turn.
        """
        state = self.state
        with state.mutex:
            old = state.find(index)
            exchange = Exchange(
                old.exchange.inputs if inputs is None else fields("inputs", inputs),
                old.exchange.outputs if outputs is None else fields("outputs", outputs),
                old.exchange.extras if extras is None else fields("extras", extras),
            )
            new = TurnRecord(
                old.index, exchange, old.view, created=time.time(), model=old.model, usage=old.usage,
                exact=old.exact and inputs is None, replaces=old.id, nodes=old.nodes,
            )  # fmt: skip
            records = [new if record is old else record for record in state.position.records()]
            state.move(Position.of(records))
            # What was said of the turn before is no longer true.
            state.summaries = [summary for summary in state.summaries if summary.covers <= new.index]
        return Turn.of(new, state)

    def pop_turn(self: SessionBase) -> Turn | None:  # type: ignore[misc]
        """Take back the newest turn and return it; None if there is none."""
        removed = self.undo(1)
        return removed[0] if removed else None

    def undo(self: SessionBase, steps: int = 1) -> list[Turn]:  # type: ignore[misc]
        """Take back the newest turns.

        Args:
            steps: how many; none if it is not positive.

        Returns:
            The removed turns, oldest first.
        """
        if isinstance(steps, bool) or not isinstance(steps, int):
            raise ConfigurationError(f"steps must be a whole number, not {steps!r}")
        return self.state.undo(steps)

    def retry(self: SessionBase, **changed: Any) -> Any:  # type: ignore[misc]
        """Ask the last question again; the new answer takes the old one's place, which is kept in `branches`.

        The model is asked afresh, past DSPy's cache. If it fails, everything is as it was.

        Args:
            **changed: inputs to ask with instead of the turn's own.

        Returns:
            What the program returned.

        Raises:
            UnknownPathError: there is no turn yet.
        """
        return self._run(TurnCall(self, (), *self._again(changed)))

    async def aretry(self: SessionBase, **changed: Any) -> Any:  # type: ignore[misc]
        """`retry` for async code."""
        return await self._arun(TurnCall(self, (), *self._again(changed)))

    def _again(self: SessionBase, changed: dict[str, Any]) -> tuple[dict[str, Any], TurnRecord]:  # type: ignore[misc]
        last = self.state.position.last()
        if last is None:
            raise UnknownPathError("there is no turn to ask again")
        return {**Turn.of(last).inputs, **changed}, last

    @property
    def branches(self: Own) -> list[Own]:  # type: ignore[misc]
        """A session for each answer that `retry` replaced, as the conversation was with it."""
        forks = []
        for branch in self.state.branches:
            state = self.state.fork()
            state.branches = []
            state.move(branch.position)
            if branch.nodes:
                state.node_states = {path: node.fork() for path, node in branch.nodes.items()}
            for turn_id, note in branch.notes.items():
                state.set_note(turn_id, note)
            forks.append(self._fork_with(state))
        return forks

    def reset(self: SessionBase) -> None:  # type: ignore[misc]
        """Forget all turns. The initial history stays."""
        self.state.reset()

    def fork(self: Own) -> Own:  # type: ignore[misc]
        """A session that goes on from here by itself. It shares the turns so far; its cost does not grow with them."""
        return self._fork_with(self.state.fork())

    def update_module(self: SessionBase, module: dspy.Module) -> None:  # type: ignore[misc]
        """Exchange the program and go on with the conversation.

        Args:
            module: a bare program, a compiled one, or another session, whose program is taken.
        """
        program = module.module if is_session(module) else module
        if not isinstance(program, dspy.Module):
            raise ConfigurationError(f"update_module needs a dspy.Module, not {module!r}")
        replacement = cloned(program, self.options.copy_mode)
        if self._node_arguments is not None:
            # Policies that name nodes which the new program lacks must not be found out in the midst of a turn.
            NodeTable(replacement, self.options, **self._node_arguments)
        self._install(replacement)
