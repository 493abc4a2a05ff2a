"""A model that answers from a script, and keeps every request that it was sent."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import dspy

Chat = list[dict[str, Any]]
Answer = str | Mapping[str, Any]
Script = Callable[[Chat, list[str]], Answer] | Iterable[Answer]

_STYLES = {
    "chat": re.compile(r"`\[\[ ## (\w+) ## \]\]`"),
    "xml": re.compile(r"`<(\w+)>`"),
    "json": re.compile(r"`(\w+)`"),
}


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a chat message, its other parts left out."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def asked_for(chat: Chat) -> tuple[str, list[str]]:
    """In which style a request asks for which output fields: `chat`, `json`, `xml`, or `text` for none of them."""
    last = text_of(chat[-1]).rsplit("Respond with", 1)
    if len(last) == 2:
        for style, pattern in _STYLES.items():
            if names := [name for name in pattern.findall(last[1]) if name != "completed"]:
                return style, list(dict.fromkeys(names))
    return "text", []


def written(style: str, fields: Mapping[str, Any]) -> str:
    """Output fields as a model writes them for an adapter."""
    if style == "json":
        return json.dumps(fields)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
    if style == "xml":
        return "\n".join(f"<{name}>\n{value}\n</{name}>" for name, value in texts.items())
    if style == "chat":
        body = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in texts.items())
        return f"{body}\n\n[[ ## completed ## ]]"
    return "\n".join(texts.values())


class ScriptedLM(dspy.BaseLM):  # type: ignore[misc]
    """A model for tests.

    Args:
        script: a function from (messages, names of the wanted output fields) to the answer, or answers one after the
            other. An answer is the text of the reply, or a dict of output fields, which is written in the style of
            the adapter that asked. By default each field's answer is `<field> <number of the request>`.
        delay: seconds that each answer takes.

    Attributes:
        requests: the messages of each request, in the order in which they came.
        options: the keyword arguments of each request, the model's own included.
    """

    def __init__(self, script: Script | None = None, *, delay: float = 0.0, model: str = "scripted") -> None:
        super().__init__(model, "chat", 0.0, 1_000, False)
        self._script = script if script is None or callable(script) else iter(script)
        self._guard = threading.Lock()
        self.delay = delay
        self.requests: list[Chat] = []
        self.options: list[dict[str, Any]] = []

    def _answer(self, messages: Chat, options: dict[str, Any]) -> Any:
        chat = copy.deepcopy(messages)
        style, names = asked_for(chat)
        with self._guard:
            self.requests.append(chat)
            self.options.append({**self.kwargs, **options})
            number = len(self.requests)
            given: Any = None if callable(self._script) or self._script is None else next(self._script)
        if callable(self._script):
            given = self._script(chat, names)
        elif given is None:
            given = {name: f"{name} {number}" for name in names} or f"answer {number}"
        text = given if isinstance(given, str) else written(style, given)
        message = SimpleNamespace(content=text, tool_calls=None)
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason="stop")],
            usage={"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
            model=self.model,
        )

    def forward(self, prompt: str | None = None, messages: Chat | None = None, **options: Any) -> Any:
        if self.delay:
            time.sleep(self.delay)
        return self._answer(messages or [{"role": "user", "content": prompt}], options)

    async def aforward(self, prompt: str | None = None, messages: Chat | None = None, **options: Any) -> Any:
        if self.delay:
            import asyncio

            await asyncio.sleep(self.delay)
        return self._answer(messages or [{"role": "user", "content": prompt}], options)

    def copy(self, **kwargs: Any) -> ScriptedLM:
        """A model with other settings that goes on with the same script and the same list of requests."""
        new = copy.copy(self)
        new.history, new.callbacks = [], list(self.callbacks)
        new.kwargs = {k: v for k, v in {**self.kwargs, **kwargs}.items() if v is not None}
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedLM:
        return self
