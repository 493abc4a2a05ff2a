"""Conversations from and to OpenAI's chat form: a list of `{"role": …, "content": …}`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dspy_session.errors import ConfigurationError, FormatError
from dspy_session.history import HistoryView

Chat = Mapping[str, Any]


def _content(values: Mapping[str, Any]) -> Any:
    if len(values) == 1:
        value = next(iter(values.values()))
        return value if isinstance(value, str) else str(value)
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def to_messages(view: HistoryView) -> list[dict[str, Any]]:
    """The messages of a view as a chat."""
    chat = []
    for message in view:
        asked = {k: v for k, v in message.items() if k in message.input_names and v is not None}
        answered = {k: v for k, v in message.items() if k not in message.input_names and v is not None}
        for role, values in (("user", asked), ("assistant", answered)):
            if values:
                chat.append({"role": role, "content": _content(values)})
    return chat


def _text(content: Any) -> Any:
    """The text of a message's content; content with other parts than text is kept as it is."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
            for part in content
        ]
        return "\n".join(parts) if all(isinstance(part, str) for part in parts) else list(content)  # type: ignore[arg-type]
    return content


def _checked(chat: Iterable[Any]) -> Iterator[tuple[str, Any, Chat]]:
    for place, message in enumerate(chat):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("system", "developer", "user", "assistant", "tool", "function"):
            raise FormatError(f"message {place} is no chat message: it needs a known role and content")
        yield role, _text(message.get("content")), message


def _joined(values: list[Any]) -> Any:
    texts = [value for value in values if isinstance(value, str)]
    return "\n\n".join(texts) if len(texts) == len(values) else values[-1]


def exchanges(chat: Iterable[Chat]) -> Iterator[tuple[Any, Any, list[Chat]]]:
    """A chat as exchanges: what the user said, what was answered, and the tool messages in between.

    Messages of one role in a row are one; an answer in front of the first question has None for it. System
    messages are left out with a warning: a program's instructions are its own.

    Raises:
        FormatError: a message is no chat message.
    """
    asked: list[Any] = []
    answered: list[Any] = []
    tools: list[Chat] = []
    skipped = 0
    for role, content, message in _checked(chat):
        if role in ("system", "developer"):
            skipped += 1
        elif role == "user":
            if answered or tools:
                yield _joined(asked) if asked else None, _joined(answered) if answered else None, tools
                asked, answered, tools = [], [], []
            asked.append(content)
        elif role == "assistant":
            if content:
                answered.append(content)
            if message.get("tool_calls"):
                tools.append(dict(message))
        else:
            tools.append(dict(message))
    if answered or tools:
        yield _joined(asked) if asked else None, _joined(answered) if answered else None, tools
    elif asked:
        warnings.warn(
            "the last user message has no answer and is left out: call the session with it", stacklevel=3
        )
    if skipped:
        warnings.warn(
            f"{skipped} system messages are left out: the program's instructions take their place",
            stacklevel=3,
        )


def only_field(kind: str, names: Iterable[str], given: str | None) -> str:
    """The field that holds the text of a chat."""
    known = list(names)
    if given is not None:
        if known and given not in known:
            raise ConfigurationError(f"the program has no {kind} {given!r}; it has {known}")
        return given
    if len(known) != 1:
        raise ConfigurationError(
            f"the program's {kind}s are {known}: say {kind}_field=… to tell which holds the chat's text"
        )
    return known[0]
