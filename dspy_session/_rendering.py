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

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

import dspy
from dspy import History
from dspy.adapters.base import Adapter

from dspy_session import _context
from dspy_session._disguise import identity
from dspy_session._exchange import Message
from dspy_session._past_turns import (
    before_request,
    divided,
    expanded,
    fits,
    from_user,
    has_tool_results,
    labelled,
    lead,
    past_messages,
    plain_messages,
    shown_names,
    speaking,
    without_none,
)
from dspy_session._rendered import RENDERED, Chat, copied, flat
from dspy_session._signatures import Facts, Signature, facts, foreign, showing
from dspy_session.history import messages_of

_tokens = itertools.count()
_rest: ContextVar[list[Message] | None] = ContextVar("dspy_session_rest", default=None)


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
        past = past_messages(known, inputs.get(known.history))
        if self._own_format:
            return self._format_by_itself(known, demos, inputs, past)
        inputs = {name: value for name, value in inputs.items() if name != known.history}
        messages = self._base_format(known.bare, [], inputs)
        if not known.added:
            messages[0] = {"role": "system", "content": self._system_message(known.exact)}
        if self._own_history:
            mine, others = divided(known, past)
            turns = self._history_by_itself(known, inputs, mine) + plain_messages(others)
        else:
            turns = self._turns(known, past)
        return before_request(messages, [*self._demos(known, demos), *from_user(turns)])

    def format_conversation_history(
        self, signature: Signature, history_field_name: str, inputs: dict[str, Any]
    ) -> list[Chat]:
        # Reached when an adapter's own format() falls back on DSPy's: then all turns can be rendered here.
        past = _rest.get()
        if past is None or self._own_history:
            return super().format_conversation_history(signature, history_field_name, inputs)  # type: ignore[misc, no-any-return]
        _rest.set(None)
        inputs.pop(history_field_name, None)
        return from_user(self._turns(facts(signature), past))

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
            signature = showing(signature, shown_names(facts(signature), outputs))
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
            signature = showing(signature, shown_names(facts(signature), inputs))
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
                rendered = tuple(map(flat, expanded(self._turn(known, message))))
                if key is not None:
                    RENDERED.put(key, rendered)
            messages.extend([copied(chat) for chat in rendered])
        return messages

    def _turn(self, known: Facts, message: Message) -> list[Chat]:
        if not fits(known, message):
            return self._foreign_turn(message)
        if any(map(has_tool_results, message.values())):
            # Tool calls with their results become several messages; only DSPy's own code knows how.
            history = {"history": History.model_construct(messages=[message])}
            signature = showing(known.bare, shown_names(known, message))
            return Adapter.format_conversation_history(self, signature, "history", history)  # type: ignore[no-any-return]
        try:
            return self._written(showing(known.bare, shown_names(known, message)), message, remind=True)
        except (TypeError, ValueError, AttributeError):
            # A value that the field can no longer hold, because the program was exchanged since.
            return self._foreign_turn(message)

    def _foreign_turn(self, message: Message) -> list[Chat]:
        (given,) = without_none([message])
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
        for names, group in itertools.groupby(mine, lambda message: shown_names(known, message)):
            given = {**inputs, str(known.history): History.model_construct(messages=without_none(group))}
            signature = showing(known.bare, names)
            chats += super().format_conversation_history(signature, known.history, given)  # type: ignore[misc]
        return list(expanded(speaking(chats)))

    def _format_by_itself(
        self, known: Facts, demos: list[Any], inputs: dict[str, Any], past: list[Message]
    ) -> list[Chat]:
        mine, others = divided(known, past)
        inputs = {name: value for name, value in inputs.items() if name != known.history}
        if mine:
            inputs[str(known.history)] = History.model_construct(messages=without_none(mine))
        signature = known.exact if mine or not known.added else known.bare
        token = _rest.set(past)
        try:
            messages = self._base_format(signature, labelled(known, demos), inputs)
            rendered = _rest.get() is None
        finally:
            _rest.reset(token)
        return messages if rendered else before_request(messages, plain_messages(others))

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
            content = self.format_user_message_content(signature, shown, prefix=lead(begun))
            chats.append({"role": "user", "content": content})
            chats.append(
                {"role": "assistant", "content": self.format_assistant_message_content(signature, shown)}
            )
        return list(expanded(chats))


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
