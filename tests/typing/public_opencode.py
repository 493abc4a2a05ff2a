"""Uses the whole public API of `dspy_session.opencode`. Type checkers read it; nothing runs it.

A test beside it checks that no public name is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dspy

from dspy_session import Session
from dspy_session.opencode import (
    AgentPart,
    CodingAgent,
    CodingTask,
    CodingTaskWithPlanning,
    CompactionPart,
    Evaluation,
    ExportReport,
    Failure,
    FilePart,
    History,
    Logger,
    LogReport,
    Message,
    Outcome,
    Part,
    PatchPart,
    PlanningAgent,
    Prices,
    Quality,
    ReasoningPart,
    RedactionReport,
    Redactor,
    RetryPart,
    SessionRecord,
    SkillUse,
    Skip,
    SkippedRecordWarning,
    SnapshotPart,
    Step,
    StepFinish,
    StepStart,
    SubtaskPart,
    TextPart,
    Todo,
    Tokens,
    ToolCall,
    ToolPatterns,
    Turn,
    UnknownPart,
    Usage,
    agent_prompt,
    analyze_tool_patterns,
    compute_efficiency,
    compute_success_rate,
    evaluate,
    evaluate_solution,
    examples_with_planning,
    export,
    failed,
    from_atif,
    kfold_examples,
    load_dspy_examples,
    load_training_data,
    open_source,
    outcome,
    quality,
    quality_score,
    seed_session,
    split_examples,
    succeeded,
    to_atif,
    to_chat,
    to_examples,
    to_sharegpt,
    without_outliers,
    write_agent,
    write_command,
)


def reading() -> None:
    with open_source("opencode.db") as history:
        everything: list[SessionRecord] = list(history)
        for record in history.sessions(project=".", since="2026-01-01", until=datetime(2026, 2, 1)):
            around(history, record)
            head(record)
            content(record)
        again: History = History(history.sources)
        skipped: tuple[Skip, ...] = again.skipped
        print(everything, [(skip.path, skip.row, skip.reason) for skip in skipped], SkippedRecordWarning)
    own: History = open_source()
    own.close()


def around(history: History, record: SessionRecord) -> None:
    same: SessionRecord = history.session(record.id)
    related: tuple[SessionRecord, ...] = (*history.children(same), *history.descendants(same))
    origin: tuple[SessionRecord | None, ...] = (history.parent(same), history.fork_source(same))
    usage: Usage = history.usage(record, children=False)
    print(history.fingerprint(), [each.record for each in history.listed()])
    print(related, origin, usage)


def head(record: SessionRecord) -> None:
    texts: tuple[str, ...] = (record.id, record.title, record.version, record.origin)
    perhaps: tuple[str | None, ...] = (
        *(record.slug, record.directory, record.project_id, record.parent_id, record.worktree),
    )
    times: tuple[int, int, datetime] = (record.created, record.updated, record.created_at)
    flags: tuple[bool, ...] = (record.archived, record.is_child, record.is_compacted, record.is_fork)
    money: tuple[float | None, ...] = (record.stored_cost, record.cost)
    raw: Mapping[str, Any] | None = record.revert
    print(texts, perhaps, times, flags, money, raw, record.info, record.child_ids, record.holds, record.load)


def content(record: SessionRecord) -> None:
    tokens: Tokens = record.tokens
    usage: Usage = record.usage
    copied: int = record.copied_messages
    print(tokens, usage, copied, record.content, [failure.message for failure in record.errors])
    for message in record.messages:
        said(message)
    for turn in record.turns:
        a_turn(turn)
        judged(turn)
    for step in record.steps:
        request: list[dict[str, Any]] = record.prompt(step)
        a_step(step)
        print(request)
    for call in record.tool_calls:
        a_call(call)
    for skill in record.skills:
        used(skill)
    for todo in record.todos:
        texts: tuple[str, str, str] = (todo.content, todo.priority, todo.status)
        print(texts, todo.raw, todo.shown, Todo)


def said(message: Message) -> None:
    texts: tuple[str, ...] = (message.id, message.session_id, message.role, message.typed, message.said)
    models: tuple[str, str] = (message.model, message.provider)
    perhaps: tuple[str | None, ...] = (message.agent, message.parent_id, message.system, message.variant)
    more: tuple[str | None, float | None] = (message.finish, message.stored_cost)
    times: tuple[int, int | None] = (message.created, message.completed)
    flags: tuple[bool, bool] = (message.is_shell, message.is_summary)
    error: Failure | None = message.error
    of_a_kind: tuple[TextPart, ...] = message.of(TextPart)
    if error is not None:
        print(
            error.name,
            error.message,
            error.status_code,
            error.retryable,
            error.aborted,
            error.raw,
            error.shown,
        )
    print(texts, models, perhaps, more, times, flags, of_a_kind, message.raw, message.shown)
    print(message.structured, message.diffs)
    for part in message.parts:
        a_part(part)


def a_turn(turn: Turn) -> None:
    index: int = turn.index
    texts: tuple[str, str, str] = (turn.prompt, turn.response, turn.kind)
    times: tuple[int, int | None, float | None] = (turn.started, turn.ended, turn.duration)
    flags: tuple[bool, bool] = (turn.copied, turn.reverted)
    replies: tuple[Message, ...] = (turn.user, *turn.messages, *turn.replies)
    steps: tuple[Step, ...] = turn.steps
    files: tuple[FilePart, ...] = turn.attachments
    usage: tuple[float, Tokens, Usage] = (turn.cost, turn.tokens, turn.usage)
    session: SessionRecord | None = turn.session
    print(index, texts, times, flags, replies, steps, files, usage, turn.mentions, turn.tool_calls, session)


def a_step(step: Step) -> None:
    answer: dict[str, Any] | None = step.completion
    texts: tuple[str, str, str] = (step.text, step.reasoning, step.version)
    flags: tuple[bool, bool, bool] = (step.retried, step.copied, step.reverted)
    finish: StepFinish | None = step.finish
    print(answer, texts, flags, finish, step.index, step.message, step.parts, step.tool_calls)
    usage: Usage = step.usage
    tokens: Tokens = step.tokens
    numbers: tuple[int, ...] = (
        *(tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write),
        *(tokens.prompt, tokens.completion, tokens.total),
    )
    prices = Prices(input=1.0, output=2.0, cache_read=0.1, cache_write=0.0)
    cost: tuple[float, ...] = (step.cost, usage.cost, prices.cost(tokens), prices.input, prices.output)
    print(numbers, cost, prices.cache_read, prices.cache_write, usage.tokens)
    print(usage.source, usage.accounting, usage.issues)


def a_part(part: Part) -> None:
    names: tuple[str, ...] = (part.id, part.message_id, part.session_id, part.type)
    print(names, part.raw, part.shown)
    if isinstance(part, TextPart):
        print(part.text, part.cut, part.ignored, part.synthetic, part.started, part.ended, part.metadata)
    elif isinstance(part, ReasoningPart):
        signature: str | None = part.signature
        print(part.text, part.started, part.ended, part.metadata, signature)
    elif isinstance(part, FilePart):
        size: int | None = part.size
        print(part.filename, part.inlined, part.mime, part.source, part.synthetic, part.url, size)
    elif isinstance(part, ToolCall):
        a_call(part)
    else:
        a_sign(part)


def a_sign(part: Part) -> None:
    """Parts that mark what OpenCode did."""
    if isinstance(part, StepStart):
        print(part.snapshot)
    elif isinstance(part, StepFinish):
        cost: float = part.cost
        print(part.reason, part.snapshot, part.tokens, cost)
    elif isinstance(part, PatchPart):
        files: tuple[str, ...] = part.files
        print(part.hash, files)
    elif isinstance(part, SnapshotPart):
        print(part.snapshot)
    elif isinstance(part, AgentPart):
        print(part.name)
    elif isinstance(part, SubtaskPart):
        print(part.agent, part.command, part.description, part.prompt)
    elif isinstance(part, RetryPart):
        attempt: int = part.attempt
        print(attempt, part.created, part.error)
    elif isinstance(part, CompactionPart):
        print(part.auto, part.overflow, part.tail_start_id)
    else:
        print(isinstance(part, UnknownPart))


def a_call(call: ToolCall) -> None:
    names: tuple[str, ...] = (call.tool, call.call_id, call.status, call.requested_tool)
    perhaps: tuple[str | None, ...] = (call.output, call.error, call.title, call.requested_arguments)
    child: str | None = call.child_session_id
    flags: tuple[bool, ...] = (call.builtin, call.interrupted, call.succeeded)
    numbers: tuple[float | None, ...] = (call.started, call.ended, call.duration, call.exit_code, call.pruned)
    files: tuple[str, ...] = call.files
    print(names, perhaps, child, flags, numbers, files, call.attachments, call.input, call.metadata)


def used(skill: SkillUse) -> None:
    name: str = skill.name
    numbers: tuple[int, float | None] = (skill.at, skill.duration)
    print(name, numbers, skill.how, skill.succeeded, skill.message_id, skill.folder, skill.call)


def judged(turn: Turn) -> None:
    result: Outcome = outcome(turn)
    good: bool = succeeded(turn) and not failed(turn) and result.success
    print(good, result.signal, result.detail, result.signs)
    scores: Evaluation = evaluate(turn)
    parts: tuple[float, ...] = (scores.correctness, scores.efficiency, scores.minimal_edits, scores.seconds)
    print(parts, scores.task_type, scores.success, scores.task_completed, scores.files_modified)
    print(scores.tool_calls, scores.tokens, scores.cache_hit_rate, scores.saved)
    parsed: Quality = quality(correctness=1.0, efficiency=None, minimal_edits=None, seconds=3.0)
    print(parsed.correctness, parsed.efficiency, parsed.minimal_edits, parsed.seconds)


def exporting(history: History, record: SessionRecord) -> None:
    redactor = Redactor(secrets=True, home=True, fields=["email"], patterns={"ticket": r"T-\d+"})
    report: ExportReport = export(
        history, "out", "chat", project=".", since=None, where=succeeded, redact=redactor
    )
    found: RedactionReport = report.redaction
    found.add("secret", "here")
    files: list[Path] = report.files
    print(files, report.sessions, found.counts, found.places)
    trajectory: dict[str, Any] = to_atif(record, history)
    back: SessionRecord = from_atif(trajectory)
    chat: dict[str, Any] = to_chat(back, reasoning=True, turns=record.turns)
    print(chat, to_sharegpt(record, turns=None))


def logging(history: History) -> None:
    logger = Logger(history, Path("logs"), project=None, since=None, overwrite=True, redactor=Redactor())
    report: LogReport = logger.run()
    print(report.written, report.kept, report.examples)
    for record in (*logger.look(), *logger.watch(interval=1.0, stop=lambda: True)):
        print(record.id)


def learning(history: History) -> None:
    raw: list[dict[str, Any]] = load_training_data(".opencode-logs")
    patterns: ToolPatterns = analyze_tool_patterns(raw)
    kept: list[Mapping[str, Any]] = without_outliers(raw, spread=2.0, fewest=3)
    ratios: dict[str, float] = compute_efficiency(kept)
    examples: list[dspy.Example] = to_examples(
        history, shape="planning", per="session", where=succeeded, raw=True
    )
    examples += [*load_dspy_examples(), *examples_with_planning(".opencode-logs")]
    train, test = split_examples(examples, ratio=0.5)
    print(patterns.counts, patterns.sequences, ratios, train, kfold_examples(test, k=2))


def handing_back(record: SessionRecord) -> None:
    session: Session = seed_session(
        dspy.Predict(CodingTask),
        record,
        fields={"task": "prompt"},
        where=succeeded,
        as_history=True,
        max_turns=3,
    )
    agents: list[dspy.Module] = [CodingAgent(), PlanningAgent(), dspy.Predict(CodingTaskWithPlanning)]
    text: str = agent_prompt(agents[0], max_demos=2)
    paths: tuple[Path, Path] = (
        write_agent(
            agents[0], "agent.md", description="Codes.", mode="primary", model=None, tools={"bash": False}
        ),
        write_command(agents[1], Path("c.md"), description="Plans.", agent="build", model=None, max_demos=1),
    )
    rate: float = compute_success_rate(CodingAgent(), [])
    scored: tuple[bool, float] = (evaluate_solution(None, None), quality_score(None, None))
    print(session, text, paths, rate, scored)
