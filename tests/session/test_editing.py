"""Changing a conversation by hand."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from wire import Planner

from dspy_session import Session, sessionify
from dspy_session.errors import ConfigurationError, FormatError, UnknownPathError
from dspy_session.testing.lm import ScriptedLM, text_of


@pytest.fixture
def chat(lm):
    session = sessionify(dspy.Predict("question -> answer"))
    for question in ("one", "two", "three"):
        session(question=question)
    return session


def asked(session):
    return [turn.inputs["question"] for turn in session.turns]


def test_add_turn_is_seen_by_the_next_call(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    turn = chat.add_turn(inputs={"question": "Capital of France?"}, outputs={"answer": "Paris"})
    assert turn.index == 0
    assert turn.history_snapshot.messages == []
    chat(question="And of Germany?")
    assert "Paris" in text_of(lm.requests[0][2])
    assert chat.add_turn({"question": "x"}, {}).history_snapshot == dspy.History(
        messages=[
            {"question": "Capital of France?", "answer": "Paris"},
            {"question": "And of Germany?", "answer": "answer 1"},
        ]
    )


@pytest.mark.parametrize("wrong", [None, "text", [("a", 1)], {1: "x"}])
def test_add_turn_takes_fields_only(chat, wrong):
    with pytest.raises(ConfigurationError):
        chat.add_turn(wrong, {"answer": "x"})
    with pytest.raises(ConfigurationError):
        chat.add_turn({"question": "x"}, wrong)
    assert len(chat) == 3


def test_pop_and_undo(chat):
    assert chat.pop_turn().inputs == {"question": "three"}
    assert [turn.inputs["question"] for turn in chat.undo(steps=5)] == ["one", "two"]
    assert chat.pop_turn() is None
    assert chat.undo() == []
    assert chat.undo(0) == chat.undo(-3) == []
    with pytest.raises(ConfigurationError):
        chat.undo("1")
    chat(question="again")
    assert chat.turns[0].index == 0


def test_edit_turn(chat, lm):
    old = chat.turns[1]
    new = chat.edit_turn(1, outputs={"answer": "corrected"})
    assert new.id != old.id
    assert new.record.replaces == old.id
    assert new.inputs == {"question": "two"}
    assert old.outputs == {"answer": "answer 2"}
    assert new.history_snapshot == old.history_snapshot
    assert chat.edit_turn(chat.turns[0].id, inputs={"question": "uno"}).inputs == {"question": "uno"}
    assert chat.edit_turn(chat.turns[-1], outputs={"answer": "c"}).index == 2
    chat(question="four")
    assert "corrected" in text_of(lm.requests[-1][4])
    assert asked(chat) == ["uno", "two", "three", "four"]
    for missing in (7, -9, "no such id", old):
        with pytest.raises(UnknownPathError):
            chat.edit_turn(missing, outputs={"answer": "x"})


def test_retry_keeps_the_old_answer_as_a_branch(chat, lm):
    chat.rate(-1, 0.1, "dull")
    given = chat.turns[2].history_snapshot
    answer = chat.retry()
    assert answer.answer == "answer 4"
    assert asked(chat) == ["one", "two", "three"]
    assert chat.turns[2].outputs == {"answer": "answer 4"}
    assert chat.turns[2].history_snapshot == given
    assert chat.turns[2].index == 2
    assert chat.turns[2].score is None
    assert lm.requests[3] == lm.requests[2]
    (branch,) = chat.branches
    assert branch.turns[2].outputs == {"answer": "answer 3"}
    assert branch.turns[2].score == 0.1
    assert branch.turns[2].feedback == "dull"
    branch(question="from the branch")
    assert len(chat) == 3
    chat.retry(question="drei")
    assert asked(chat) == ["one", "two", "drei"]
    assert len(chat.branches) == 2


def test_retry_asks_past_the_cache(chat, lm):
    chat.retry()
    chat.retry()
    rollouts = [options.get("rollout_id") for options in lm.options[3:]]
    assert None not in rollouts
    assert len(set(rollouts)) == 2


def test_retry_that_fails_changes_nothing(lm):
    class Fails(dspy.Module):
        fail = False

        def forward(self, question):
            if Fails.fail:
                raise RuntimeError("broken")
            return "fine"

    chat = sessionify(Fails())
    with pytest.raises(UnknownPathError):
        chat.retry()
    chat(question="one")
    before = chat.save_state()
    Fails.fail = True
    with pytest.raises(RuntimeError, match="broken"):
        chat.retry()
    assert chat.save_state() == before
    assert chat.branches == []


def test_aretry(chat):
    asyncio.run(chat.aretry())
    assert chat.turns[-1].outputs == {"answer": "answer 4"}
    assert len(chat.branches) == 1


def test_retry_of_a_program_that_fills_in_defaults(lm):
    class Hinted(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        hint: str = dspy.InputField(default="none given")
        answer: str = dspy.OutputField()

    chat = sessionify(dspy.Predict(Hinted))
    chat(question="one")
    assert chat.turns[0].inputs == {"question": "one", "hint": "none given"}
    chat.retry()
    assert lm.requests[0] == lm.requests[1]


def test_forks_go_their_own_ways(chat, lm):
    left, right = chat.fork(), chat.fork()
    left(question="left")
    right(question="right")
    right.undo(3)
    assert asked(chat) == ["one", "two", "three"]
    assert asked(left) == ["one", "two", "three", "left"]
    assert asked(right) == ["one"]
    chat(question="own")
    assert asked(left)[-1] == "left"
    assert lm.requests[3][:-1] == lm.requests[4][:-1] == lm.requests[5][:-1]
    left.module.demos = [1]
    assert chat.module.demos == []


def test_fork_shares_the_callback(lm):
    seen = []
    chat = sessionify(dspy.Predict("question -> answer"), on_turn=lambda s, t: seen.append((s, t.index)))
    fork = chat.fork()
    fork(question="one")
    assert seen == [(fork, 0)]


def test_reset_keeps_the_seed(lm):
    seed = dspy.History(messages=[{"question": "s", "answer": "t"}])
    chat = sessionify(dspy.Predict("question -> answer"), initial_history=seed)
    chat(question="one")
    chat.reset()
    assert len(chat) == 0
    assert chat.turns == []
    assert bool(chat)
    assert chat.session_history == seed
    chat(question="two")
    assert chat.turns[0].history_snapshot == seed


def test_update_module_goes_on_with_the_conversation(chat, lm):
    chat.update_module(dspy.ChainOfThought("question -> answer"))
    answer = chat(question="four")
    assert answer.reasoning
    assert "one" in text_of(lm.requests[-1][1])
    assert len(chat) == 4
    chat.update_module(sessionify(Planner()))
    chat(question="five")
    assert len(chat) == 5
    with pytest.raises(ConfigurationError):
        chat.update_module("nothing")


def test_preview_asks_nobody(chat, lm):
    before = chat.save_state()
    messages = chat.preview(question="four")
    assert len(lm.requests) == 3
    assert chat.save_state() == before
    chat(question="four")
    assert lm.requests[3] == messages


def test_preview_of_a_composed_program_and_of_other_adapters(lm):
    chat = sessionify(Planner(), lock="thread")
    chat(question="one")
    for adapter in (
        dspy.ChatAdapter(),
        dspy.JSONAdapter(),
        dspy.XMLAdapter(),
        dspy.TwoStepAdapter(ScriptedLM()),
    ):
        with dspy.context(adapter=adapter):
            messages = chat.preview(question="two")
            assert "one" in text_of(messages[1])
    assert len(lm.requests) == 2
    with dspy.context(lm=None):
        assert chat.preview(question="two")


def test_preview_of_an_async_program_and_of_one_with_threads(lm):
    class OnlyAsync(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> answer")

        async def aforward(self, question):
            return await self.inner.acall(question=question)

    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> answer")

        def forward(self, question):
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(
                [(self.inner, {"question": question}) for _ in range(2)]
            )

    async def inside_a_loop():
        return chat.preview(question="two")

    for program in (OnlyAsync(), Fan()):
        chat = sessionify(program)
        chat.add_turn({"question": "one"}, {"answer": "a"})
        assert len(chat.preview(question="two")) == 4
        assert len(asyncio.run(inside_a_loop())) == 4
    assert lm.requests == []


def test_preview_without_a_predictor():
    class Constant(dspy.Module):
        def forward(self, question):
            return "fixed"

    with pytest.raises(ConfigurationError, match="nothing to preview"):
        sessionify(Constant()).preview(question="x")


def test_chat_form_and_back(chat):
    messages = chat.to_messages()
    assert messages == [
        {"role": role, "content": content}
        for turn in chat.turns
        for role, content in (("user", turn.inputs["question"]), ("assistant", turn.outputs["answer"]))
    ]
    again = Session.from_messages(messages, dspy.Predict("question -> answer"))
    assert again.session_history == chat.session_history
    assert again.to_messages() == messages


def test_from_messages_of_other_shapes(lm):
    module = dspy.ChainOfThought("question -> answer")
    tool = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    with pytest.warns(UserWarning, match="system"):
        chat = Session.from_messages(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "content": "Welcome!"},
                {"role": "user", "content": "one"},
                {"role": "user", "content": [{"type": "text", "text": "more"}]},
                tool,
                {"role": "tool", "tool_call_id": "1", "content": "42"},
                {"role": "assistant", "content": "answer"},
            ],
            module,
        )
    assert [(turn.inputs, turn.outputs) for turn in chat.turns] == [
        ({}, {"answer": "Welcome!"}),
        ({"question": "one\n\nmore"}, {"answer": "answer"}),
    ]
    assert len(chat.turns[1].extras["messages"]) == 2
    chat(question="two")
    assert lm.requests[0][1]["role"] == "user"
    assert "Welcome!" in text_of(lm.requests[0][1])
    with pytest.warns(UserWarning, match="no answer"):
        Session.from_messages([{"role": "user", "content": "one"}], module)
    with pytest.raises(ConfigurationError, match="input_field"):
        Session.from_messages([], dspy.Predict("a, b -> c"))
    assert len(Session.from_messages([], dspy.Predict("a, b -> c"), input_field="a", max_turns=2)) == 0
    for bad in (["text"], [{"role": "robot", "content": "x"}], [{}]):
        with pytest.raises(FormatError):
            Session.from_messages(bad, module)


def test_a_session_is_true_when_empty(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    assert len(chat) == 0
    assert chat
    assert chat.new_state()
    with pytest.raises(TypeError):
        list(chat)
