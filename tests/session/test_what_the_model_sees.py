"""Every predictor of every program sees the conversation, through every adapter, and nothing that is not true."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from typing import Any, Optional

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from wire import PROGRAMS, Planner, Text, check_past, model, search

from dspy_session import sessionify
from dspy_session.testing.lm import ScriptedLM, text_of

ADAPTERS = {
    "Chat": dspy.ChatAdapter,
    "JSON": dspy.JSONAdapter,
    "XML": dspy.XMLAdapter,
    "BAML": BAMLAdapter,
}
QUESTIONS = ("first question", "second question", "third question")


def has_async(program: Any) -> bool:
    parts = [part for _, part in program.named_sub_modules() if not isinstance(part, dspy.Predict)]
    return all("aforward" in vars(type(part)) for part in parts)


def converse(program: Any, lm: ScriptedLM, *, use_async: bool = False) -> list[list[list[dict[str, Any]]]]:
    """The requests of each of three turns."""
    turns = []
    for question in QUESTIONS:
        before = len(lm.requests)
        if use_async:
            asyncio.run(program.acall(question=question))
        else:
            program(question=question)
        turns.append(lm.requests[before:])
    return turns


def shown_conversation(request: list[Any], bare: list[Any]) -> list[Any]:
    """What the session put between the system prompt and the rest of the bare program's request."""
    count = len(request) - len(bare)
    assert [request[0], *request[1 + count :]] == bare, "all but the conversation must be the bare program's"
    return request[1 : 1 + count]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_request_is_the_bare_programs_with_the_conversation_in_front(name, adapter, use_async):
    program = PROGRAMS[name]()
    if use_async and not has_async(program):
        pytest.skip(f"DSPy's {name} has no async form")
    bare_lm, lm = model(), model()
    with dspy.context(lm=bare_lm, adapter=ADAPTERS[adapter](), trace=[]):
        bare = converse(PROGRAMS[name](), bare_lm, use_async=use_async)
    with dspy.context(lm=lm, adapter=ADAPTERS[adapter](), trace=[]):
        session = sessionify(program)
        seen = converse(session, lm, use_async=use_async)

    for number in range(3):
        for request, expected in zip(seen[number], bare[number], strict=True):
            if "reward_code" in text_of(request[0]):
                # Refine pastes the trace, which holds the history, into a prompt of its own.
                check_past(request[1:-1])
                continue
            past = shown_conversation(request, expected)
            assert [m["role"] for m in past] == ["user", "assistant"] * number
            check_past(past)
            for turn, asked, answered in zip(session.turns, past[::2], past[1::2], strict=False):
                assert turn.inputs["question"] in text_of(asked)
                answer = turn.outputs.get("answer", turn.outputs.get("output"))
                assert str(answer) in text_of(answered)


@pytest.mark.parametrize("name", ["Predict", "ChainOfThought"])
@pytest.mark.parametrize("adapter", ["Chat", "JSON", "XML"])
def test_without_a_window_each_request_extends_the_one_before(name, adapter, lm):
    with dspy.context(adapter=ADAPTERS[adapter]()):
        session = sessionify(PROGRAMS[name]())
        for number in range(6):
            session(question=f"question {number}")
    for before, after in zip(lm.requests, lm.requests[1:], strict=False):
        assert after[: len(before)] == before


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", ["Predict", "ReAct", "composed", "string"])
def test_two_step_adapter(name, use_async):
    lm, extractor = model(), model()
    adapter = dspy.TwoStepAdapter(extractor)
    bare_lm = model()
    with dspy.context(lm=bare_lm, adapter=dspy.TwoStepAdapter(model()), trace=[]):
        bare = converse(PROGRAMS[name](), bare_lm, use_async=use_async)
    with dspy.context(lm=lm, adapter=adapter, trace=[]):
        session = sessionify(PROGRAMS[name]())
        seen = converse(session, lm, use_async=use_async)
    assert seen[0] == bare[0]
    for request, expected in zip(seen[2], bare[2], strict=True):
        past = shown_conversation(request, expected)
        check_past(past)
        assert [m["role"] for m in past] == ["user", "assistant"] * 2
        assert "first question" in text_of(past[0])
    # The second model extracts fields from one answer; the conversation is none of its business.
    assert all("first question" not in text_of(m) for request in extractor.requests for m in request)


# ── fields that a past turn lacks ────────────────────────────────────────────────────────────────────────────


def test_excluded_output_is_left_out_with_its_reminder(lm):
    chat = sessionify(dspy.ChainOfThought("question -> answer"), exclude_fields={"reasoning"})
    chat(question="one")
    chat(question="two")
    _, user, assistant, _ = lm.requests[1]
    check_past([user, assistant])
    assert "reasoning" not in user["content"] + assistant["content"]
    assert "`[[ ## answer ## ]]`" in user["content"]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_all_outputs_excluded_leaves_the_user_messages_alone(lm, adapter):
    with dspy.context(adapter=ADAPTERS[adapter]()):
        chat = sessionify(dspy.Predict("question -> answer"), exclude_fields={"answer"})
        for question in QUESTIONS:
            chat(question=question)
    roles = [message["role"] for message in lm.requests[2]]
    assert "assistant" not in roles
    past = lm.requests[2][1:-1]
    check_past(past)
    assert "first question" in text_of(past[0])
    assert all("Respond with" not in text_of(message) for message in past)


def test_all_inputs_excluded_does_not_begin_with_the_assistant(lm):
    chat = sessionify(dspy.Predict("question -> answer"), exclude_fields={"question"})
    for question in QUESTIONS:
        chat(question=question)
    request = lm.requests[2]
    assert request[1]["role"] == "user"
    assert "answer 1" in text_of(request[1])
    assert "answer 2" in "".join(map(text_of, request[1:]))
    check_past(request[1:-1])


def test_optional_output_that_was_none_is_left_out():
    class Maybe(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        answer: str = dspy.OutputField()
        year: Optional[int] = dspy.OutputField()  # noqa: UP045

    lm = ScriptedLM([{"answer": "Paris", "year": "null"}, {"answer": "Berlin", "year": "null"}])
    with dspy.context(lm=lm, adapter=None):
        chat = sessionify(dspy.Predict(Maybe))
        chat(question="France?")
        assert chat.turns[0].outputs == {"answer": "Paris", "year": None}
        chat(question="Germany?")
    check_past(lm.requests[1][1:-1])


def test_optional_input_that_was_not_given_is_left_out(lm):
    class Hinted(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        hint: Optional[str] = dspy.InputField(default=None)  # noqa: UP045
        answer: str = dspy.OutputField()

    chat = sessionify(dspy.Predict(Hinted))
    chat(question="one")
    chat(question="two", hint="think")
    chat(question="three")
    check_past(lm.requests[2][1:-1])
    assert "think" in text_of(lm.requests[2][3])


def test_changed_signature_shows_old_turns_by_what_they_have(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat.update_module(dspy.ChainOfThought("question -> answer, confidence: float"))
    with dspy.context(lm=ScriptedLM([{"reasoning": "r", "answer": "a", "confidence": 0.5}])):
        lm = dspy.settings.lm
        chat(question="two")
    check_past(lm.requests[0][1:-1])
    assert "answer 1" in text_of(lm.requests[0][2])


def test_an_answer_that_is_empty_is_no_empty_message():
    lm = ScriptedLM([{"answer": ""}, {"answer": "b"}])
    with dspy.context(lm=lm, adapter=None):
        chat = sessionify(Text())
        chat.add_turn({"question": "one"}, {"output": ""})
        chat.add_turn({"question": ""}, {"output": "two"})
        lm2 = ScriptedLM([{"advice_text": "b"}])
        with dspy.context(lm=lm2):
            chat(question="three")
    for message in lm2.requests[0]:
        assert text_of(message).strip()


def test_chat_begins_with_user_when_the_window_cuts_before_a_reply(lm):
    seed = dspy.History(messages=[{"answer": "Welcome!"}])
    chat = sessionify(dspy.Predict("question -> answer"), initial_history=seed)
    chat(question="one")
    chat(question="two")
    for request in lm.requests:
        assert request[1]["role"] == "user"
        assert "Welcome!" in text_of(request[1])
        check_past(request[1:-1])


# ── turns of somebody else ───────────────────────────────────────────────────────────────────────────────────


def test_planner_is_shown_turns_under_the_turns_own_names(lm):
    chat = sessionify(Planner())
    chat(question="one")
    chat(question="two")
    planner = lm.requests[2]
    assert "plan" in text_of(planner[0])
    assert "[[ ## question ## ]]\none" in text_of(planner[1])
    assert "[[ ## answer ## ]]" in text_of(planner[2])
    check_past(planner[1:-1])
    assert "Respond with" not in text_of(planner[1]), "a reminder for fields that the reply has not"


def test_agent_that_returns_a_string(lm):
    chat = sessionify(Text())
    chat(question="one")
    chat(question="two")
    assert "[[ ## output ## ]]\nadvice_text 1" in text_of(lm.requests[1][2])


@pytest.mark.parametrize("make", [Planner, Text, lambda: dspy.ReAct("question -> answer", tools=[search])])
@pytest.mark.parametrize("adapter", [*ADAPTERS, "TwoStep"])
def test_plain_history_renders_as_the_live_one(make, adapter):
    def run(**options):
        lm = model()
        chosen = dspy.TwoStepAdapter(model()) if adapter == "TwoStep" else ADAPTERS[adapter]()
        with dspy.context(lm=lm, adapter=chosen, trace=[]):
            session = sessionify(make())
            if not options:
                session(question="one")
                session(question="two")
                plain = dspy.History(messages=copy.deepcopy(session.session_history.messages))
                before = len(lm.requests)
                session(question="three")
                return plain, lm.requests[before:]
            # The same numbers in the answers as in the live run.
            sessionify(make())(question="one")
            sessionify(make())(question="two")
            before = len(lm.requests)
            session(question="three", **options)
            return None, lm.requests[before:]

    plain, live = run()
    _, replayed = run(history=plain)
    assert replayed == live


def test_a_plain_history_as_seed_renders_as_live_turns(lm):
    live = sessionify(Text())
    live(question="one")
    live(question="two")
    seed = dspy.History(messages=copy.deepcopy(live.turns[1].history_snapshot.messages))
    seeded = sessionify(Text(), initial_history=seed)
    seeded(question="two")
    assert lm.requests[2] == lm.requests[1]


def test_forward_with_several_inputs_knows_which_fields_were_given(lm):
    class Two(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("topic -> text")

        def forward(self, question, audience):
            return {"reply": self.inner(topic=f"{question} for {audience}").text}

    chat = sessionify(Two())
    chat(question="q1", audience="children")
    plain = dspy.History(messages=[{"reply": "text 1", "audience": "children", "question": "q1"}])
    chat(question="q2", audience="all")
    chat(question="q2", audience="all", history=plain)
    user, assistant = lm.requests[1][1:3]
    assert "q1" in text_of(user)
    assert "children" in text_of(user)
    assert "text 1" in text_of(assistant)
    assert lm.requests[2][1]["role"] == "user"
    assert "text 1" in text_of(lm.requests[2][2])


# ── how programs hold and make predictors ────────────────────────────────────────────────────────────────────


class Containers(dspy.Module):
    def __init__(self):
        super().__init__()
        self.single = dspy.Predict("question -> a")
        self.listed = [dspy.Predict("question -> b")]
        self.tupled = (dspy.Predict("question -> c"),)
        self.mapped = {"x": dspy.Predict("question -> d")}
        self.deep = {"y": [dspy.Predict("question -> e")], "z": {"w": dspy.ChainOfThought("question -> f")}}
        self.frozen = dspy.ChainOfThought("question -> g")
        self.frozen._compiled = True
        self.again = self.single

    def forward(self, question):
        everyone = [
            self.single, self.listed[0], self.tupled[0], self.mapped["x"], self.deep["y"][0],
            self.deep["z"]["w"], self.frozen, self.again,
        ]  # fmt: skip
        for predictor in everyone:
            predictor(question=question)
        return dspy.Prediction(answer="done")


def test_predictors_in_every_kind_of_container(lm):
    chat = sessionify(Containers())
    chat(question="first question")
    before = len(lm.requests)
    chat(question="second question")
    assert len(lm.requests) - before == 8
    for request in lm.requests[before:]:
        assert "first question" in text_of(request[1])
        assert "done" in text_of(request[2])
        check_past(request[1:-1])


class Dynamic(dspy.Module):
    """Makes a predictor while it runs, sets an adapter, and passes a signature at call time, all at once."""

    def __init__(self):
        super().__init__()
        self.stored = dspy.Predict("question -> stored")

    def forward(self, question):
        made = dspy.Predict("question -> made")(question=question).made
        with dspy.context(adapter=dspy.JSONAdapter()):
            listed = dspy.ChainOfThought("question, made -> thought")(question=question, made=made)
            self.stored(signature=dspy.Signature("question -> other"), question=question)
        self.stored(question=question, signature="question -> another")
        return dspy.Prediction(answer=f"all of {listed.thought}")

    async def aforward(self, question):
        made = (await dspy.Predict("question -> made").acall(question=question)).made
        with dspy.context(adapter=dspy.JSONAdapter()):
            listed = await dspy.ChainOfThought("question, made -> thought").acall(
                question=question, made=made
            )
            await self.stored.acall(signature=dspy.Signature("question -> other"), question=question)
        await self.stored.acall(question=question, signature="question -> another")
        return dspy.Prediction(answer=f"all of {listed.thought}")


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_dynamic_predictors_call_time_signatures_and_inner_adapters(use_async):
    bare_lm, lm = model(), model()
    with dspy.context(lm=bare_lm, adapter=None, trace=[]):
        bare = converse(Dynamic(), bare_lm, use_async=use_async)
    with dspy.context(lm=lm, adapter=None, trace=[]):
        seen = converse(sessionify(Dynamic()), lm, use_async=use_async)
    assert seen[0] == bare[0]
    for request, expected in zip(seen[2], bare[2], strict=True):
        past = shown_conversation(request, expected)
        check_past(past)
        assert [m["role"] for m in past] == ["user", "assistant"] * 2
        assert "first question" in text_of(past[0])
        assert "all of" in text_of(past[1])


def test_predictors_that_live_outside_the_program(lm):
    helper = dspy.Predict("question -> hint")

    class Uses(dspy.Module):
        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question):
            helper(question=question)
            return self.answer(question=question)

    chat = sessionify(Uses())
    chat(question="one")
    chat(question="two")
    assert "one" in text_of(lm.requests[2][1])
    before = len(lm.requests)
    helper(question="by itself")
    dspy.Predict("question -> hint")(question="by itself")
    assert lm.requests[before] == lm.requests[before + 1]


def test_a_predictor_of_a_session_works_outside_of_it(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    before = len(lm.requests)
    assert chat.module(question="alone").answer
    dspy.Predict("question -> answer")(question="alone")
    assert lm.requests[before] == lm.requests[before + 1]


def test_the_users_own_module_is_not_touched(lm):
    module = dspy.Predict("question -> answer")
    signature, kind = module.signature, type(module)
    sessionify(module)(question="one")
    assert module.signature is signature
    assert type(module) is kind


def test_threads_of_dspy_see_the_conversation(lm):
    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> part")

        def forward(self, question):
            runs = dspy.Parallel(num_threads=2, disable_progress_bar=True)(
                [(self.inner, {"question": f"{question} {i}"}) for i in range(3)]
            )
            return dspy.Prediction(answer=" ".join(run.part for run in runs))

    chat = sessionify(Fan())
    chat(question="one")
    chat(question="two")
    assert len(chat.turns) == 2
    for request in lm.requests[3:]:
        assert "one" in text_of(request[1])
        check_past(request[1:-1])


def test_sessions_inside_a_session_are_shown_their_own(lm):
    inner = sessionify(dspy.Predict("question -> note"))

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question):
            self.inner(question=question)
            return self.answer(question=question)

    chat = sessionify(Outer())
    chat(question="one")
    chat(question="two")
    assert "note 1" in text_of(lm.requests[2][2])
    assert "answer 2" in text_of(lm.requests[3][2])
    for request in lm.requests:
        check_past(request[1:-1])


# ── the user's own history fields ────────────────────────────────────────────────────────────────────────────


class Declared(dspy.Signature):
    """Answer."""

    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class OptionallyDeclared(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    past: Optional[dspy.History] = dspy.InputField(default=None)  # noqa: UP045
    answer: str = dspy.OutputField()


def test_declared_history_slot_stays_in_the_system_prompt(lm):
    bare = dspy.Predict(Declared)
    bare(question="one", history=dspy.History(messages=[]))
    chat = sessionify(dspy.Predict(Declared))
    chat(question="one")
    chat(question="two")
    assert lm.requests[1] == lm.requests[0]
    assert lm.requests[2][0] == lm.requests[0][0]
    check_past(lm.requests[2][1:-1])


def test_optional_history_under_another_name(lm):
    with pytest.warns(UserWarning, match="past"):
        chat = sessionify(dspy.Predict(OptionallyDeclared))
    assert chat.history_field == "past"
    chat(question="one")
    chat(question="two")
    assert [m["role"] for m in lm.requests[1]] == ["system", "user", "assistant", "user"]
    check_past(lm.requests[1][1:-1])
    chat(question="other", past=dspy.History(messages=[{"question": "seven", "answer": "eight"}]))
    assert "seven" in text_of(lm.requests[2][1])
    assert len(chat.turns) == 2


def test_a_text_field_called_history_stays_the_users(lm):
    class Biography(dspy.Signature):
        """Write."""

        history: str = dspy.InputField()
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    with pytest.warns(UserWarning, match="session_history"):
        chat = sessionify(dspy.Predict(Biography))
    chat(history="born in 1900", question="one")
    chat(history="born in 1900", question="two")
    assert chat.turns[0].inputs == {"history": "born in 1900", "question": "one"}
    assert "born in 1900" in text_of(lm.requests[1][1])
    assert "answer 1" in text_of(lm.requests[1][2])
    check_past(lm.requests[1][1:-1])


def test_a_text_argument_of_forward_called_history_stays_the_users(lm):
    class Biographer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("life -> answer")

        def forward(self, question, history: str = "unknown"):
            return self.inner(life=f"{question} {history}")

    with pytest.warns(UserWarning, match="session_history"):
        chat = sessionify(Biographer())
    chat(question="one", history="a life")
    chat(question="two")
    assert chat.turns[0].inputs == {"question": "one", "history": "a life"}
    assert "two unknown" in text_of(lm.requests[1][-1])
    assert "one" in text_of(lm.requests[1][1])


def test_open_keywords_get_nothing_that_they_did_not_ask_for(lm):
    seen = []

    class Open(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> answer")

        def forward(self, **options):
            seen.append(options)
            return self.inner(**options)

    chat = sessionify(Open())
    chat(question="one")
    chat(question="two")
    assert seen == [{"question": "one"}, {"question": "two"}]
    assert "one" in text_of(lm.requests[1][1])


# ── demos ────────────────────────────────────────────────────────────────────────────────────────────────────


DEMOS = [
    {"question": "Capital of France?", "answer": "Paris"},
    {
        "question": "And of Germany?",
        "answer": "Berlin",
        "history": dspy.History(messages=[{"question": "Capital of Italy?", "answer": "Rome"}]),
    },
    {"question": "Empty?", "answer": "Yes", "history": dspy.History(messages=[])},
]


@pytest.mark.parametrize("adapter", [*ADAPTERS, "TwoStep"])
def test_demos_with_a_history_are_readable_and_of_another_conversation(adapter, lm):
    chosen = dspy.TwoStepAdapter(model()) if adapter == "TwoStep" else ADAPTERS[adapter]()
    program = dspy.Predict("question -> answer")
    program.demos = copy.deepcopy(DEMOS)
    with dspy.context(adapter=chosen):
        chat = sessionify(program)
        chat(question="one")
        chat(question="two")
    request = lm.requests[1]
    text = "\n".join(map(text_of, request))
    assert '{"messages"' not in text
    assert "messages=[" not in text
    assert "[[ ## history ## ]]" not in text
    check_past(request[1:-1])
    # Demos come first, then the live conversation.
    told = next(i for i, message in enumerate(request) if "Capital of Italy?" in text_of(message))
    assert request[told]["role"] == "user"
    assert "another conversation" in text_of(request[told])
    assert "Rome" in text_of(request[told])
    assert "Berlin" in text_of(request[told + 1])
    assert text_of(request[-3]).find("one") >= 0
    assert lm.requests[0][: told + 2] == request[: told + 2]


def test_demos_alone_are_rendered_as_the_bare_program_does(lm):
    program = dspy.Predict("question -> answer")
    program.demos = [{"question": "Capital of France?", "answer": "Paris"}, {"question": "Odd?"}]
    program(question="one")
    sessionify(program)(question="one")
    assert lm.requests[0] == lm.requests[1]


def test_a_declared_history_slot_does_not_make_demos_incomplete(lm):
    program = dspy.Predict(Declared)
    program.demos = [{"question": "Capital of France?", "answer": "Paris"}]
    chat = sessionify(program)
    chat(question="one")
    assert "not supplied" not in "\n".join(map(text_of, lm.requests[0]))


# ── adapters that format by themselves ───────────────────────────────────────────────────────────────────────


class OwnFormat(dspy.ChatAdapter):
    """Formats everything, with DSPy's help."""

    def format(self, signature, demos, inputs):
        messages = super().format(signature, demos, inputs)
        messages[0]["content"] = "MY SYSTEM\n" + messages[0]["content"]
        return messages


class OwnWords(dspy.ChatAdapter):
    """Formats everything by itself and reads the history input."""

    def format(self, signature, demos, inputs):
        chat = [{"role": "system", "content": "WORDS"}]
        name = self._get_history_field_name(signature)
        for message in inputs[name].messages if name in inputs else []:
            for names, role in ((signature.input_fields, "user"), (signature.output_fields, "assistant")):
                told = ", ".join(f"{n}={message[n]}" for n in names if n in message)
                chat.append({"role": role, "content": told})
        asked = ", ".join(f"{k}={v}" for k, v in inputs.items() if k != name)
        ending = "Respond with " + ", ".join(f"`[[ ## {n} ## ]]`" for n in signature.output_fields)
        return [*chat, {"role": "user", "content": f"{asked}\n{ending}"}]


class OwnHistory(dspy.ChatAdapter):
    """Writes past turns in its own way."""

    def format_conversation_history(self, signature, history_field_name, inputs):
        chat = []
        for message in inputs.pop(history_field_name).messages:
            for names, role in ((signature.input_fields, "user"), (signature.output_fields, "assistant")):
                chat.append({"role": role, "content": " / ".join(f"OWN {message.get(n)}" for n in names)})
        return chat


class OwnDemos(dspy.ChatAdapter):
    def format_demos(self, signature, demos):
        return [{"role": "user", "content": f"DEMO {demo['question']}"} for demo in demos]


@pytest.mark.parametrize("name", ["Predict", "ChainOfThought", "ReAct", "composed", "string"])
@pytest.mark.parametrize("adapter", [OwnFormat, OwnWords, OwnHistory, OwnDemos])
def test_custom_adapters_keep_their_part_and_show_the_conversation(adapter, name):
    bare_lm, lm = model(), model()
    with dspy.context(lm=bare_lm, adapter=adapter(), trace=[]):
        bare = converse(PROGRAMS[name](), bare_lm)
    with dspy.context(lm=lm, adapter=adapter(), trace=[]):
        session = sessionify(PROGRAMS[name]())
        seen = converse(session, lm)
    assert seen[0] == bare[0]
    for request, expected in zip(seen[2], bare[2], strict=True):
        past = shown_conversation(request, expected)
        check_past(past)
        assert [m["role"] for m in past] == ["user", "assistant"] * 2
        assert "first question" in text_of(past[0])
        answer = session.turns[0].outputs.get("answer", session.turns[0].outputs.get("output"))
        assert str(answer) in text_of(past[1])


def test_an_adapters_own_history_writes_its_own_turns(lm):
    with dspy.context(adapter=OwnHistory()):
        chat = sessionify(dspy.Predict("question -> answer"))
        chat(question="one")
        chat(question="two")
    assert [m["content"] for m in lm.requests[1][1:3]] == ["OWN one", "OWN answer 1"]


def test_an_adapters_own_demos_are_asked_for_demos(lm):
    program = dspy.Predict("question -> answer")
    program.demos = [{"question": "Capital of France?", "answer": "Paris"}]
    with dspy.context(adapter=OwnDemos()):
        chat = sessionify(program)
        chat(question="one")
        chat(question="two")
    assert lm.requests[1][1]["content"] == "DEMO Capital of France?"


# ── the template adapter ─────────────────────────────────────────────────────────────────────────────────────


def template(**options):
    module = pytest.importorskip("dspy_template_adapter")
    messages = [
        {"role": "system", "content": "You are concise. {instruction}"},
        *options.pop("directives", []),
        {"role": "user", "content": "{inputs()}\nRespond with\n{outputs()}"},
    ]
    return module.TemplateAdapter(messages=messages, **{"parse_mode": "chat", **options})


def in_chat_style(chat, names):
    """What a template asks for is not in the script's styles."""
    return "".join(f"[[ ## {name} ## ]]\n{name} {len(chat)}\n\n" for name in _asked(chat))


def _asked(chat):
    last = text_of(chat[-1]).rsplit("Respond with", 1)[1]
    return [line.split("`")[1] for line in last.splitlines() if "`" in line]


@pytest.mark.parametrize("directives", [[], [{"role": "history"}]], ids=["plain", "directive"])
@pytest.mark.parametrize("name", ["Predict", "ChainOfThought", "composed", "string"])
def test_template_adapter(name, directives):
    bare_lm, lm = ScriptedLM(in_chat_style), ScriptedLM(in_chat_style)
    with dspy.context(lm=bare_lm, adapter=template(directives=directives), trace=[]):
        bare = converse(PROGRAMS[name](), bare_lm)
    with dspy.context(lm=lm, adapter=template(directives=directives), trace=[]):
        session = sessionify(PROGRAMS[name]())
        seen = converse(session, lm)
    assert seen[0] == bare[0]
    for request in seen[2]:
        assert request[0] in [expected[0] for expected in bare[2]]
        past = request[1:-1]
        check_past(past)
        assert [m["role"] for m in past] == ["user", "assistant"] * 2
        assert "first question" in text_of(past[0])
        answer = session.turns[0].outputs.get("answer", session.turns[0].outputs.get("output"))
        assert str(answer) in text_of(past[1])


def test_template_adapters_own_predict_brings_its_adapter():
    module = pytest.importorskip("dspy_template_adapter")
    lm = ScriptedLM(in_chat_style)
    with dspy.context(lm=lm, adapter=None, trace=[]):
        chat = sessionify(module.Predict("question -> answer", adapter=template()))
        for question in QUESTIONS:
            chat(question=question)
    assert text_of(lm.requests[2][0]).startswith("You are concise.")
    assert [m["role"] for m in lm.requests[2]] == ["system", *["user", "assistant"] * 2, "user"]
    check_past(lm.requests[2][1:-1])


def test_template_adapter_with_demos_that_carry_a_history():
    lm = ScriptedLM(in_chat_style)
    program = dspy.Predict("question -> answer")
    program.demos = copy.deepcopy(DEMOS)
    with dspy.context(lm=lm, adapter=template(), trace=[]):
        chat = sessionify(program)
        chat(question="one")
        chat(question="two")
    text = "\n".join(map(text_of, lm.requests[1]))
    assert "messages=" not in text
    assert "another conversation" in text
    assert "Rome" in text


def test_template_that_shows_the_history_inline():
    module = pytest.importorskip("dspy_template_adapter")
    lm = ScriptedLM(["a1", "a2"])
    adapter = module.TemplateAdapter(
        messages=[{"role": "user", "content": "So far: {history()}\nNow: {question}"}], parse_mode="full_text"
    )
    with dspy.context(lm=lm, adapter=adapter, trace=[]):
        chat = sessionify(dspy.Predict("question -> answer"))
        chat(question="one")
        chat(question="two")
    assert "one" in text_of(lm.requests[1][0])
    assert "a1" in text_of(lm.requests[1][0])
    assert len(lm.requests[1]) == 1


def test_past_values_that_the_field_can_no_longer_hold_do_not_end_the_conversation(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat.add_turn({"question": [1, 2]}, {"answer": {"a": 1}})
    chat(question="two")
    assert "[1, 2]" in text_of(lm.requests[0][1])
    check_past(lm.requests[0][1:-1])


# ── values that are no text ──────────────────────────────────────────────────────────────────────────────────

PICTURE = dspy.Image("https://example.org/a.png")


class Describes(dspy.Module):
    def __init__(self):
        super().__init__()
        self.look = dspy.Predict("picture: dspy.Image, question -> text")

    def forward(self, picture, question):
        return self.look(picture=picture, question=question).text


def pictures(message):
    parts = message["content"] if isinstance(message["content"], list) else []
    return sum(part.get("type") == "image_url" for part in parts)


@pytest.mark.parametrize("adapter", [*ADAPTERS, "TwoStep", "Fixed"])
@pytest.mark.parametrize("name", ["own", "foreign"])
def test_images_stay_images(adapter, name, lm):
    class Fixed(dspy.ChatAdapter):
        def format(self, signature, demos, inputs):
            asked = ", ".join(f"`[[ ## {field} ## ]]`" for field in signature.output_fields)
            return [
                {"role": "system", "content": "fixed"},
                {"role": "user", "content": f"{inputs['question']} Respond with {asked}"},
            ]

    if adapter == "Fixed" and name == "own":
        pytest.skip("such an adapter shows its own turns or does not: that is its business")
    made = {"TwoStep": lambda: dspy.TwoStepAdapter(model()), "Fixed": Fixed, **ADAPTERS}[adapter]()
    program = Describes() if name == "foreign" else dspy.Predict("picture: dspy.Image, question -> text")
    with dspy.context(adapter=made):
        chat = sessionify(program)
        for question in QUESTIONS:
            chat(picture=PICTURE, question=question)
    past = lm.requests[2][1:-1]
    assert [pictures(message) for message in past] == [1, 0, 1, 0]
    assert "CUSTOM-TYPE" not in str(past)
    check_past(past)


def test_what_the_user_said_is_never_put_into_the_models_mouth(lm):
    class Reversed(dspy.Module):
        """Has a predictor whose output is called like the program's input, and the other way round."""

        def __init__(self):
            super().__init__()
            self.guess = dspy.Predict("answer -> question")

        def forward(self, question):
            return dspy.Prediction(answer=self.guess(answer=question).question)

    chat = sessionify(Reversed())
    chat(question="said by the user")
    chat(question="again")
    _, user, assistant, _ = lm.requests[1]
    assert "said by the user" in text_of(user)
    assert "said by the user" not in text_of(assistant)
    assert "question 1" in text_of(assistant)


def test_an_adapter_that_is_a_dataclass(lm):
    @dataclasses.dataclass
    class Configured(dspy.ChatAdapter):
        style: str = "brief"

        def __post_init__(self):
            super().__init__()

    with dspy.context(adapter=Configured()):
        chat = sessionify(dspy.Predict("question -> answer"))
        chat(question="one")
        chat(question="two")
    assert len(lm.requests[1]) == 4


@pytest.mark.parametrize("adapter", [*ADAPTERS, "TwoStep"])
@pytest.mark.parametrize(
    "signature", ["question -> answer", "question -> reasoning, answer", "question -> plan"]
)
def test_odd_messages_of_a_history(adapter, signature, lm):
    odd = dspy.History(
        messages=[
            {},
            {"question": None},
            {"unknown": "only"},
            {"question": None, "answer": None},
            {"question": "", "answer": ""},
            {"answer": "unasked"},
            {"question": "asked", "answer": 3},
        ]
    )
    made = dspy.TwoStepAdapter(model()) if adapter == "TwoStep" else ADAPTERS[adapter]()
    with dspy.context(adapter=made):
        sessionify(dspy.Predict(signature), initial_history=odd)(question="now")
    past = lm.requests[0][1:-1]
    check_past(past)
    assert "unasked" in str(past)
    assert "only" in str(past)


def test_a_history_field_by_another_name(lm):
    chat = sessionify(dspy.Predict("question -> answer"), history_field="conversation")
    chat(question="one")
    given = dspy.History(messages=[{"question": "seven", "answer": "eight"}])
    chat(question="two", conversation=given)
    chat(question="three")
    assert "eight" in text_of(lm.requests[1][2])
    assert "answer 1" in text_of(lm.requests[2][2])
    assert len(chat) == 2
    assert set(chat.to_examples()[0].inputs().keys()) == {"question", "conversation"}


@pytest.mark.parametrize("native", [False, True])
def test_tool_calls_of_past_turns_are_shown(native):
    def script(chat, names):
        return {"tool_calls": {"tool_calls": [{"name": "search", "args": {"query": f"fact {len(chat)}"}}]}}

    lm = ScriptedLM(script)
    signature = "question, tools: list[dspy.Tool] -> tool_calls: dspy.ToolCalls"
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=native)):
        chat = sessionify(dspy.Predict(signature), exclude_fields={"tools"})
        for question in QUESTIONS:
            chat(question=question, tools=[dspy.Tool(search)])
    past = lm.requests[2][1:-1]
    assert [message["role"] for message in past] == ["user", "assistant"] * 2
    assert "fact 2" in text_of(past[1])
    check_past(past)


@pytest.mark.parametrize("native", [False, True])
def test_an_agents_steps_in_a_turn_are_written_as_dspy_does(native):
    bare_lm, lm = model(), model()
    adapter = dspy.ChatAdapter(use_native_function_calling=native)
    with dspy.context(lm=bare_lm, adapter=adapter, trace=[]):
        bare = converse(PROGRAMS["ReActV2"](), bare_lm)
    with dspy.context(lm=lm, adapter=adapter, trace=[]):
        seen = converse(sessionify(PROGRAMS["ReActV2"]()), lm)
    assert len(seen[2]) == 2
    assert seen[0] == bare[0]
    for request, expected in zip(seen[2], bare[2], strict=True):
        check_past(shown_conversation(request, expected))


def test_a_predictor_that_was_put_in_the_place_of_another(lm):
    thinking = sessionify(dspy.ChainOfThought("question -> answer"))
    plain = sessionify(dspy.Predict("question -> answer"))
    planner = sessionify(Planner())
    for chat in (thinking, plain, planner):
        chat.add_turn({"question": "one"}, {"answer": "a"})
    thinking.module.predict = dspy.Predict("question -> reasoning, answer")
    plain.module = dspy.Predict("question -> answer")
    planner.module.write = dspy.Predict("question, plan -> answer")
    for chat in (thinking, plain, planner):
        chat(question="two")
        chat(question="three")
    assert [len(request) for request in lm.requests] == [4, 6, 4, 6, 4, 4, 6, 6]


def test_a_signature_that_was_changed(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat.module.signature = dspy.Signature("question -> reply", "Be brief.")
    chat(question="two")
    chat(question="three")
    assert "Be brief." in text_of(lm.requests[1][0])
    assert "answer 1" in text_of(lm.requests[1][2])
    assert "reply 2" in text_of(lm.requests[2][4])
    check_past(lm.requests[2][1:-1])
