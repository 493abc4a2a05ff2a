"""OpenCode's history as records, sessions and trainsets::

    from dspy_session import opencode

    history = opencode.open_source()
    for record in history.sessions(project="."):
        for step in record.steps:
            seen, answered = record.prompt(step), step.completion

Read in this order: `records`, `steps`, `messages` and `parts` (what a conversation is), `parsing` and
`sources` (where it comes from), `history` (all of it), `chat` (what the model saw), `outcomes` (what came of
it), `conversion` (the bridge to DSPy), `exports`, `logger`. Nothing here imports DSPy but `conversion`, whose
names are fetched when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PLACES = {
    "history": ("History", "open_source"),
    "records": ("Message", "SessionRecord", "Step", "Todo", "Turn"),
    "parts": (
        "AgentPart",
        "CompactionPart",
        "Failure",
        "FilePart",
        "Part",
        "PatchPart",
        "ReasoningPart",
        "RetryPart",
        "SnapshotPart",
        "StepFinish",
        "StepStart",
        "SubtaskPart",
        "TextPart",
        "ToolCall",
        "UnknownPart",
    ),
    "tokens": ("Prices", "Tokens", "Usage"),
    "skills": ("SkillUse",),
    "outcomes": ("Outcome", "failed", "outcome", "succeeded"),
    "plugin_scores": ("Evaluation", "Quality", "evaluate", "quality"),
    "sources.base": ("Skip", "SkippedRecordWarning"),
    "exports.writing": ("ExportReport", "export"),
    "exports.redaction": ("RedactionReport", "Redactor"),
    "exports.atif": ("from_atif", "to_atif"),
    "exports.chat_formats": ("to_chat", "to_sharegpt"),
    "logger": ("LogReport", "Logger"),
    "training_data": (
        "ToolPatterns",
        "analyze_tool_patterns",
        "compute_efficiency",
        "load_training_data",
        "without_outliers",
    ),
    "metrics": ("compute_success_rate", "evaluate_solution", "quality_score"),
    "agent_files": ("agent_prompt", "write_agent", "write_command"),
    "conversion": (
        "CodingAgent",
        "CodingTask",
        "CodingTaskWithPlanning",
        "PlanningAgent",
        "examples_with_planning",
        "load_dspy_examples",
        "seed_session",
        "to_examples",
    ),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _PLACES.items() for name in names}
_HOME.update(dict.fromkeys(("kfold_examples", "split_examples"), "dspy_session.examples"))

if TYPE_CHECKING:
    from dspy_session.examples import kfold_examples as kfold_examples
    from dspy_session.examples import split_examples as split_examples
    from dspy_session.opencode.agent_files import agent_prompt as agent_prompt
    from dspy_session.opencode.agent_files import write_agent as write_agent
    from dspy_session.opencode.agent_files import write_command as write_command
    from dspy_session.opencode.conversion import CodingAgent as CodingAgent
    from dspy_session.opencode.conversion import CodingTask as CodingTask
    from dspy_session.opencode.conversion import CodingTaskWithPlanning as CodingTaskWithPlanning
    from dspy_session.opencode.conversion import PlanningAgent as PlanningAgent
    from dspy_session.opencode.conversion import examples_with_planning as examples_with_planning
    from dspy_session.opencode.conversion import load_dspy_examples as load_dspy_examples
    from dspy_session.opencode.conversion import seed_session as seed_session
    from dspy_session.opencode.conversion import to_examples as to_examples
    from dspy_session.opencode.exports.atif import from_atif as from_atif
    from dspy_session.opencode.exports.atif import to_atif as to_atif
    from dspy_session.opencode.exports.chat_formats import to_chat as to_chat
    from dspy_session.opencode.exports.chat_formats import to_sharegpt as to_sharegpt
    from dspy_session.opencode.exports.redaction import RedactionReport as RedactionReport
    from dspy_session.opencode.exports.redaction import Redactor as Redactor
    from dspy_session.opencode.exports.writing import ExportReport as ExportReport
    from dspy_session.opencode.exports.writing import export as export
    from dspy_session.opencode.history import History as History
    from dspy_session.opencode.history import open_source as open_source
    from dspy_session.opencode.logger import Logger as Logger
    from dspy_session.opencode.logger import LogReport as LogReport
    from dspy_session.opencode.metrics import compute_success_rate as compute_success_rate
    from dspy_session.opencode.metrics import evaluate_solution as evaluate_solution
    from dspy_session.opencode.metrics import quality_score as quality_score
    from dspy_session.opencode.outcomes import Outcome as Outcome
    from dspy_session.opencode.outcomes import failed as failed
    from dspy_session.opencode.outcomes import outcome as outcome
    from dspy_session.opencode.outcomes import succeeded as succeeded
    from dspy_session.opencode.parts import AgentPart as AgentPart
    from dspy_session.opencode.parts import CompactionPart as CompactionPart
    from dspy_session.opencode.parts import Failure as Failure
    from dspy_session.opencode.parts import FilePart as FilePart
    from dspy_session.opencode.parts import Part as Part
    from dspy_session.opencode.parts import PatchPart as PatchPart
    from dspy_session.opencode.parts import ReasoningPart as ReasoningPart
    from dspy_session.opencode.parts import RetryPart as RetryPart
    from dspy_session.opencode.parts import SnapshotPart as SnapshotPart
    from dspy_session.opencode.parts import StepFinish as StepFinish
    from dspy_session.opencode.parts import StepStart as StepStart
    from dspy_session.opencode.parts import SubtaskPart as SubtaskPart
    from dspy_session.opencode.parts import TextPart as TextPart
    from dspy_session.opencode.parts import ToolCall as ToolCall
    from dspy_session.opencode.parts import UnknownPart as UnknownPart
    from dspy_session.opencode.plugin_scores import Evaluation as Evaluation
    from dspy_session.opencode.plugin_scores import Quality as Quality
    from dspy_session.opencode.plugin_scores import evaluate as evaluate
    from dspy_session.opencode.plugin_scores import quality as quality
    from dspy_session.opencode.records import Message as Message
    from dspy_session.opencode.records import SessionRecord as SessionRecord
    from dspy_session.opencode.records import Step as Step
    from dspy_session.opencode.records import Todo as Todo
    from dspy_session.opencode.records import Turn as Turn
    from dspy_session.opencode.skills import SkillUse as SkillUse
    from dspy_session.opencode.sources.base import Skip as Skip
    from dspy_session.opencode.sources.base import SkippedRecordWarning as SkippedRecordWarning
    from dspy_session.opencode.tokens import Prices as Prices
    from dspy_session.opencode.tokens import Tokens as Tokens
    from dspy_session.opencode.tokens import Usage as Usage
    from dspy_session.opencode.training_data import ToolPatterns as ToolPatterns
    from dspy_session.opencode.training_data import analyze_tool_patterns as analyze_tool_patterns
    from dspy_session.opencode.training_data import compute_efficiency as compute_efficiency
    from dspy_session.opencode.training_data import load_training_data as load_training_data
    from dspy_session.opencode.training_data import without_outliers as without_outliers

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
