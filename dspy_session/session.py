"""`Session`, which gives any DSPy program a conversation, and the function that makes one."""

from __future__ import annotations

from typing import Any

import dspy

from dspy_session._base import SessionBase


class Session(SessionBase):
    """Runs the program in `self.module` and gives each of its predictors the conversation so far.

    The predictors, their instructions and their demos are those of `self.module`: improve them there. Past turns
    reach each predictor as earlier messages of the same chat; they need not be mentioned in instructions.
    """


def sessionify(module: dspy.Module, **options: Any) -> Session:
    """Wrap a program in a session: `Session(module, **options)`.

    Args:
        module: any `dspy.Module`; it is copied, unless `copy_mode` says otherwise.
        **options: as for `Session`.
    """
    return Session(module, **options)
