import dspy

from dspy_session import sessionify


def test_second_call_is_shown_the_first(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat(question="two")
    assert [m["role"] for m in lm.requests[1]] == ["system", "user", "assistant", "user"]
    assert lm.requests[1][:2] == lm.requests[0]
