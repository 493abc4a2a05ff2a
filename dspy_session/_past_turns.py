"""Past turns as one predictor is shown them: which of them fit its fields, and how the others are told.

Beside them the rules that providers set for a list of chat messages: it begins with the user, and none is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER, split_message_content_for_custom_types

from dspy_session import _context
from dspy_session._exchange import Message
from dspy_session._rendered import Chat
from dspy_session._signatures import Facts
from dspy_session.history import HistoryView, SessionHistory, as_message, messages_of

DEMO_LEAD = (
    "This is an example from another conversation, which has nothing to do with the present one. It began:"
)
DEMO_END = "The example goes on:"
REPLY_LEAD = "The conversation so far begins with this reply:"


def view_of(history: Any) -> HistoryView:
    """The view that a history input stands for."""
    if isinstance(history, SessionHistory) and history.untouched:
        return history.view
    frame = _context.frame()
    names = frozenset() if frame is None else frame.input_names
    return HistoryView(head=tuple(as_message(m, names, copy=True) for m in messages_of(history)))


def past_messages(known: Facts, history: Any) -> list[Message]:
    """The messages of a history input; of plain dicts the program's own inputs are the inputs."""
    if isinstance(history, SessionHistory) and history.untouched:
        return history.view.messages()
    frame = _context.frame()
    names = known.inputs if frame is None else known.inputs | frame.input_names
    return [as_message(message, names) for message in messages_of(history)]


def shown_names(known: Facts, message: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name in (*known.inputs, *known.outputs) if message.get(name) is not None)


def has_tool_results(value: Any) -> bool:
    if isinstance(value, dict):
        return "tool_calls" in value and value.get("tool_call_results") is not None
    return isinstance(value, dspy.ToolCalls) and getattr(value, "tool_call_results", None) is not None


def fits(known: Facts, message: Message) -> bool:
    """Whether a past turn can be shown in the predictor's own fields, each on the side on which it was."""
    given = {name for name in message.input_names if message.get(name) is not None}
    answered = {name for name, value in message.items() if value is not None} - given
    if given & known.outputs:
        return False
    return (not given or bool(given & known.inputs)) and (not answered or bool(answered & known.outputs))


def divided(known: Facts, past: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    mine: list[Message] = []
    others: list[Message] = []
    for message in past:
        (mine if fits(known, message) else others).append(message)
    return mine, others


def without_none(messages: Iterable[Message]) -> list[Message]:
    return [
        Message({k: v for k, v in message.items() if v is not None}, message.input_names)
        for message in messages
    ]


def speaking(chats: Iterable[Chat]) -> list[Chat]:
    """Without messages that say nothing, which providers refuse."""
    return [chat for chat in chats if chat.get("content") or chat.get("tool_calls")]


def _text(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def plain_messages(messages: Sequence[Message]) -> list[Chat]:
    """Turns of other predictors, for an adapter whose format is not known: their values as they are."""
    chats = []
    for message in messages:
        asked = {k: v for k, v in message.items() if k in message.input_names and v is not None}
        answer = {k: v for k, v in message.items() if k not in message.input_names and v is not None}
        for role, values in (("user", asked), ("assistant", answer)):
            content = str(next(iter(values.values()))) if len(values) == 1 else _text(values)
            if values and content:
                chats.append({"role": role, "content": content})
    return expanded(chats)


def lead(begun: Sequence[Mapping[str, Any]]) -> str:
    told = "\n\n".join(_text({k: v for k, v in message.items() if v is not None}) for message in begun)
    return f"{DEMO_LEAD}\n\n{told}\n\n{DEMO_END}"


def labelled(known: Facts, demos: list[Any]) -> list[Any]:
    """Demos for an adapter that formats by itself: what a history told goes in front of the first input."""
    labelled = []
    for demo in demos:
        begun = messages_of(demo.get(known.history))
        fields = {name: value for name, value in demo.items() if name != known.history}
        first = next((name for name in known.bare.input_fields if name in fields), None)
        if begun and first is not None:
            fields[first] = f"{lead(begun)}\n\n{fields[first]}"
        labelled.append(dspy.Example(fields) if isinstance(demo, dspy.Example) else fields)
    return labelled


def expanded(chats: list[Chat]) -> list[Chat]:
    """Images and other custom types as content parts, which DSPy makes of markers in the text."""
    marked = [
        c for c in chats if isinstance(c["content"], str) and CUSTOM_TYPE_START_IDENTIFIER in c["content"]
    ]
    if marked:
        split_message_content_for_custom_types(marked)
    return chats


def from_user(turns: list[Chat]) -> list[Chat]:
    """Providers want a conversation to begin with the user: a reply at its start becomes something told."""
    if turns and turns[0]["role"] == "assistant":
        content = turns[0]["content"]
        turns[0] = {"role": "user", "content": f"{REPLY_LEAD}\n\n{content}"}
    return turns


def before_request(messages: list[Chat], inserted: list[Chat]) -> list[Chat]:
    """Put messages before the last user message, or at the end if there is none."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user":
            return messages[:place] + inserted + messages[place:]
    return messages + inserted
