"""A turn as an example in the DSPy logging plugin's format, with what the plugin itself could not know.

The shape is that of format 1.3. Better than the plugin's: a call's `success` is OpenCode's own word and the
exit status, not the word "error" in the output; the history holds earlier turns alone; diagnostics, money and
project type are filled in from what the tools recorded. The state of git is only there if it was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from dspy_session.opencode import _fields as read
from dspy_session.opencode.grouping import live
from dspy_session.opencode.parts import FilePart, ToolCall
from dspy_session.opencode.plugin_scores import Evaluation, clean_task, evaluate
from dspy_session.opencode.records import SessionRecord, Turn
from dspy_session.opencode.times import stamp

Json = dict[str, Any]

MOST_FILES = 20
LONGEST_HISTORY_TEXT = 500
_LANGUAGES = {
    ".py": "python",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".js": "javascript",
    ".jsx": "javascript",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".kt": "kotlin",
    ".rb": "ruby",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".cs": "csharp",
    ".php": "php",
    ".swift": "swift",
}
_SEVERITIES = {1: "errors", 2: "warnings"}
_CREATES = frozenset({"write"})


def example(turn: Turn) -> Json:
    """The turn as one example: `input`, `actions`, `output`, `outcome`, `agent`, `metadata`.

    A turn that was read from the plugin's own file gives back the example recorded there.
    """
    recorded = turn.user.raw.get("dspy")
    if isinstance(recorded, dict):
        return recorded
    earlier = earlier_turns(turn)
    return {
        "input": {
            "task": clean_task(turn.prompt),
            "context": context(turn),
            "conversationHistory": [entry for each in earlier for entry in _history(each)],
        },
        "actions": actions(turn),
        "output": {"response": turn.response, "finalMessage": turn.messages[-1].id},
        "outcome": outcome_object(turn, evaluate(turn)),
        "agent": _agent(turn),
        "metadata": {
            "timestamp": stamp(turn.started),
            "sessionId": turn.user.session_id,
            "duration": turn.duration or 0.0,
            "messageCount": len(turn.messages),
        },
    }


def earlier_turns(turn: Turn) -> tuple[Turn, ...]:
    """The turns before this one that count."""
    if turn.session is None:
        return ()
    return tuple(each for each in turn.session.turns[: turn.index] if not each.reverted)


def context(turn: Turn) -> Json:
    """What was known of the project when the turn began, as far as it was recorded.

    Files come from the prompt's attachments, from the tools' arguments of earlier turns, then of this turn;
    files that this turn itself created are not among them.
    """
    session = turn.session
    directory = session.directory if session is not None else None
    files = relevant_files(turn)
    found: Json = {"workingDirectory": directory or _cwd(turn) or ""}
    language = project_type(files)
    if language is not None:
        found["projectType"] = language
    found["relevantFiles"] = files
    found["lspDiagnostics"] = _listed(
        _diagnostics(call for t in earlier_turns(turn) for call in t.tool_calls)
    )
    git = session.info.get("gitStatus") if session is not None else None
    if isinstance(git, dict):
        found["gitStatus"] = git
    return found


def relevant_files(turn: Turn) -> list[str]:
    """Paths that have to do with the prompt, at most 20."""
    attached = [p.url.removeprefix("file://") for p in turn.user.of(FilePart) if p.url.startswith("file:")]
    before = [file for each in earlier_turns(turn) for call in each.tool_calls for file in call.files]
    created: set[str] = set()
    touched: list[str] = []
    for call in turn.tool_calls:
        for file in call.files:
            if call.tool in _CREATES and call.metadata.get("exists") is False:
                created.add(file)
            touched.append(file)
    known = [file for file in dict.fromkeys([*attached, *before, *touched]) if file not in created]
    return known[:MOST_FILES]


def project_type(files: Iterable[str]) -> str | None:
    """The language that most of the files are written in; None if none is known."""
    suffixes = ((PureWindowsPath if "\\" in file else PurePosixPath)(file).suffix for file in files)
    languages = Counter(_LANGUAGES[suffix.lower()] for suffix in suffixes if suffix.lower() in _LANGUAGES)
    return languages.most_common(1)[0][0] if languages else None


def actions(turn: Turn) -> list[Json]:
    """The tool calls, numbered over the session from 1."""
    before = 0
    if turn.session is not None:
        before = sum(len(each.tool_calls) for each in turn.session.turns[: turn.index])
    return [_action(call, before + place) for place, call in enumerate(turn.tool_calls, 1)]


def _action(call: ToolCall, step: int) -> Json:
    recorded = call.raw.get("dspy")
    if isinstance(recorded, dict):
        return recorded
    made: Json = {"step": step, "tool": call.tool, "callID": call.call_id, "args": dict(call.input)}
    if call.started is not None:
        made["timestamp"] = stamp(call.started)
    result = call.output if call.output is not None else call.error
    if result is not None:
        made["result"] = result
    made["success"] = call.succeeded
    if isinstance(call.metadata.get("diagnostics"), dict):
        made["lspDiagnosticsAfter"] = _listed(_diagnostics([call]))
    return made


def _history(turn: Turn) -> list[Json]:
    said = (("user", clean_task(turn.prompt), turn.started), ("assistant", turn.response, turn.ended))
    return [
        {"role": role, "content": text[:LONGEST_HISTORY_TEXT], "timestamp": stamp(at or turn.started)}
        for role, text, at in said
        if text
    ]


def _agent(turn: Turn) -> Json:
    last = turn.replies[-1] if turn.replies else turn.user
    usage = turn.steps[-1].usage.tokens if turn.steps else None
    made: Json = {"name": last.agent} if last.agent else {}
    made["model"] = last.model
    made["promptTokens"] = usage.input if usage else 0
    made["completionTokens"] = usage.output if usage else 0
    return made


def outcome_object(turn: Turn, judged: Evaluation) -> Json:
    """The plugin's `outcome` object, with the money and reasoning tokens that it lost."""
    tokens = judged.tokens
    after = _diagnostics(turn.tool_calls)
    before = _diagnostics(call for each in earlier_turns(turn) for call in each.tool_calls)
    errors = [
        sum(len(found["errors"]) for found in state.values()) for state in (before, {**before, **after})
    ]
    return {
        "success": judged.success,
        "taskCompleted": judged.task_completed,
        "metrics": {
            "lspErrorsCleared": errors[0] > 0 and errors[1] < errors[0],
            "filesModified": judged.files_modified,
            "timeToCompletion": judged.seconds,
            "toolCallCount": judged.tool_calls,
            "tokenCost": {
                "input": tokens.input,
                "output": tokens.output,
                "reasoning": tokens.reasoning,
                "cache": {"read": tokens.cache_read, "write": tokens.cache_write},
            },
            "cost": turn.usage.cost,
            "cacheHitRate": judged.cache_hit_rate,
        },
        "evaluation": {
            "correctness": judged.correctness,
            "efficiency": judged.efficiency,
            "minimalEdits": judged.minimal_edits,
        },
    }


def session_log(session: SessionRecord, turns: Iterable[Turn], generated: int) -> Json:
    """The top level of the plugin's file for a session, with these turns as examples.

    It has the keys of format 1.3 and the `outcome` of the formats before it, which is that of the last turn.

    Args:
        generated: when it is made (ms).
    """
    prompted = [turn for turn in live(session) if turn.kind in ("prompt", "subtask")]
    examples = [example(turn) for turn in turns]
    last = outcome_object(prompted[-1], evaluate(prompted[-1])) if prompted else None
    return {
        "session": session.id,
        "generated": stamp(generated),
        "totalExamples": len(examples),
        "totalTurns": len(prompted),
        "successfulTurns": len(examples),
        "overallSuccess": bool(examples),
        "totalToolCalls": len(session.tool_calls),
        "outcome": examples[-1]["outcome"] if examples else last,
        "examples": examples,
    }


def _cwd(turn: Turn) -> str | None:
    paths = (read.mapping(message.raw.get("path")).get("cwd") for message in turn.replies)
    return next((path for path in paths if isinstance(path, str)), None)


def _diagnostics(calls: Iterable[ToolCall]) -> dict[str, dict[str, list[Json]]]:
    """The latest errors and warnings of each file that the calls report on."""
    found: dict[str, dict[str, list[Json]]] = {}
    for call in calls:
        for file, entries in read.mapping(call.metadata.get("diagnostics")).items():
            state: dict[str, list[Json]] = {"errors": [], "warnings": []}
            for entry in read.items(entries):
                kind = _SEVERITIES.get(read.count(read.mapping(entry).get("severity")))
                if kind is not None:
                    state[kind].append(_diagnostic(file, entry, kind))
            found[file] = state
    return found


def _diagnostic(file: str, entry: Mapping[str, Any], kind: str) -> Json:
    start = read.mapping(read.mapping(entry.get("range")).get("start"))
    # Language servers count lines from 0, the plugin's format from 1.
    line = read.count(start.get("line")) + 1
    return {"file": file, "line": line, "message": read.text(entry.get("message")), "severity": kind[:-1]}


def _listed(found: Mapping[str, Mapping[str, list[Json]]]) -> Json:
    return {
        kind: [each for state in found.values() for each in state[kind]] for kind in ("errors", "warnings")
    }
