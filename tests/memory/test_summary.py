"""The `summary` window: old turns as a running summary, which is a view of a log that is never rewritten."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from dspy_session import Session, SessionState, sessionify, with_memory
from dspy_session.errors import ConfigurationError
from dspy_session.stores import open_store
from dspy_session.windows import summary
from tests.memory.programs import Agent, of_node, past, shown


class Teller:
    """Appends the questions it is told to the summary so far."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = 0

    def __call__(self, past_summary: str, transcript: str) -> str:
        self.calls += 1
        if self.fails:
            self.fails -= 1
            raise ConnectionError("down")
        given = [line for line in transcript.splitlines() if "inputs" in line]
        told = [line.split('"question": "')[1].split('"')[0] for line in given]
        return " ".join([past_summary, *told]).strip()


def talk(session, *questions):
    for question in questions:
        session(question=question)


def seen(request):
    """The summary that a request shows, and the questions of the turns that it shows."""
    messages = shown(request)
    first = messages[0].get("conversation_summary") if messages else None
    return first, [message["question"] for message in messages if "question" in message]


@pytest.fixture
def teller():
    return Teller()


def session(teller, **options):
    return sessionify(dspy.Predict("question -> answer"), window=summary(teller, keep=2), **options)


def test_old_turns_are_folded_and_the_newest_shown(lm, teller):
    chat = session(teller)
    talk(chat, *"abcde")
    assert [seen(request) for request in lm.requests] == [
        (None, []),
        (None, ["a"]),
        (None, ["a", "b"]),
        ("a", ["b", "c"]),
        ("a b", ["c", "d"]),
    ]
    assert [message["role"] for message in lm.requests[-1]][:3] == ["system", "user", "user"]
    assert [turn.inputs["question"] for turn in chat.turns] == list("abcde")


def test_every_folds_in_blocks(lm, teller):
    chat = sessionify(dspy.Predict("question -> answer"), window=summary(teller, keep=2, every=3))
    talk(chat, *"abcdefghij")
    assert teller.calls == 2
    assert seen(lm.requests[5]) == ("a b c", ["d", "e"])
    assert seen(lm.requests[6]) == ("a b c", ["d", "e", "f"])


@pytest.mark.parametrize(
    "signature", ["past_summary, transcript -> summary", "past_memory, episode_transcript -> updated_memory"]
)
@pytest.mark.parametrize("make", [dspy.Predict, dspy.ChainOfThought])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_any_module_of_two_texts(lm, signature, make, style):
    chat = sessionify(dspy.Predict("question -> answer"), window=summary(make(signature), keep=1))
    for question in "abc":
        if style == "sync":
            chat(question=question)
        else:
            asyncio.run(chat.acall(question=question))
    text, questions = seen(of_node(lm, "answer")[-1])
    assert text is not None
    assert text.startswith(signature.split("-> ")[1])
    assert questions == ["b"]


def test_snapshots_stay_what_was_shown_and_replay(lm, teller):
    chat = session(teller)
    talk(chat, *"abcd")
    sent = list(lm.requests)
    for turn, request in zip(chat.turns, sent, strict=True):
        chat(**turn.inputs, history=turn.history_snapshot)
        assert lm.requests[-1] == request
    assert chat.turns[3].history_snapshot.messages[0] == {"conversation_summary": "a"}


def test_undo_past_it_undoes_it(lm, teller):
    chat = session(teller)
    talk(chat, *"abcde")
    chat.undo(2)
    assert [s.text for s in chat.state.summaries] == ["a"]
    talk(chat, "x")
    assert seen(lm.requests[-1]) == ("a", ["b", "c"])
    chat.undo(3)
    assert chat.state.summaries == []
    talk(chat, "y")
    assert seen(lm.requests[-1]) == (None, ["a"])


def test_a_fork_shares_it_and_goes_on_alone(lm, teller):
    chat = session(teller)
    talk(chat, *"abc")
    fork = chat.fork()
    talk(fork, "f")
    talk(chat, "o")
    assert [s.text for s in fork.state.summaries] == ["a", "a b"]
    talk(fork, "g")
    assert seen(lm.requests[-1]) == ("a b", ["c", "f"])
    assert [turn.inputs["question"] for turn in chat.turns] == ["a", "b", "c", "o"]


def test_it_is_saved_with_the_conversation(lm, teller, tmp_path):
    chat = session(teller)
    talk(chat, *"abcd")
    chat.save(tmp_path / "talk.json")
    window = summary(teller, keep=2)
    loaded = Session.load_from(tmp_path / "talk.json", dspy.Predict("question -> answer"), window=window)
    calls = teller.calls
    talk(loaded, "e")
    assert seen(lm.requests[-1]) == ("a b", ["c", "d"])
    assert teller.calls == calls + 1
    turn = loaded.turns[3]
    assert turn.history_snapshot == chat.turns[3].history_snapshot
    assert SessionState.from_dict(chat.state.to_dict()).summaries == chat.state.summaries


def test_a_store_keeps_it(lm, teller, tmp_path):
    chat = session(teller)
    store = open_store(f"sqlite:///{tmp_path}/talks.db")
    with chat.conversation("user", store=store):
        talk(chat, *"abcd")
    with chat.conversation("user", store=store):
        talk(chat, "e")
    assert seen(lm.requests[-1]) == ("a b", ["c", "d"])
    store.close()


def test_a_store_keeps_those_of_nodes(lm, teller, tmp_path):
    app = with_memory(Agent(), window=summary(teller, keep=1))
    with open_store(f"sqlite:///{tmp_path}/talks.db") as store:
        with app.conversation("user", store=store) as told:
            talk(app, *"abc")
        with app.conversation("user", store=store) as again:
            assert again.state.summaries == told.state.summaries
            for path in ("planner", "writer"):
                texts = [[s.text for s in t.state.node_states[path].summaries] for t in (told, again)]
                assert texts == [["a", "a b"], ["a", "a b"]]
            talk(app, "d")
    assert seen(of_node(lm, "plan")[-1]) == ("a b", ["c"])


def test_saved_size_is_linear(lm, teller):
    def size(count):
        chat = sessionify(dspy.Predict("question -> answer"), window=summary(lambda a, b: "short", keep=2))
        talk(chat, *(f"q{n}" for n in range(count)))
        return len(str(chat.state.to_dict()))

    assert size(80) < 2.2 * size(40)


def test_a_failure_loses_nothing(lm, teller, caplog):
    teller.fails = 2
    chat = session(teller)
    talk(chat, *"abcd")
    assert seen(lm.requests[3]) == (None, ["a", "b", "c"])
    talk(chat, *"ef")
    assert seen(lm.requests[4]) == (None, ["a", "b", "c", "d"]) or seen(lm.requests[4])[0] == "a b"
    assert seen(lm.requests[5]) == ("a b c", ["d", "e"])
    assert "ConnectionError" in caplog.text


def test_nothing_goes_before_it_is_summarized(lm, teller):
    teller.fails = 4
    chat = session(teller, max_stored_turns=3)
    talk(chat, *"abcdef")
    assert chat.turns[0].inputs["question"] == "a"
    talk(chat, "g")
    talk(chat, "h")
    assert seen(lm.requests[-1]) == ("a b c d e", ["f", "g"])
    assert len(chat.turns) == 3


def test_the_initial_history_is_folded_or_kept(lm, teller):
    seed = dspy.History(messages=[{"question": "seed", "answer": "yes"}])
    folded = session(teller, initial_history=seed)
    talk(folded, *"abcd")
    assert seen(lm.requests[-1]) == ("seed a", ["b", "c"])
    window = summary(teller, keep=2, keep_initial=True)
    kept = sessionify(dspy.Predict("question -> answer"), initial_history=seed, window=window)
    talk(kept, *"abcd")
    assert seen(lm.requests[-1]) == ("a", ["seed", "b", "c"])


def test_an_edit_of_a_covered_turn_takes_the_summary_back(lm, teller):
    chat = session(teller)
    talk(chat, *"abcd")
    chat.edit_turn(1, inputs={"question": "corrected"})
    talk(chat, "e", "f")
    assert seen(lm.requests[-1])[0] == "a corrected c"


def test_retry_and_reset(lm, teller):
    chat = session(teller)
    talk(chat, *"abc")
    chat.retry()
    assert [s.text for s in chat.state.summaries] == ["a"]
    assert lm.requests[3] == lm.requests[2]
    chat.reset()
    talk(chat, "new")
    assert past(lm.requests[-1]) == []


def test_it_does_not_block_the_loop_and_sees_no_open_turn(lm):
    async def slow(past_summary, transcript):
        ticks.append(len(chat.turns))
        await asyncio.sleep(0)
        return "slow"

    ticks: list[int] = []
    chat = sessionify(dspy.Predict("question -> answer"), window=summary(slow, keep=1))

    async def run():
        for question in "abc":
            await chat.acall(question=question)

    asyncio.run(run())
    assert ticks == [2, 3]
    assert seen(lm.requests[-1])[0] == "slow"


def test_nodes_have_summaries_of_their_own(lm, teller):
    app = with_memory(Agent(), window=summary(teller, keep=1))
    state = app.new_state()
    with app.use_state(state):
        talk(app, *"abc")
    assert seen(of_node(lm, "plan")[-1]) == ("a", ["b"])
    assert [s.text for s in state.node_states["planner"].summaries] == ["a", "a b"]
    state.undo()
    assert [s.text for s in state.node_states["planner"].summaries] == ["a"]
    with app.use_state(SessionState.from_dict(state.to_dict())):
        talk(app, "z")
    assert seen(of_node(lm, "plan")[-1]) == ("a", ["b"])


def test_two_users_have_two_summaries(lm, teller):
    app = with_memory(dspy.Predict("question -> answer"), window=summary(teller, keep=1))
    for name in ("alice", "bob"):
        with app.use_state(app.new_state()):
            talk(app, *(f"{name}{n}" for n in range(4)))
    assert seen(lm.requests[-1]) == ("bob0 bob1", ["bob2"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: summary(None),
        lambda: summary(dspy.Predict),
        lambda: summary(dspy.Predict("a, b, c -> d")),
        lambda: summary(dspy.Predict("a -> d")),
        lambda: summary(lambda a, b: "", keep=0),
        lambda: summary(lambda a, b: "", every=0),
        lambda: sessionify(
            dspy.Predict("q -> a"), window=summary(lambda a, b: "", keep=5), max_stored_turns=5
        ),
    ],
)
def test_wrong_parameters_are_our_errors(make):
    with pytest.raises(ConfigurationError):
        make()
