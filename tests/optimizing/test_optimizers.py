"""Every optimizer compiles a session as it compiles the bare program: the same requests come out of both."""

from __future__ import annotations

import random

import pytest

from dspy_session import Session, sessionify
from dspy_session.testing.lm import ScriptedLM, text_of
from tests.optimizing.programs import OPTIMIZERS, PROGRAMS, examples, session_examples, wire


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_session_sends_what_the_compiled_program_sends(
    model: ScriptedLM, name: str, optimizer: str
) -> None:
    bare = PROGRAMS[name]()
    plain = wire(model, lambda: bare(question="What?"))
    random.seed(0)
    compiled_bare = OPTIMIZERS[optimizer](PROGRAMS[name](), examples())
    expected = wire(model, lambda: compiled_bare(question="What?"))

    session = sessionify(PROGRAMS[name]())
    session.add_turn({"question": "live secret"}, {"answer": "live reply"})
    live, state = session.turns, session.dump_state()
    trainset = session_examples(session)
    before = len(model.requests)
    random.seed(0)
    compiled = OPTIMIZERS[optimizer](session, trainset)
    assert "live secret" not in str(model.requests[before:])
    assert session.turns == live
    assert session.dump_state() == state
    assert isinstance(compiled, Session)
    assert len(compiled) == 0
    sent = wire(model, lambda: compiled(question="What?"))
    assert sent == expected
    assert (sent != plain) == (expected != plain)
    assert len(compiled) == 1
    assert len(session.turns) == 1
    compiled(question="And now?")
    last = model.requests[-1]
    assert any("What?" in text_of(m) for m in last[1:-1])
