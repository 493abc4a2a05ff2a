"""Every exception that this library raises on purpose::

    DspySessionError
    ├── ConfigurationError (ValueError)      a parameter has a wrong value; says which are allowed
    │   └── StateTypeError (TypeError)       something that should be a `SessionState` is not
    ├── HistoryTypeError (TypeError)         something that should be a `dspy.History` is not
    ├── UnknownPathError (LookupError)       a node path or turn that does not exist; lists what does
    ├── BindingError (RuntimeError)          a state is bound where it cannot be carried
    │   └── UnboundStateError                a call without a bound state, where one is required
    ├── BusyError (RuntimeError)             another call holds this state, and waiting was not wanted
    ├── SerializationError (TypeError)       a value cannot keep its type; names turn and field
    ├── FormatError (ValueError)             a file that is damaged, foreign, or of another kind
    │   └── UnsupportedVersionError          a file of a version that this release cannot read
    ├── MissingExtraError (ImportError)      an optional dependency is not installed; names the extra
    ├── StoreError                           a store of conversations cannot do what was asked
    │   ├── StaleStateError                  someone else committed first; carries the finished turn
    │   ├── LeaseError                       another request holds the conversation
    │   ├── ConversationNotFoundError (LookupError)
    │   ├── ConversationExistsError (ValueError)
    │   └── StoreUnavailableError (ConnectionError)
    ├── AddressError (OSError)               the server cannot listen where it was asked to
    └── OpenCodeError                        OpenCode's history cannot be read
        ├── SourceNotFoundError (FileNotFoundError)
        ├── SourceFormatError (ValueError)   names the file, and the row where there is one
        └── WarehouseBusyError (TimeoutError)  another process holds the warehouse's file

Each also subclasses the builtin that a caller would naturally catch.
"""

from __future__ import annotations

from typing import Any


class DspySessionError(Exception):
    """Base of all errors of this library."""


class ConfigurationError(DspySessionError, ValueError):
    """A parameter has a value that is not allowed."""


class StateTypeError(ConfigurationError, TypeError):
    """What is to be bound is not a `SessionState`."""


class HistoryTypeError(DspySessionError, TypeError):
    """An explicit history is not a `dspy.History`."""


class UnknownPathError(DspySessionError, LookupError):
    """A node path, turn index or turn id matches nothing."""


class BindingError(DspySessionError, RuntimeError):
    """A state is bound in a place from which it would leak or get lost."""


class UnboundStateError(BindingError):
    """A call was made without a bound state, and the session was built with `unbound="error"`."""


class BusyError(DspySessionError, RuntimeError):
    """Another call holds this state, and the session was built with `busy="fail"`."""


class SerializationError(DspySessionError, TypeError):
    """A value cannot be written in a way that brings it back with its type."""


class FormatError(DspySessionError, ValueError):
    """A file is damaged, foreign, or of another kind than the call expects."""


class UnsupportedVersionError(FormatError):
    """A file has a version that this release cannot read."""


class MissingExtraError(DspySessionError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'dspy-session[{extra}]'")
        self.package = package
        self.extra = extra


class StoreError(DspySessionError):
    """A store of conversations cannot do what was asked.

    Attributes:
        turn: the finished turn that was not written for it, if there was one. It can be appended again.
    """

    turn: Any = None


class StaleStateError(StoreError):
    """The conversation was changed by someone else since it was loaded.

    Attributes:
        expected: the revision that the commit was based on.
        found: the revision that the store holds.
        turn: the finished turn, which was not written. It can be appended again, or forked.
    """

    def __init__(self, expected: Any, found: Any, turn: Any = None) -> None:
        super().__init__(
            f"the conversation changed since it was loaded (expected revision {expected!r}, found {found!r}); "
            "the finished turn is in `.turn`: load again and append it, or fork"
        )
        self.expected = expected
        self.found = found
        self.turn = turn


class LeaseError(StoreError):
    """Another request holds the conversation."""


class ConversationNotFoundError(StoreError, LookupError):
    """No conversation has this key in this scope."""


class ConversationExistsError(StoreError, ValueError):
    """A conversation with this key exists already in this scope."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store's server or file cannot be reached."""


class AddressError(DspySessionError, OSError):
    """The server cannot listen at its address: another program does, or the address is not this machine's."""


class OpenCodeError(DspySessionError):
    """OpenCode's history cannot be read."""


class SourceNotFoundError(OpenCodeError, FileNotFoundError):
    """No history of OpenCode is at this place."""


class SourceFormatError(OpenCodeError, ValueError):
    """A file is not a history of OpenCode, or a part of it is damaged."""


class WarehouseBusyError(OpenCodeError, TimeoutError):
    """Another process held the warehouse's file for longer than was waited."""
