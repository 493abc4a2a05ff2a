"""States as values: compared, copied, pickled, merged and looked through."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import dataclass, replace

import dspy
import pytest

from dspy_session import Session, SessionState, Turn, sessionify, windows, with_memory
from dspy_session._exchange import ALL_FIELDS
from dspy_session._marks import Episode, NodeMark
from dspy_session.errors import ConfigurationError, UnknownPathError
from dspy_session.history import HistoryView
from dspy_session.stores import open_store
from tests.memory.programs import Agent

SEED = dspy.History(messages=[{"question": "s", "answer": "a"}])


def turns(count: int, start: int = 0) -> list[Turn]:
    return [Turn(start + n, {"question": f"q{n}"}, {"answer": f"a{n}"}, id=f"t{n}") for n in range(count)]


def asked(state: SessionState) -> list[str]:
    return [turn.inputs["question"] for turn in state.turns]


def talk(count: int, **options: object) -> SessionState:
    app = with_memory(Agent(), **options)
    state = app.new_state(l2_memory="likes tea")
    with app.use_state(state):
        for number in range(count):
            app(question=f"q{number}")
    return state


def test_a_state_made_of_turns_has_their_scores():
    scored, told, plain = turns(3)
    scored.score, told.feedback = 0.5, "good"
    state = SessionState([scored, told, plain])
    assert [(turn.score, turn.feedback) for turn in state.turns] == [
        (0.5, None),
        (None, "good"),
        (None, None),
    ]
    assert set(state.notes) == {"t0", "t1"}
    state.turns[2].score = 1.0
    assert plain.score is None
    assert state.dirty_notes == {"t2"}


def test_states_have_ids_of_their_own_and_a_new_one_after_a_reset():
    state, other = SessionState(turns(1)), SessionState()
    assert isinstance(state.conversation_id, str)
    assert state.conversation_id != other.conversation_id
    before = state.conversation_id
    assert state.fork().conversation_id == before
    state.reset()
    assert isinstance(state.conversation_id, str)
    assert state.conversation_id != before


def test_the_initial_history_is_there_or_it_is_not():
    seeded, bare = SessionState(initial_history=SEED), SessionState()
    assert seeded.initial_history == SEED
    assert bare.initial_history is None
    assert [len(state.head) for state in (seeded, bare)] == [1, 0]
    empty = SessionState(initial_history=dspy.History(messages=[]))
    assert empty.initial_history == dspy.History(messages=[])
    seeded.initial_history = None
    assert (seeded.initial_history, seeded.head) == (None, ())
    seeded.set_head(
        dspy.History(messages=[{"text": "in", "question": "q", "answer": "a"}]), ["text", "question"]
    )
    assert seeded.head[0].input_names == {"text", "question"}


def test_states_are_equal_if_all_of_them_is():
    def made(**more: object) -> SessionState:
        given = {
            "turns": turns(2),
            "initial_history": SEED,
            "l2_memory": "m",
            "node_states": {"a": SessionState()},
        }
        return SessionState(**{**given, **more})  # type: ignore[arg-type]

    assert made() == made()
    assert made() != made(turns=turns(1))
    assert made() != made(initial_history=None)
    assert made() != made(l2_memory="n")
    assert made() != made(node_states={"a": SessionState(turns(1))})
    assert made() != made(node_states={})
    assert made() != "a state"


def test_a_state_shows_what_is_in_it():
    assert repr(SessionState()) == "SessionState(turns=0)"
    nodes = {"b": SessionState(), "a": SessionState()}
    full = SessionState(turns(2), l2_memory="tea", node_states=nodes)
    assert repr(full) == "SessionState(turns=2, l2_memory=3 characters, nodes=['a', 'b'])"


@pytest.mark.parametrize("count", [0, 3])
def test_a_pickled_state_is_whole_and_goes_on(lm, count):
    state = talk(count)
    if count:
        state.turns[0].score = 0.5
    for twin in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), copy.copy(state)):
        assert twin == state
        assert twin is not state
        twin.undo(1)
        twin.l2_memory = "other"
        assert len(state) == count
        assert state.l2_memory == "likes tea"


def test_a_pickled_state_can_be_bound(lm):
    app = sessionify(dspy.Predict("question -> answer"), lock="thread")
    app(question="one")
    back = pickle.loads(pickle.dumps(app.state))
    with app.use_state(back):
        app(question="two")
    assert [len(back), len(app.state)] == [2, 1]


def test_scores_of_a_fork_are_its_own_in_both_directions():
    state = SessionState(turns(2))
    state.turns[0].score = 0.5
    fork = state.fork()
    fork.turns[0].score = 1.0
    state.turns[1].score = 0.1
    assert [turn.score for turn in state.turns] == [0.5, 0.1]
    assert [turn.score for turn in fork.turns] == [1.0, None]
    second = state.fork()
    state.turns[0].score = 0.2
    state.turns[0].score = 0.3
    assert second.turns[0].score == 0.5
    state.reset()
    assert fork.turns[0].score == 1.0


@pytest.mark.parametrize("score", [True, "0.5", [1]])
def test_a_score_is_a_number(score):
    [turn] = SessionState(turns(1)).turns
    with pytest.raises(ConfigurationError, match="a score must be a number or None"):
        turn.score = score
    assert turn.score is None


def test_turns_are_found_by_themselves_by_id_and_by_index():
    state = SessionState(turns(3, start=4))
    records = [turn.record for turn in state.turns]
    assert [state.find(index) for index in (4, 5, 6)] == records
    assert [state.find(index) for index in (-3, -2, -1)] == records
    assert [state.find(turn) for turn in state.turns] == records
    assert [state.find(name) for name in ("t0", "t1", "t2")] == records
    first = SessionState(turns(2))
    assert [first.find(0).index, first.find(1).index] == [0, 1]


@pytest.mark.parametrize("wanted", [3, 7, -4, "t9", True])
def test_what_is_not_there_is_told_with_what_is(wanted):
    state = SessionState(turns(3, start=4))
    with pytest.raises(UnknownPathError, match=re.escape(f"no turn {wanted!r}") + ".*has indexes 4 to 6$"):
        state.find(wanted)
    with pytest.raises(UnknownPathError, match=r"which has no turns$"):
        SessionState().find(wanted)


def test_undo_gives_what_it_took():
    state = SessionState(turns(5, start=3))
    state.turns[4].score = 0.5
    assert state.undo(0) == state.undo(-1) == []
    assert len(state) == 5
    removed = state.undo(2)
    assert [turn.id for turn in removed] == ["t3", "t4"]
    assert removed[1].score == 0.5
    assert [turn.id for turn in state.undo(9)] == ["t0", "t1", "t2"]
    assert state.undo() == []
    assert state.next_index() == 3


def test_undo_takes_back_what_waited_for_consolidation():
    state = SessionState(turns(2))
    episodes = [Episode(name, ()) for name in ("t0", "t1")]
    node = state.node("a")
    node.pending = list(episodes)
    base = node.position
    records = state.position.records()
    marked = [
        replace(records[0], nodes={"a": NodeMark(base, base, "", None)}),
        replace(records[1], nodes={"a": NodeMark(base, base, "before", None)}),
    ]
    state = SessionState([Turn.of(record) for record in marked], node_states={"a": node})
    state.undo(1)
    assert (node.pending, node.l2_memory) == ([episodes[0]], "before")
    node.pending = list(episodes)
    known = replace(records[1], nodes={"a": NodeMark(base, base, "known", (episodes[1],))})
    state = SessionState([Turn.of(known)], node_states={"a": node})
    state.undo(1)
    assert (node.pending, node.l2_memory) == ([episodes[1]], "known")


def grown(state: SessionState, names: str) -> SessionState:
    """The state with a turn for each letter."""
    for name in names:
        record = Turn(0, {"question": name}, {"answer": name}, id=name).record
        record.index = state.next_index()
        state.append(record)
    return state


def test_merging_puts_what_a_fork_added_behind_what_came_in_between():
    state = grown(SessionState(l2_memory="m"), "ab")
    base, fork = state.fork(), grown(state.fork(), "cd")
    fork.turns[2].score = 0.5
    fork.pending = [Episode("c", ())]
    grown(fork.node("n"), "x")
    grown(state, "e")
    grown(state.node("n"), "y")
    state.merge(base, fork)
    assert asked(state) == ["a", "b", "e", "c", "d"]
    assert [turn.index for turn in state.turns] == [0, 1, 2, 3, 4]
    assert [turn.score for turn in state.turns] == [None, None, None, 0.5, None]
    assert [episode.turn_id for episode in state.pending] == ["c"]
    assert asked(state.node("n")) == ["y", "x"]
    assert len(fork) == 4


def test_merging_where_nothing_came_in_between_takes_the_forks_place():
    state = grown(SessionState(), "ab")
    base, fork = state.fork(), grown(state.fork(), "cd")
    whole = state.fork()
    whole.merge(base, fork)
    assert whole.position == fork.position
    state.merge(base, fork, keep=3)
    assert asked(state) == ["b", "c", "d"]
    assert [turn.index for turn in state.turns] == [1, 2, 3]


def test_merging_keeps_scores_given_before_and_lets_go_of_the_oldest():
    state = grown(SessionState(), "ab")
    state.turns[0].score = 0.1
    base = state.fork()
    base.pending = state.pending = [Episode("a", ())]
    fork = grown(base.fork(), "cd")
    fork.turns[0].score = 0.9
    grown(state, "e")
    state.merge(base, fork, keep=4)
    assert asked(state) == ["b", "e", "c", "d"]
    assert state.note("a").score == 0.1
    assert [episode.turn_id for episode in state.pending] == ["a"]


def test_a_fork_that_has_let_go_of_its_oldest_is_merged_too():
    state = grown(SessionState(), "abc")
    base = state.fork()
    fork = state.fork()
    for name in "de":
        grown(fork, name)
        fork._keep_from(fork.next_index() - 1)
    grown(state, "f")
    state.merge(base, fork)
    assert asked(state) == ["a", "b", "c", "f", "e"]


def test_absorbing_becomes_the_other_and_shares_no_scores():
    state = grown(SessionState(l2_memory="old"), "a")
    fork = state.fork()
    grown(fork, "b").set_head(SEED)
    fork.l2_memory = "new"
    fork.pending = [Episode("b", ())]
    fork.turns[1].score = 0.5
    grown(fork.node("n"), "x")
    state.absorb(fork)
    assert state == fork
    assert (state.initial_history, state.pending, state.l2_memory) == (SEED, fork.pending, "new")
    fork.turns[1].score = 0.9
    assert [turn.score for turn in state.turns] == [None, 0.5]
    state.turns[0].score = 0.1
    assert [turn.score for turn in state.turns] == [0.1, 0.5]
    assert [turn.score for turn in fork.turns] == [None, 0.9]


def test_staged_turns_are_trimmed_as_others_are():
    state = grown(SessionState(), "ab")
    base = state.position
    fork = grown(state.fork(), "cd")
    grown(state, "e")
    state.extend(base, fork.position, fork.position.records()[2:], keep=2)
    assert asked(state) == ["c", "d"]
    assert [turn.index for turn in state.turns] == [3, 4]


def test_summaries_of_what_is_let_go_are_let_go_too(lm):
    chat = sessionify(
        dspy.Predict("question -> answer"),
        window=windows.summary(lambda past_memory, episode_transcript: past_memory + "x", keep=1, every=1),
        max_stored_turns=3,
    )
    seen = {}
    for number in range(12):
        chat(question=f"q{number}")
        seen.update({summary.made: summary for summary in chat.state.summaries})
        assert len(chat.state.summaries) <= 5
        start = chat.state.position.start
        assert chat.state.summary_at(start) == max(
            (summary for made, summary in seen.items() if made <= start),
            key=lambda summary: summary.made,
            default=None,
        )
        assert sum(summary.made <= start for summary in chat.state.summaries) <= 1
    chat.undo(3)
    assert len(chat.state.summaries) == 1


def test_a_view_of_a_state_ends_with_its_newest_turn():
    state = grown(SessionState(initial_history=SEED), "ab")
    view = state.view(ALL_FIELDS)
    assert [message["question"] for message in view] == ["s", "a", "b"]
    assert view == HistoryView.of(dspy.History(messages=view.messages()))


def test_everything_can_be_let_go():
    state = grown(SessionState(), "ab")
    state._keep_from(state.next_index())
    assert (len(state), state.next_index()) == (0, 2)
    assert asked(grown(state, "c")) == ["c"]


@dataclass
class Plan:
    steps: tuple[str, ...]


def test_a_file_brings_back_the_types_that_are_named(tmp_path):
    state = SessionState([Turn(0, {"plan": Plan(("a",))}, {})])
    state.save(tmp_path / "state.json")
    [turn] = SessionState.load_from(tmp_path / "state.json", types=[Plan]).turns
    assert turn.inputs == {"plan": Plan(("a",))}


def test_a_state_that_is_bound_to_a_store_can_be_pickled(lm):
    chat = sessionify(dspy.Predict("question -> answer"))
    with open_store("memory://") as store, chat.conversation("k", store=store):
        chat(question="one")
        back = pickle.loads(pickle.dumps(chat.state))
        assert asked(back) == ["one"]
        assert back.sink is None


def test_a_replaced_answer_keeps_its_score_on_its_branch(lm, tmp_path):
    chat = sessionify(dspy.Predict("question -> answer"))
    chat(question="one")
    chat.turns[0].score = 0.5
    chat.retry()
    chat.retry()
    assert [branch.turns[0].score for branch in chat.branches] == [0.5, None]
    assert chat.turns[0].score is None
    chat.save(tmp_path / "talk.json")
    loaded = Session.load_from(tmp_path / "talk.json", dspy.Predict("question -> answer"))
    assert [branch.turns[0].score for branch in loaded.branches] == [0.5, None]
    assert [set(branch.notes) for branch in chat.state.branches] == [
        {chat.state.branches[0].position.last().id},
        set(),
    ]
