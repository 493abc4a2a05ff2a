"""How past turns and demos become chat messages.

`rendering(adapter)` gives the adapter that is active where a predictor runs a mixin in front of its class. The mixin
lets the adapter write everything that it writes for a bare program (system prompt, current request) from the
signature without the added history field, and puts the conversation in between:

- a past turn that has fields of the predictor is written by the adapter itself, from a signature of only the fields
  that the turn shows: DSPy's own formatting prints `None` for a field that a past turn lacks;
- a turn that has none of its outputs is shown under the turn's own field names;
- a demo that carries a history is one example, introduced as part of another conversation.

An adapter that formats histories by itself gets the turns that fit the predictor, and the others are put as messages
before the last user message. The mixin keeps no state: what it needs travels in the arguments.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

import dspy
from dspy import History
from dspy.adapters.base import Adapter
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER, split_message_content_for_custom_types

from dspy_session import _context
from dspy_session._disguise import identity
from dspy_session._exchange import Message
from dspy_session._signatures import Facts, Signature, facts, foreign, showing
from dspy_session.history import HistoryView, SessionHistory, as_message, messages_of

Chat = dict[str, Any]

CACHE_BYTES = 64 * 1024 * 1024
"""The most that cached renderings of past turns may take, over all conversations of the process."""

DEMO_LEAD = (
    "This is an example from another conversation, which has nothing to do with the present one. It began:"
)
DEMO_END = "The example goes on:"
REPLY_LEAD = "The conversation so far begins with this reply:"

_tokens = itertools.count()
_rest: ContextVar[list[Message] | None] = ContextVar("dspy_session_rest", default=None)


class _Cache:
    """Rendered turns, in two generations: when the young one is full it becomes the old one, and the old one goes.

    A turn that is still in use moves back to the young generation when it is asked for, so what is dropped has not
    been used for half of the cap. Races between threads can only render a turn twice.
    """

    def __init__(self, cap: int) -> None:
        self._half = cap // 2
        self._young: dict[Any, tuple[Chat, ...]] = {}
        self._old: dict[Any, tuple[Chat, ...]] = {}
        self._bytes = 0

    def get(self, key: Any) -> tuple[Chat, ...] | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Any, rendered: tuple[Chat, ...]) -> None:
        self._bytes += 400 + sum(sys.getsizeof(message["content"]) for message in rendered)
        if self._bytes > self._half:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = rendered

    def clear(self) -> None:
        self._young, self._old, self._bytes = {}, {}, 0


RENDERED = _Cache(CACHE_BYTES)


class Captured(BaseException):
    """Ends a preview at its first request. No program and no adapter catches it by accident."""

    def __init__(self, messages: list[Chat]) -> None:
        super().__init__("preview")
        self.messages = messages


class SessionRendering:
    """The mixin. `_own_format` and `_own_history` tell what the adapter under it overrides, and
    `_reminds` whether it ends a request with a reminder of the output fields.

    It is no subclass of `Adapter`: DSPy would wrap its methods in callbacks, which would fire once more.
    """

    _token: int
    _own_format: ClassVar[bool]
    _own_history: ClassVar[bool]
    _reminds: ClassVar[bool]
    _base_format: ClassVar[Callable[..., list[Chat]]]

    def format(self, signature: Signature, demos: list[Any], inputs: dict[str, Any]) -> list[Chat]:
        messages = self._chat(signature, demos, inputs)
        frame = _context.frame()
        if frame is not None and frame.preview:
            raise Captured(messages)
        return messages

    def _chat(self, signature: Signature, demos: list[Any], inputs: dict[str, Any]) -> list[Chat]:
        known = facts(signature)
        if known.history is None:
            return self._base_format(signature, demos, inputs)
        past = _past_messages(known, inputs.get(known.history))
        if self._own_format:
            return self._format_by_itself(known, demos, inputs, past)
        inputs = {name: value for name, value in inputs.items() if name != known.history}
        messages = self._base_format(known.bare, [], inputs)
        if not known.added:
            messages[0] = {"role": "system", "content": self._system_message(known.exact)}
        if self._own_history:
            mine, others = _divided(known, past)
            turns = self._history_by_itself(known, inputs, mine) + _plain_messages(others)
        else:
            turns = self._turns(known, past)
        return _before_request(messages, [*self._demos(known, demos), *_from_user(turns)])

    def format_conversation_history(
        self, signature: Signature, history_field_name: str, inputs: dict[str, Any]
    ) -> list[Chat]:
        # Reached when an adapter's own format() falls back on DSPy's: then all turns can be rendered here.
        past = _rest.get()
        if past is None or self._own_history:
            return super().format_conversation_history(signature, history_field_name, inputs)  # type: ignore[misc, no-any-return]
        _rest.set(None)
        inputs.pop(history_field_name, None)
        return _from_user(self._turns(facts(signature), past))

    def format_system_message(self, signature: Signature) -> str:
        known = facts(signature)
        return super().format_system_message(known.bare if known.added else signature)  # type: ignore[misc, no-any-return]

    def format_demos(self, signature: Signature, demos: list[Any]) -> list[Chat]:
        known = facts(signature)
        if known.history is not None:
            return self._demos(known, demos)
        return super().format_demos(signature, demos)  # type: ignore[misc, no-any-return]

    def format_assistant_message_content(
        self, signature: Signature, outputs: Mapping[str, Any], missing_field_message: str | None = None
    ) -> str:
        # Adapters with a format_conversation_history of their own pass past turns with the whole signature.
        if isinstance(outputs, Message):
            signature = showing(signature, _shown_names(facts(signature), outputs))
        options = {} if missing_field_message is None else {"missing_field_message": missing_field_message}
        return super().format_assistant_message_content(signature, outputs, **options)  # type: ignore[misc, no-any-return]

    def format_user_message_content(
        self,
        signature: Signature,
        inputs: Mapping[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        if isinstance(inputs, Message):
            signature = showing(signature, _shown_names(facts(signature), inputs))
            main_request = main_request and bool(signature.output_fields)
        # Only what was asked for is passed on: overrides need not accept every option.
        options = {"prefix": prefix, "suffix": suffix, "main_request": main_request and self._reminds}
        asked = {name: value for name, value in options.items() if value}
        return super().format_user_message_content(signature, inputs, **asked)  # type: ignore[misc, no-any-return]

    def _make_json_adapter_fallback(self) -> Any:
        return rendering(super()._make_json_adapter_fallback())  # type: ignore[misc]

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────

    def _system_message(self, signature: Signature) -> str:
        if isinstance(self, dspy.TwoStepAdapter):
            return self.format_task_description(signature)  # type: ignore[no-any-return]
        return self.format_system_message(signature)

    def _turns(self, known: Facts, past: Iterable[Message]) -> list[Chat]:
        """Past turns as chat messages that the caller may change."""
        messages: list[Chat] = []
        for message in past:
            key = None if message.key is None else (message.key, known.token, self._token)
            rendered = None if key is None else RENDERED.get(key)
            if rendered is None:
                rendered = tuple(map(_flat, _expanded(self._turn(known, message))))
                if key is not None:
                    RENDERED.put(key, rendered)
            messages.extend([_copied(chat) for chat in rendered])
        return messages

    def _turn(self, known: Facts, message: Message) -> list[Chat]:
        if not _fits(known, message):
            return self._foreign_turn(message)
        if any(map(_has_tool_results, message.values())):
            # Tool calls with their results become several messages; only DSPy's own code knows how.
            history = {"history": History.model_construct(messages=[message])}
            signature = showing(known.bare, _shown_names(known, message))
            return Adapter.format_conversation_history(self, signature, "history", history)  # type: ignore[no-any-return]
        try:
            return self._written(showing(known.bare, _shown_names(known, message)), message, remind=True)
        except (TypeError, ValueError, AttributeError):
            # A value that the field can no longer hold, because the program was exchanged since.
            return self._foreign_turn(message)

    def _foreign_turn(self, message: Message) -> list[Chat]:
        (given,) = _without_none([message])
        return self._written(foreign(given, given.input_names), given, remind=False)

    def _written(self, signature: Signature, message: Message, *, remind: bool) -> list[Chat]:
        chats = []
        outputs = bool(signature.output_fields)
        if signature.input_fields:
            content = self.format_user_message_content(signature, message, main_request=remind and outputs)
            chats.append({"role": "user", "content": content})
        if outputs:
            content = self.format_assistant_message_content(signature, message)
            chats.append({"role": "assistant", "content": content})
        return chats

    def _history_by_itself(self, known: Facts, inputs: dict[str, Any], mine: list[Message]) -> list[Chat]:
        chats: list[Chat] = []
        # The adapter prints every field of the signature: turns that lack some are passed with a smaller one.
        for names, group in itertools.groupby(mine, lambda message: _shown_names(known, message)):
            given = {**inputs, str(known.history): History.model_construct(messages=_without_none(group))}
            signature = showing(known.bare, names)
            chats += super().format_conversation_history(signature, known.history, given)  # type: ignore[misc]
        return list(_expanded(_speaking(chats)))

    def _format_by_itself(
        self, known: Facts, demos: list[Any], inputs: dict[str, Any], past: list[Message]
    ) -> list[Chat]:
        mine, others = _divided(known, past)
        inputs = {name: value for name, value in inputs.items() if name != known.history}
        if mine:
            inputs[str(known.history)] = History.model_construct(messages=_without_none(mine))
        signature = known.exact if mine or not known.added else known.bare
        token = _rest.set(past)
        try:
            messages = self._base_format(signature, _labelled(known, demos), inputs)
            rendered = _rest.get() is None
        finally:
            _rest.reset(token)
        return messages if rendered else _before_request(messages, _plain_messages(others))

    def _demos(self, known: Facts, demos: list[Any]) -> list[Chat]:
        """Demos; those that carry a history are introduced as examples of another conversation."""
        alone: list[Any] = []
        told: list[Any] = []
        for demo in demos:
            begun = messages_of(demo.get(known.history))
            (told if begun else alone).append((demo, begun))
        chats: list[Chat] = []
        if alone:
            chats += super().format_demos(known.bare, [demo for demo, _ in alone])  # type: ignore[misc]
        for demo, begun in told:
            shown = Message({k: demo[k] for k in known.bare.fields if demo.get(k) is not None}, known.inputs)
            signature = showing(known.bare, frozenset(shown))
            if not signature.input_fields or not signature.output_fields:
                continue
            content = self.format_user_message_content(signature, shown, prefix=_lead(begun))
            chats.append({"role": "user", "content": content})
            chats.append(
                {"role": "assistant", "content": self.format_assistant_message_content(signature, shown)}
            )
        return list(_expanded(chats))


def _past_messages(known: Facts, history: Any) -> list[Message]:
    """The messages of a history input; of plain dicts the program's own inputs are the inputs."""
    if isinstance(history, SessionHistory) and history.untouched:
        return history.view.messages()
    frame = _context.frame()
    names = known.inputs if frame is None else known.inputs | frame.input_names
    return [as_message(message, names) for message in messages_of(history)]


def _shown_names(known: Facts, message: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name in (*known.inputs, *known.outputs) if message.get(name) is not None)


def _has_tool_results(value: Any) -> bool:
    if isinstance(value, dict):
        return "tool_calls" in value and value.get("tool_call_results") is not None
    return isinstance(value, dspy.ToolCalls) and getattr(value, "tool_call_results", None) is not None


def _fits(known: Facts, message: Message) -> bool:
    """Whether a past turn can be shown in the predictor's own fields, each on the side on which it was."""
    given = {name for name in message.input_names if message.get(name) is not None}
    answered = {name for name, value in message.items() if value is not None} - given
    if given & known.outputs:
        return False
    return (not given or bool(given & known.inputs)) and (not answered or bool(answered & known.outputs))


def _divided(known: Facts, past: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    mine: list[Message] = []
    others: list[Message] = []
    for message in past:
        (mine if _fits(known, message) else others).append(message)
    return mine, others


def _without_none(messages: Iterable[Message]) -> list[Message]:
    return [
        Message({k: v for k, v in message.items() if v is not None}, message.input_names)
        for message in messages
    ]


def _speaking(chats: Iterable[Chat]) -> list[Chat]:
    """Without messages that say nothing, which providers refuse."""
    return [chat for chat in chats if chat.get("content") or chat.get("tool_calls")]


def _text(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def _plain_messages(messages: Sequence[Message]) -> list[Chat]:
    """Turns of other predictors, for an adapter whose format is not known: their values as they are."""
    chats = []
    for message in messages:
        asked = {k: v for k, v in message.items() if k in message.input_names and v is not None}
        answer = {k: v for k, v in message.items() if k not in message.input_names and v is not None}
        for role, values in (("user", asked), ("assistant", answer)):
            content = str(next(iter(values.values()))) if len(values) == 1 else _text(values)
            if values and content:
                chats.append({"role": role, "content": content})
    return _expanded(chats)


def _lead(begun: Sequence[Mapping[str, Any]]) -> str:
    told = "\n\n".join(_text({k: v for k, v in message.items() if v is not None}) for message in begun)
    return f"{DEMO_LEAD}\n\n{told}\n\n{DEMO_END}"


def _labelled(known: Facts, demos: list[Any]) -> list[Any]:
    """Demos for an adapter that formats by itself: what a history told goes in front of the first input."""
    labelled = []
    for demo in demos:
        begun = messages_of(demo.get(known.history))
        fields = {name: value for name, value in demo.items() if name != known.history}
        first = next((name for name in known.bare.input_fields if name in fields), None)
        if begun and first is not None:
            fields[first] = f"{_lead(begun)}\n\n{fields[first]}"
        labelled.append(dspy.Example(fields) if isinstance(demo, dspy.Example) else fields)
    return labelled


class _Flat(dict[str, Any]):
    """A chat message of text alone. DSPy deep-copies each request: this one is copied at the price of a dict."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Chat:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(self),))


def _flat(chat: Chat) -> Chat:
    return _Flat(chat) if all(isinstance(value, (str, type(None))) for value in chat.values()) else chat


def _copied(chat: Chat) -> Chat:
    return _Flat(chat) if type(chat) is _Flat else copy.deepcopy(chat)


def _expanded(chats: list[Chat]) -> list[Chat]:
    """Images and other custom types as content parts, which DSPy makes of markers in the text."""
    marked = [
        c for c in chats if isinstance(c["content"], str) and CUSTOM_TYPE_START_IDENTIFIER in c["content"]
    ]
    if marked:
        split_message_content_for_custom_types(marked)
    return chats


def _from_user(turns: list[Chat]) -> list[Chat]:
    """Providers want a conversation to begin with the user: a reply at its start becomes something told."""
    if turns and turns[0]["role"] == "assistant":
        content = turns[0]["content"]
        turns[0] = {"role": "user", "content": f"{REPLY_LEAD}\n\n{content}"}
    return turns


def _before_request(messages: list[Chat], inserted: list[Chat]) -> list[Chat]:
    """Put messages before the last user message, or at the end if there is none."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user":
            return messages[:place] + inserted + messages[place:]
    return messages + inserted


_classes: dict[type, type] = {}
_adapters: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_default = dspy.ChatAdapter()


def rendering(adapter: Adapter | None) -> Any:
    """The adapter with the mixin in front: the same object each time, a shallow copy of the given one.

    None stands for DSPy's default. An adapter that already has the mixin is given back as it is.
    """
    if adapter is None:
        adapter = _default
    if isinstance(adapter, SessionRendering) or not isinstance(adapter, Adapter):
        return adapter
    if type(adapter).__hash__ is None:
        return _restore(type(adapter), adapter.__dict__)
    twin = _adapters.get(adapter)
    # Settings that were changed on the original since must take effect.
    if twin is None or any(twin.__dict__.get(k) is not v for k, v in adapter.__dict__.items()):
        twin = _adapters[adapter] = _restore(type(adapter), adapter.__dict__)
    return twin


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _takes(function: Any, name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _rendering_class(base: type) -> type:
    known = _classes.get(base)
    if known is None:
        two_step = issubclass(base, dspy.TwoStepAdapter)
        body = {
            **identity(base),
            "__reduce_ex__": _reduce,
            "_own_format": not two_step and _unwrapped(base.format) is not _unwrapped(Adapter.format),  # type: ignore[attr-defined]
            "_own_history": base.format_conversation_history is not Adapter.format_conversation_history,  # type: ignore[attr-defined]
            "_reminds": _takes(base.format_user_message_content, "main_request"),  # type: ignore[attr-defined]
            "_base_format": _unwrapped(base.format),  # type: ignore[attr-defined]
            "_rendered_base": base,
        }
        known = type(base)(base.__name__, (SessionRendering, base), body)
        # DSPy wraps format and parse of every new adapter class in callbacks: parse is wrapped already, and format
        # shows observers the whole chat because it calls the base's without its wrapper.
        if "parse" in known.__dict__:
            del known.parse  # type: ignore[attr-defined]
        _classes[base] = known
    return known


def _reduce(self: Any, protocol: int) -> tuple[Any, ...]:
    state = {name: value for name, value in self.__dict__.items() if name != "_token"}
    return (_restore, (type(self)._rendered_base, state))


def _restore(base: type, state: dict[str, Any]) -> Any:
    twin: Any = base.__new__(_rendering_class(base))  # type: ignore[call-overload]
    twin.__dict__.update(state)
    twin._token = next(_tokens)
    return twin


def view_of(history: Any) -> HistoryView:
    """The view that a history input stands for."""
    if isinstance(history, SessionHistory) and history.untouched:
        return history.view
    frame = _context.frame()
    names = frozenset() if frame is None else frame.input_names
    return HistoryView(head=tuple(as_message(m, names, copy=True) for m in messages_of(history)))
