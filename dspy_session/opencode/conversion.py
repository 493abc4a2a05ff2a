"""Records become examples (`dspy.Example`) and sessions: the one bridge from OpenCode's history to DSPy.

An example remembers its session under names that DSPy keeps to itself (`dspy_session_…`), as examples of this
library's own sessions do, so that splits keep together what belongs together: a session, its sub-agents and
its forks count as one conversation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dspy

from dspy_session.errors import ConfigurationError
from dspy_session.examples import CONVERSATION_KEY, TURN_KEY
from dspy_session.opencode.grouping import live, merged
from dspy_session.opencode.history import History, open_source
from dspy_session.opencode.outcomes import outcome
from dspy_session.opencode.plugin_format import actions, context
from dspy_session.opencode.plugin_scores import clean_task
from dspy_session.opencode.records import SessionRecord, Turn
from dspy_session.opencode.training_data import load_training_data, plan_of, tools_of

if TYPE_CHECKING:
    from dspy_session.session import Session

SUCCESS_KEY = "dspy_session_success"

Shape = Literal["actions", "planning"]
Per = Literal["turn", "session"]
Where = Callable[[Turn], bool]
Histories = History | SessionRecord | Iterable[SessionRecord] | str | os.PathLike[str]


# -- signatures and programs --


class CodingTask(dspy.Signature):  # type: ignore[misc]
    """Solve a coding task by analyzing context and taking actions."""

    task: str = dspy.InputField(desc="The coding task to complete")
    context: str = dspy.InputField(desc="Project context including files, LSP diagnostics, git status")
    actions: str = dspy.OutputField(desc="List of tools to execute with arguments")
    response: str = dspy.OutputField(desc="Explanation of what was done")


class CodingTaskWithPlanning(dspy.Signature):  # type: ignore[misc]
    """Plan and execute a coding task step by step."""

    task: str = dspy.InputField(desc="The coding task")
    context: str = dspy.InputField(desc="Project context (files, errors, git status)")
    plan: str = dspy.OutputField(desc="Step-by-step plan with tool choices")
    tools: str = dspy.OutputField(desc="Ordered list of tools to execute: read, edit, write, bash")
    response: str = dspy.OutputField(desc="Final explanation")


class CodingAgent(dspy.Module):  # type: ignore[misc]
    """Answers a `CodingTask` by chain of thought."""

    def __init__(self) -> None:
        super().__init__()
        self.generate_solution = dspy.ChainOfThought(CodingTask)

    def forward(self, task: str, context: str, history: dspy.History | None = None) -> dspy.Prediction:
        """Actions and response for a task, in view of the conversation so far, if one is given."""
        return _ask(self.generate_solution, task, context, history)


class PlanningAgent(dspy.Module):  # type: ignore[misc]
    """Answers a `CodingTaskWithPlanning` by chain of thought."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.ChainOfThought(CodingTaskWithPlanning)

    def forward(self, task: str, context: str, history: dspy.History | None = None) -> dspy.Prediction:
        """Plan, tools and response for a task, in view of the conversation so far, if one is given."""
        return _ask(self.planner, task, context, history)


def _ask(
    program: dspy.ChainOfThought, task: str, context: str, history: dspy.History | None
) -> dspy.Prediction:
    if history is None or not history.messages:
        return program(task=task, context=context)
    # The field is added for this call alone, so that the saved program keeps the plain signature.
    plain: Any = program.predict.signature
    signature = plain.prepend("history", dspy.InputField(), dspy.History)
    return program(task=task, context=context, history=history, signature=signature)


# -- examples --


def to_examples(
    history: Histories,
    *,
    shape: Shape = "actions",
    per: Per = "turn",
    where: Where | None = None,
    raw: bool = False,
) -> list[dspy.Example]:
    """OpenCode's history as a trainset.

    Left out are turns that the user undid, turns copied by a fork (they are in the session that they come
    from), turns without a reply, and what is no prompt (`!` commands, compactions asked for by the user).
    Failed turns are kept unless `where` says otherwise: give `opencode.succeeded` or `opencode.quality(…)`.

    Args:
        history: a `History`, session records, one session record, or a path for `open_source`.
        shape: "actions": `task, context, history → actions, response`;
            "planning": `task, context, history → plan, tools, response`.
        per: an example for each "turn", or for each "session" (first prompt, all actions, last response).
        where: keeps the turns for which it is true; for `per="session"` it is given the session as one turn.
        raw: context, actions and tools as objects; otherwise as JSON text.

    Returns:
        Examples with the inputs `task`, `context` and `history`: a `dspy.History` of the earlier turns, with
        the fields of the shape. Each knows its conversation, turn and outcome (`dspy_session_…`).

    Raises:
        ConfigurationError: `shape` or `per` is none of the allowed.
    """
    if shape not in ("actions", "planning"):
        raise ConfigurationError(f'shape must be "actions" or "planning", not {shape!r}')
    if per not in ("turn", "session"):
        raise ConfigurationError(f'per must be "turn" or "session", not {per!r}')
    found: list[dspy.Example] = []
    for record, conversation in _conversations(history):
        made = (
            _per_turn(record, shape, raw, where) if per == "turn" else _per_session(record, shape, raw, where)
        )
        found += [_example(turn, fields, past, conversation) for turn, fields, past in made]
    return found


_Made = Iterator[tuple[Turn, dict[str, Any], list[dict[str, Any]]]]


def _per_turn(record: SessionRecord, shape: Shape, raw: bool, where: Where | None) -> _Made:
    past: list[dict[str, Any]] = []
    own = {turn.index: turn for turn in live(record)}
    for turn in record.turns:
        turn = own.get(turn.index, turn)
        if turn.reverted or not turn.replies or turn.kind not in ("prompt", "subtask"):
            continue
        fields = _fields(turn, shape, raw)
        if turn.index in own and (where is None or where(turn)):
            yield turn, fields, list(past)
        past.append(fields)


def _per_session(record: SessionRecord, shape: Shape, raw: bool, where: Where | None) -> _Made:
    turn = merged(record)
    if turn is not None and turn.replies and (where is None or where(turn)):
        yield turn, _fields(turn, shape, raw), []


def _fields(turn: Turn, shape: Shape, raw: bool) -> dict[str, Any]:
    given = {"task": clean_task(turn.prompt), "context": _as(context(turn), raw)}
    done = actions(turn)
    if shape == "actions":
        return {**given, "actions": _as(done, raw), "response": turn.response}
    tools = [call.tool for call in turn.tool_calls]
    return {**given, "plan": plan_of(tools), "tools": _as(tools, raw), "response": turn.response}


def _as(value: Any, raw: bool) -> Any:
    return value if raw else json.dumps(value, ensure_ascii=False)


def _example(
    turn: Turn, fields: dict[str, Any], past: list[dict[str, Any]], conversation: str
) -> dspy.Example:
    given = {"task": fields["task"], "context": fields["context"], "history": dspy.History(messages=past)}
    hidden = {
        CONVERSATION_KEY: conversation,
        TURN_KEY: turn.user.id,
        SUCCESS_KEY: outcome(turn).success,
    }
    return dspy.Example({**given, **fields, **hidden}).with_inputs("task", "context", "history")


def _conversations(history: Histories) -> Iterator[tuple[SessionRecord, str]]:
    """Session records, each with the id of the conversation that it belongs to."""
    if isinstance(history, (str, os.PathLike)):
        history = open_source(history)
    if isinstance(history, History):
        parents = {record.id: record.parent_id for record in history.sessions()}
        for record in history.sessions():
            origin = history.fork_source(record)
            yield record, _root(origin.id if origin is not None else record.id, parents)
    else:
        for record in [history] if isinstance(history, SessionRecord) else history:
            yield record, record.parent_id or record.id


def _root(session_id: str, parents: Mapping[str, str | None]) -> str:
    seen = {session_id}
    while (parent := parents.get(session_id)) and parent not in seen:
        session_id = parent
        seen.add(parent)
    return session_id


def load_dspy_examples(logs_dir: Any = ".opencode-logs") -> list[dspy.Example]:
    """The plugin's successful examples as `task, context → actions, response`.

    Context and actions are JSON text.

    Args:
        logs_dir: as for `load_training_data`.
    """
    return [
        _seed_example(each, actions=json.dumps(each.get("actions", []), ensure_ascii=False))
        for each in load_training_data(logs_dir)
    ]


def examples_with_planning(logs_dir: Any = ".opencode-logs") -> list[dspy.Example]:
    """The plugin's successful examples as `task, context → plan, tools, response`.

    The plan numbers the tools in the order in which they were used.

    Args:
        logs_dir: as for `load_training_data`.
    """
    return [
        _seed_example(each, plan=plan_of(tools_of(each)), tools=json.dumps(list(tools_of(each))))
        for each in load_training_data(logs_dir)
    ]


def _seed_example(logged: Mapping[str, Any], **outputs: str) -> dspy.Example:
    given = logged["input"]
    return dspy.Example(
        task=given.get("task", ""),
        context=json.dumps(given.get("context", {}), ensure_ascii=False),
        **outputs,
        response=logged.get("output", {}).get("response", ""),
        **{CONVERSATION_KEY: logged.get("metadata", {}).get("sessionId")},
    ).with_inputs("task", "context")


# -- sessions --

Reader = Callable[[Turn], Any]


@dataclass(frozen=True)
class _Roles:
    """Which of a turn's values a field of a signature stands for, by the field's name."""

    names: Mapping[str, tuple[str, ...]]
    readers: Mapping[str, Reader]

    def reader(self, field: str) -> Reader | None:
        return next((self.readers[role] for role, names in self.names.items() if field in names), None)


_INPUTS = _Roles(
    {
        "prompt": (
            "task",
            "question",
            "query",
            "prompt",
            "request",
            "message",
            "input",
            "instruction",
            "text",
        ),
        "context": ("context", "project", "environment"),
    },
    {
        "prompt": lambda turn: clean_task(turn.prompt),
        "context": lambda turn: _as(context(turn), False),
    },
)
_OUTPUTS = _Roles(
    {
        "response": ("response", "answer", "reply", "output", "result", "completion", "message", "text"),
        "actions": ("actions", "tool_calls"),
        "tools": ("tools",),
        "plan": ("plan",),
        "reasoning": ("reasoning", "rationale", "thinking"),
    },
    {
        "response": lambda turn: turn.response,
        "actions": lambda turn: _as(actions(turn), False),
        "tools": lambda turn: _as([call.tool for call in turn.tool_calls], False),
        "plan": lambda turn: plan_of([call.tool for call in turn.tool_calls]),
        "reasoning": lambda turn: "\n\n".join(step.reasoning for step in turn.steps if step.reasoning),
    },
)


def seed_session(
    module: dspy.Module,
    record: SessionRecord,
    *,
    fields: Mapping[str, str | Reader] | None = None,
    where: Where | None = None,
    as_history: bool = False,
    **options: Any,
) -> Session:
    """A session around a module that goes on from a conversation with OpenCode.

    Each turn of the conversation that counts (neither undone nor without a reply) becomes a turn of the
    session: to be continued, scored, forked and exported like any other. What a fork copied is a part of it.

    Args:
        module: any DSPy program.
        record: the conversation.
        fields: for a field of the module's signature, a function of a `Turn`, or one of the values
            `prompt`, `context`, `response`, `actions`, `tools`, `plan`, `reasoning`. Fields that are not
            named are matched by their own names: `task`, `question`, `query`, … are the prompt, `response`,
            `answer`, … the response; if none fits, the first input and the last output are these two.
        where: keeps the turns for which it is true.
        as_history: give the conversation as the session's `initial_history` instead of as its turns.
        options: for `Session`.

    Raises:
        ConfigurationError: a name in `fields` is neither a field of the module nor one of the values.
    """
    from dspy_session.session import Session

    readers = _readers(module, dict(fields or {}))
    turns = [turn for turn in record.turns if not turn.reverted and turn.replies]
    turns = [t for t in turns if t.kind in ("prompt", "subtask") and (where is None or where(t))]
    pairs = [tuple({name: read(turn) for name, read in side.items()} for side in readers) for turn in turns]
    if as_history:
        messages = [{**inputs, **outputs} for inputs, outputs in pairs]
        return Session(module, initial_history=dspy.History(messages=messages), **options)
    session = Session(module, **options)
    for inputs, outputs in pairs:
        session.add_turn(inputs=inputs, outputs=outputs)
    return session


def _readers(
    module: dspy.Module, fields: dict[str, str | Reader]
) -> tuple[dict[str, Reader], dict[str, Reader]]:
    """For each field of the module, how to read it from a turn; fields that nothing fits are left out."""
    signature = _signature(module)
    given = [name for name in signature.input_fields if name != "history"]
    back = list(signature.output_fields)
    unknown = set(fields) - {*given, *back}
    if unknown:
        raise ConfigurationError(
            f"fields not in the module's signature: {sorted(unknown)}; it has {given + back}"
        )
    sides = []
    for names, roles, main, fallback in (
        (given, _INPUTS, "prompt", given[:1]),
        (back, _OUTPUTS, "response", back[-1:]),
    ):
        found = {name: reader for name in names if (reader := _reader(name, fields, roles)) is not None}
        if roles.readers[main] not in found.values() and fallback and fallback[0] not in found:
            found[fallback[0]] = roles.readers[main]
        sides.append({name: found[name] for name in names if name in found})
    return sides[0], sides[1]


def _reader(name: str, fields: Mapping[str, str | Reader], roles: _Roles) -> Reader | None:
    wanted = fields.get(name)
    if wanted is None:
        return roles.reader(name)
    if callable(wanted):
        return wanted
    values = {**_INPUTS.readers, **_OUTPUTS.readers}
    if wanted not in values:
        raise ConfigurationError(f"{name!r} is mapped to {wanted!r}, which is none of {sorted(values)}")
    return values[wanted]


def _signature(module: dspy.Module) -> Any:
    """The module's own signature, or that of its only predictor, or of its last."""
    own = getattr(module, "signature", None)
    if own is not None and hasattr(own, "input_fields"):
        return own
    predictors: Sequence[Any] = module.predictors()
    if not predictors:
        raise ConfigurationError(f"{type(module).__name__} has no predictor, so its fields cannot be told")
    return predictors[-1].signature
