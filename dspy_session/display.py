"""Values as text and as HTML. Knows turns and sessions by their attributes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

LONG = 2_000

_STYLE = (
    "<style>.dspy-session table{border-collapse:collapse;margin:.3em 0}"
    ".dspy-session th,.dspy-session td{text-align:left;vertical-align:top;padding:.2em .7em;"
    "border-bottom:1px solid rgba(128,128,128,.35);white-space:pre-wrap}"
    ".dspy-session summary{cursor:pointer}.dspy-session .muted{opacity:.65}</style>"
)


def record_text(name: str, fields: Mapping[str, Any]) -> str:
    """`Name(field=value, …)`."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in fields.items())})"


def session_text(session: Any) -> str:
    """One line that tells what a session is."""
    fields = f"turns={len(session)}, history_field={session.history_field!r}"
    return f"Session({type(session.module).__name__}, {fields})"


def shortened(value: Any, limit: int = LONG) -> str:
    """The text of a value, cut where it is too long to read."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(shortened(value))}</td></tr>" for name, value in rows
    )
    return f"<table>{body}</table>"


def _facts(turn: Any) -> list[str]:
    facts = []
    if turn.score is not None:
        facts.append(f"score {turn.score:g}")
    if turn.model:
        facts.append(turn.model)
    if turn.usage is not None:
        facts.append(f"{turn.usage.total_tokens:,} tokens")
    if turn.created_at is not None:
        facts.append(f"{turn.created_at:%Y-%m-%d %H:%M:%S} UTC")
    if not turn.exact:
        facts.append("history rebuilt")
    return facts


def _history(messages: list[Mapping[str, Any]]) -> str:
    if not messages:
        return '<p class="muted">The history was empty.</p>'
    tables = "".join(_table(message.items()) for message in messages)
    return f"<details><summary>The history was {len(messages)} messages</summary>{tables}</details>"


def turn_html(turn: Any) -> str:
    """A turn: what went in, what came out, its score, and the history it was given."""
    return f'<div class="dspy-session">{_STYLE}{_turn_body(turn)}</div>'


def _turn_body(turn: Any) -> str:
    rows = [*turn.inputs.items(), *turn.outputs.items()]
    if turn.feedback:
        rows.append(("feedback", turn.feedback))
    facts = escape(" · ".join(_facts(turn)))
    extras = (
        f"<details><summary>Extras</summary>{_table(turn.extras.items())}</details>" if turn.extras else ""
    )
    return (
        f'<p><b>Turn {turn.index}</b> <span class="muted">{facts}</span></p>'
        f"{_table(rows)}{extras}{_history(turn.history_snapshot.messages)}"
    )


def session_html(session: Any, most: int = 50) -> str:
    """A session and its newest turns."""
    turns = session.turns
    hidden = len(turns) - most
    note = f'<p class="muted">{hidden} earlier turns are not shown.</p>' if hidden > 0 else ""
    body = "".join(_turn_body(turn) for turn in turns[-most:])
    return (
        f'<div class="dspy-session">{_STYLE}<p><b>{escape(session_text(session))}</b></p>{note}{body}</div>'
    )


def calls_text(turn: Any) -> str:
    """The predictors' calls of a turn as a tree, one line a call."""
    lines = [f"Turn {turn.index}"]
    for i, call in enumerate(turn.calls):
        last = i == len(turn.calls) - 1
        given = ", ".join(f"{name}={shortened(value, 60)}" for name, value in call.inputs.items())
        answer = ", ".join(f"{name}={shortened(value, 60)}" for name, value in call.outputs.items())
        shown = 0 if call.history is None else len(call.history)
        lines.append(f"{'└─' if last else '├─'} {call.path or '(unnamed)'} [history {shown}]")
        lines.append(f"{'  ' if last else '│ '}    {given} → {answer}")
    return "\n".join(lines)
