"""Conversations, weights and whole programs, each to files of its own kind."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from dspy_session import _chat, windows
from dspy_session._injection import node_annotations
from dspy_session._options import Options
from dspy_session._state_codec import decode_state, encode_state
from dspy_session._training import compiling
from dspy_session.codec.files import read_json, write_json
from dspy_session.codec.upgrades import checked
from dspy_session.codec.values import Encoder
from dspy_session.errors import ConfigurationError, FormatError
from dspy_session.state import SessionState

if TYPE_CHECKING:
    from dspy_session._base import SessionBase

Own = TypeVar("Own", bound="SessionBase")

KIND = "dspy-session conversation"
WHAT = "session state"

# What a conversation file keeps of the options, beside the window; functions belong to the program.
STORED = (
    "history_field",
    "max_turns",
    "max_stored_turns",
    "exclude_fields",
    "history_input_fields",
    "history_extras",
    "history_policy",
    "on_metric_error",
    "on_overflow",
    "strict_history_annotation",
    "copy_mode",
    "lock",
    "busy",
    "record",
)
_WINDOWS: dict[str, Any] = {"turns": windows.turns, "blocks": windows.blocks, "tokens": windows.tokens}
_SETS = ("exclude_fields", "history_input_fields", "history_extras")


class Persistence:
    """The part of a session that is written to and read from files."""

    def save_state(self: SessionBase, *, strict: bool = False) -> dict[str, Any]:  # type: ignore[misc]
        """The conversation and the session's options as JSON data; what `save` writes.

        Args:
            strict: raise `SerializationError` for a value that cannot keep its type, instead of writing its text.
        """
        config: dict[str, Any] = {}
        for name in STORED:
            value = getattr(self.options, name)
            config[name] = sorted(value) if isinstance(value, frozenset) else value
        if self.options.max_turns is None:
            config["window"] = _window_wire(self.options.window)
        state = encode_state(self.state, encoder=Encoder(strict=strict))
        return {"version": state.pop("version"), "kind": KIND, **config, **state}

    def save(  # type: ignore[misc]
        self: SessionBase,
        path: str | Path,
        save_program: bool = False,
        modules_to_serialize: list[Any] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Write the conversation to a JSON file, atomically; or, with `save_program`, the program to a folder.

        The program's weights are not in a conversation file: `save_weights` writes them. While an optimizer
        compiles, `save` writes weights, as optimizers that log their candidates expect.

        Args:
            path: the file; with `save_program`, the folder.
            save_program: write the whole program as DSPy does, without the conversation; read by `dspy.load`.
            modules_to_serialize: as for `dspy.Module.save`.
            strict: raise `SerializationError` before anything is written if a value cannot keep its type.
        """
        if save_program:
            program = self._copied(self.module, self.new_state())
            dspy.Module.save(program, path, save_program=True, modules_to_serialize=modules_to_serialize)
            return
        if compiling():
            self.save_weights(path)
            return
        if Path(path).suffix in (".pkl", ".pickle"):
            raise FormatError(
                f"{path}: a conversation is saved as JSON; save_weights(path) writes .pkl files"
            )
        data = self.save_state(strict=strict)
        if any(getattr(predictor, "demos", None) for predictor in self.predictors()):
            warnings.warn(
                "the conversation is saved, but not the compiled program's weights: save_weights(path) does that",
                stacklevel=2,
            )
        write_json(path, data)

    def save_weights(self: SessionBase, path: str | Path) -> None:  # type: ignore[misc]
        """Write the program's weights, as `dspy.Module.save` does; the bare program and a session can `load` them."""
        dspy.Module.save(self, path)

    def dump_state(self: SessionBase, json_mode: bool = True) -> Any:  # type: ignore[misc]
        """The program's weights, exactly as the program itself gives them."""
        return self.module.dump_state(json_mode=json_mode)

    def load_state(self: SessionBase, state: Any, **options: Any) -> Any:  # type: ignore[misc]
        """Take weights that the program, bare or in a session, gave."""
        return self.module.load_state(state, **options)

    def load(self: SessionBase, path: str | Path, *args: Any, **options: Any) -> None:  # type: ignore[misc]
        """Read the program's weights, which a session or the bare program saved.

        Raises:
            FormatError: the file is a conversation, which `Session.load_from(path, module)` reads.
        """
        if Path(path).suffix == ".json":
            data = read_json(path)
            if data.get("kind") == KIND or ("turns" in data and "metadata" not in data):
                raise FormatError(
                    f"{path} is a conversation, not weights: read it with Session.load_from(path, module)"
                )
        dspy.Module.load(self, path, *args, **options)

    @classmethod
    def load_from(  # type: ignore[misc]
        cls: type[Own],
        path: str | Path,
        module: dspy.Module,
        *,
        types: Iterable[type] = (),
        **overrides: Any,
    ) -> Own:
        """A session that goes on with a saved conversation.

        Args:
            path: a file that `save` wrote, of this or an earlier version.
            module: the program; its weights are not in the file.
            types: classes of your own that may come back; those that the program's signature names need not be
                given. No other class is ever looked up.
            **overrides: options that differ from the saved ones.

        Raises:
            FormatError: the file is damaged, or something else.
            UnsupportedVersionError: a newer release wrote it.
        """
        data = read_json(path)
        if data.get("kind") != KIND and "metadata" in data and "turns" not in data:
            raise FormatError(f"{path} holds weights, not a conversation: use session.load(path)")
        try:
            wire = checked(data, WHAT)
            stored = _stored_options(wire)
            if overrides.get("window") is not None or overrides.get("max_turns") is not None:
                # Each decides what is shown: one that is given takes the place of the other that is stored.
                stored = {
                    name: value for name, value in stored.items() if name not in ("window", "max_turns")
                }
            session = cls(module, **{**stored, **overrides})
            session.load_conversation(wire, types=types)
            if "initial_history" in overrides:
                session.own_state.set_head(overrides["initial_history"], session.program.known_inputs())
            else:
                session.options.initial_history = session.own_state.initial_history
        except FormatError as error:
            raise type(error)(f"{path}: {error}") from error
        return session

    def load_conversation(  # type: ignore[misc]
        self: SessionBase,
        data: Mapping[str, Any],
        *,
        types: Iterable[type] = (),
    ) -> None:
        """Go on with a conversation from JSON data that `save_state` or `SessionState.to_dict` gave."""
        state = decode_state(
            data,
            types=types,
            annotations=self.program.annotations,
            node_annotations=node_annotations(self.module),
            input_names=self.program.known_inputs(),
            projection=self.options.projection,
            rebuild=self.windowed,
        )
        self._adopt_state(state)

    def _adopt_state(self: SessionBase, state: SessionState) -> None:  # type: ignore[misc]
        self._state = state

    @classmethod
    def from_messages(  # type: ignore[misc]
        cls: type[Own],
        messages: Iterable[Mapping[str, Any]],
        module: dspy.Module,
        *,
        input_field: str | None = None,
        output_field: str | None = None,
        **options: Any,
    ) -> Own:
        """A session whose turns are those of a chat in OpenAI's form.

        Args:
            messages: `{"role": …, "content": …}`; tool messages are kept in the turns' extras as `messages`.
            module: the program that goes on.
            input_field: the input that takes the user's text; may be left out if the program has one input.
            output_field: the output that takes the answers; may be left out if the program has one output
                (a reasoning field apart).
            **options: as for `Session`.

        Raises:
            FormatError: a message is no chat message.
        """
        session = cls(module, **options)
        program = session.program
        outputs = [name for name in program.outputs or () if name != "reasoning"]
        asked_field = _chat.only_field("input", sorted(program.known_inputs()), input_field)
        answer_field = _chat.only_field("output", outputs or ["output"], output_field)
        for asked, answered, tools in _chat.exchanges(messages):
            session.add_turn(
                {} if asked is None else {asked_field: asked},
                {} if answered is None else {answer_field: answered},
                extras={"messages": tools} if tools else None,
            )
        return session


def _window_wire(window: Any) -> dict[str, Any] | None:
    """A window of this library as JSON data; None for one of the program's own, which is given again at load."""
    policy = type(window).__name__
    if type(window) is not _WINDOWS.get(policy):
        return None
    given = {field.name: getattr(window, field.name) for field in dataclasses.fields(window)}
    if policy == "tokens" and given.pop("count") is not windows.characters_over_four:
        return None
    return {"policy": policy, **given}


def _window_of(wire: Mapping[str, Any]) -> Any:
    given = dict(wire)
    policy = given.pop("policy", None)
    if policy not in _WINDOWS:
        raise FormatError(f"the {WHAT} has an unknown window: {policy!r}")
    return _WINDOWS[policy](**given)


def _stored_options(wire: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: wire[name] for name in STORED if name in wire}
    for name in _SETS:
        value = options.get(name)
        if isinstance(value, list):
            options[name] = set(value)
    field = options.get("history_field")
    if field and isinstance(options.get("exclude_fields"), set):
        options["exclude_fields"].discard(field)
    try:
        if wire.get("window") is not None:
            options["window"] = _window_of(wire["window"])
        Options(**options)
    except (ConfigurationError, TypeError, ValueError) as error:
        raise FormatError(f"the {WHAT} is damaged: {error}") from error
    return options
