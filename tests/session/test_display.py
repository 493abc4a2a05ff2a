"""How a session and its turns look."""

from __future__ import annotations

import copy

import dspy
import pytest

from dspy_session import sessionify
from dspy_session.testing.lm import ScriptedLM


class TravelAgent(dspy.Module):
    def __init__(self):
        super().__init__()
        self.advisor = dspy.Predict("question -> travel_advice")

    def forward(self, question):
        return self.advisor(question=question).travel_advice


def test_repr_of_a_session():
    assert repr(sessionify(TravelAgent())) == "Session(TravelAgent, turns=0, history_field='history')"


def test_repr_of_turns(lm):
    chat = sessionify(dspy.Predict("user -> assistant"))
    chat(user="Hi!")
    chat(user="Name?")
    chat.rate(1, 0.5)
    assert repr(chat.turns) == (
        "[Turn(index=0, inputs={'user': 'Hi!'}, outputs={'assistant': 'assistant 1'}, "
        "history_snapshot=History(messages=[]), score=None), "
        "Turn(index=1, inputs={'user': 'Name?'}, outputs={'assistant': 'assistant 2'}, "
        "history_snapshot=History(messages=[{'user': 'Hi!', 'assistant': 'assistant 1'}]), score=0.5)]"
    )
    assert str(chat.session_history) == (
        "messages=[{'user': 'Hi!', 'assistant': 'assistant 1'}, {'user': 'Name?', 'assistant': 'assistant 2'}]"
    )


EVIL = "<script>alert('x')</script> & \"quotes\""


def test_html_is_escaped():
    lm = ScriptedLM([{"answer": EVIL}, {"answer": EVIL}])
    with dspy.context(lm=lm, adapter=None):
        chat = sessionify(dspy.Predict("question -> answer"))
        chat(question=EVIL)
        chat(question=EVIL)
    chat.add_turn({EVIL: EVIL}, {"answer": [EVIL]}, extras={EVIL: {EVIL: EVIL}})
    chat.rate(0, 0.5, EVIL)
    for html in (chat._repr_html_(), *(turn._repr_html_() for turn in chat.turns)):
        assert "<script" not in html
        assert "alert(" in html


def test_html_shows_inputs_outputs_score_and_history(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="the first")
    chat(question="the second")
    chat.rate(1, 0.75, "well said")
    html = chat.turns[1]._repr_html_()
    for text in ("the first", "the second", "answer 2", "0.75", "well said", "scripted", "3 tokens"):
        assert text in html
    assert "empty" in chat.turns[0]._repr_html_()
    whole = chat._repr_html_()
    assert "the first" in whole
    assert "Predict" in whole


def test_html_of_a_long_conversation_stays_readable(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    for number in range(60):
        chat.add_turn({"question": f"q{number}."}, {"answer": "x" * 5_000})
    html = chat._repr_html_()
    assert "10 earlier turns" in html
    assert "5,000 characters" in html
    assert "x" * 2_001 not in html


def test_a_value_without_text_does_not_break_the_view(lm):
    class Shy:
        def __repr__(self):
            raise RuntimeError("no text")

        def __deepcopy__(self, memo):
            return self

    chat = sessionify(dspy.Predict("question -> answer"))
    turn = chat.add_turn({"question": "x"}, {"answer": Shy()})
    assert "Shy" in turn._repr_html_()


def test_calls_as_a_tree(lm, capsys):
    from wire import Planner

    chat = sessionify(Planner(), record="calls")
    chat(question="one")
    chat(question="two")
    turn = chat.turns[1]
    assert [call.path for call in turn.calls] == ["plan", "write.predict"]
    assert turn.calls[0].inputs == {"question": "two"}
    assert "plan" in turn.calls[0].outputs
    turn.print_calls()
    printed = capsys.readouterr().out
    assert "write.predict [history 1]" in printed
    assert copy.deepcopy(turn).calls[0].outputs == turn.calls[0].outputs


@pytest.mark.parametrize("count", [0, 1])
def test_repr_of_a_state(lm, count):
    chat = sessionify(dspy.Predict("question -> answer"))
    for _ in range(count):
        chat(question="one")
    assert repr(chat.state) == f"SessionState(turns={count})"
