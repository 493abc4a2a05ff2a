"""What DSPy must know of the history input that sessions add, where it looks at predictors outside of any call.

Two of its functions are told: the comparison of a student's signatures with a teacher's, one of which may be bare;
and the rendering of recorded calls as fine-tuning data, which must be what the predictor was sent. For signatures
and inputs without a session's history both do what they did.
"""

from __future__ import annotations

import functools
from typing import Any

import dspy

from dspy_session._injection import given_history
from dspy_session._rendering import rendering
from dspy_session._signatures import facts, with_history


def _bare(signature: Any) -> Any:
    known = facts(signature)
    return known.bare if known.added else signature


def _compare_without_added_histories() -> None:
    plain = dspy.Signature.__dict__["equals"].__func__

    @functools.wraps(plain)
    def equals(cls: Any, other: Any) -> Any:
        is_signature = isinstance(other, type) and issubclass(other, dspy.Signature)
        return plain(_bare(cls), _bare(other) if is_signature else other)

    dspy.Signature.equals = classmethod(equals)


def _train_on_what_was_sent() -> None:
    plain = dspy.ChatAdapter.__dict__["format_finetune_data"]

    @functools.wraps(plain)
    def format_finetune_data(self: Any, signature: Any, demos: Any, inputs: Any, outputs: Any) -> Any:
        name = given_history(inputs)
        if name is not None:
            # A bare program that was called with a session's history was shown it, too.
            signature = with_history(signature, name)
            inputs = {
                **{k: v for k, v in inputs.items() if k != name},
                str(facts(signature).history): inputs[name],
            }
        if name is not None or facts(signature).added:
            self = rendering(self)
            answer = {name: outputs[name] for name in facts(signature).bare.output_fields if name in outputs}
            messages = self.format(signature, demos, inputs)
            content = self.format_assistant_message_content(facts(signature).bare, answer)
            return {"messages": [*messages, {"role": "assistant", "content": content}]}
        return plain(self, signature, demos, inputs, outputs)

    dspy.ChatAdapter.format_finetune_data = format_finetune_data


def install() -> None:
    """Tell DSPy, once."""
    if not hasattr(dspy.ChatAdapter.format_finetune_data, "__wrapped__"):
        _compare_without_added_histories()
        _train_on_what_was_sent()
