"""Conversations, weights and programs in files."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import enum
import json
import os
import subprocess
import sys
import threading
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Optional

import dspy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_session import Session, SessionState, StandIn, sessionify, windows
from dspy_session.codec import wire
from dspy_session.errors import (
    ConfigurationError,
    DspySessionError,
    FormatError,
    SerializationError,
    UnsupportedVersionError,
)
from dspy_session.testing.lm import ScriptedLM


def qa():
    return dspy.Predict("question -> answer")


@pytest.fixture
def chat(lm):
    session = sessionify(qa())
    for question in ("one", "two", "three"):
        session(question=question)
    return session


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.json"


def test_a_conversation_goes_on_where_it_was(chat, lm, path):
    chat.rate(1, 0.5, "fine")
    chat.save(path)
    loaded = Session.load_from(path, qa())
    assert loaded.turns == chat.turns
    assert loaded.turns[1].feedback == "fine"
    assert loaded.turns[0].model == "scripted"
    assert loaded.turns[0].usage == chat.turns[0].usage
    assert loaded.turns[0].created_at == chat.turns[0].created_at
    assert loaded.session_history == chat.session_history
    chat(question="four")
    loaded(question="four")
    assert lm.requests[3] == lm.requests[4]
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 3


def test_configuration_survives(lm, path):
    options = {
        "max_turns": 3, "max_stored_turns": 7, "exclude_fields": {"context"}, "history_input_fields": (),
        "history_extras": {"reasoning"}, "history_policy": "use_if_provided", "on_metric_error": "raise",
        "lock": "thread", "busy": "fail", "record": "calls", "copy_mode": "shallow", "on_overflow": "trim",
        "strict_history_annotation": True,
    }  # fmt: skip
    chat = sessionify(dspy.Predict("question, context -> answer"), **options)
    chat(question="one", context="c")
    chat.save(path)
    loaded = Session.load_from(path, dspy.Predict("question, context -> answer"))
    assert loaded.options == chat.options
    assert loaded.history_input_fields == frozenset()
    assert loaded.exclude_fields == {"context"}
    assert loaded.session_history == chat.session_history
    other = Session.load_from(path, qa(), max_turns=None, lock="none")
    assert other.max_turns is None
    assert other.lock == "none"


def test_a_seed_survives(lm, path):
    seed = dspy.History(messages=[{"question": "s", "answer": "t"}])
    chat = sessionify(qa(), initial_history=seed)
    chat(question="one")
    chat.save(path)
    loaded = Session.load_from(path, qa())
    assert loaded.session_history == chat.session_history
    loaded.reset()
    assert loaded.session_history == seed
    chat(question="two")
    Session.load_from(path, qa())(question="two")
    assert lm.requests[-1] == lm.requests[-2]


@pytest.mark.parametrize(
    "window",
    [windows.turns(2, keep_initial=True), windows.blocks(6, 2), windows.tokens(100), None],
    ids=["turns", "blocks", "tokens", "none"],
)
def test_windows_survive(window, lm, path):
    chat = sessionify(qa(), window=window)
    chat(question="one")
    chat.save(path)
    assert Session.load_from(path, qa()).window == window
    assert Session.load_from(path, qa(), window=windows.turns(9)).window == windows.turns(9)
    assert Session.load_from(path, qa(), max_turns=4).max_turns == 4


def test_a_window_of_the_programs_own_is_given_again(lm, path):
    for window in (lambda view: view.last(1), windows.tokens(10, count=len)):
        chat = sessionify(qa(), window=window)
        chat.save(path)
        assert Session.load_from(path, qa()).window is None
        assert Session.load_from(path, qa(), window=window).window is window


def test_the_seed_of_new_states_survives(lm, path):
    seed = dspy.History(messages=[{"question": "s", "answer": "t"}])
    other = dspy.History(messages=[{"question": "other", "answer": "t"}])
    sessionify(qa(), initial_history=seed, max_turns=5).save(path)
    assert Session.load_from(path, qa()).new_state().initial_history == seed
    loaded = Session.load_from(path, qa(), initial_history=other, window=windows.turns(9))
    assert loaded.session_history == other
    assert loaded.new_state().initial_history == other


def test_calls_extras_and_branches_survive(path):
    from wire import model, search

    with dspy.context(lm=model(), adapter=None):
        chat = sessionify(dspy.ReAct("question -> answer", tools=[search]), record="calls")
        chat(question="one")
        chat(question="two")
        chat.rate(1, 0.25)
        chat.retry()
        chat.save(path)
        loaded = Session.load_from(path, dspy.ReAct("question -> answer", tools=[search]))
    assert loaded.turns == chat.turns
    for ours, theirs in zip(chat.turns, loaded.turns, strict=True):
        assert [(c.path, c.inputs, c.outputs, c.history) for c in ours.calls] == [
            (c.path, c.inputs, c.outputs, c.history) for c in theirs.calls
        ]
    assert [branch.turns for branch in loaded.branches] == [branch.turns for branch in chat.branches]
    assert loaded.branches[0].turns[1].score == 0.25
    assert loaded.save_state() == chat.save_state()


def test_saved_bytes_are_linear(lm, path):
    sizes = {}
    for count in (100, 200, 400):
        chat = sessionify(qa(), max_turns=20)
        for number in range(count):
            chat.add_turn({"question": "q" * 100}, {"answer": f"{number:0100}"})
        chat.save(path)
        sizes[count] = path.stat().st_size
    assert (sizes[400] - sizes[200]) / (sizes[200] - sizes[100]) < 2.2


# ── versions 1 and 2 ─────────────────────────────────────────────────────────────────────────────────────────

VERSION_2 = {
    "version": 2,
    "history_field": "history",
    "max_turns": 1,
    "max_stored_turns": None,
    "copy_mode": "deep",
    "exclude_fields": ["history", "context"],
    "history_input_fields": None,
    "history_policy": "override",
    "turns": [
        {
            "index": 0,
            "inputs": {"question": "one", "context": "c"},
            "outputs": {"answer": "a"},
            "score": None,
        },
        {"index": 1, "inputs": {"question": "two", "context": "c"}, "outputs": {"answer": "b"}, "score": 0.5},
        {
            "index": 2,
            "inputs": {"question": "three", "context": "c"},
            "outputs": {"answer": "c"},
            "score": None,
        },
    ],
    "initial_history": {"messages": [{"question": "seed", "answer": "told"}]},
}
VERSION_1_STATE = {
    "version": 1,
    "turns": [
        {
            "index": 0,
            "inputs": {"question": "one"},
            "outputs": {"answer": "a"},
            "history_snapshot": {"messages": []},
            "score": None,
        },
        {
            "index": 1,
            "inputs": {"question": "two"},
            "outputs": {"answer": "b"},
            "history_snapshot": {"messages": [{"question": "one", "answer": "a"}]},
            "score": 1.0,
        },
    ],
    "initial_history": None,
    "l2_memory": "likes tea",
    "node_states": {
        "plan": {
            "version": 1,
            "turns": [{"index": 0, "inputs": {"question": "one"}, "outputs": {"plan": "p"}}],
            "initial_history": None,
            "l2_memory": "node memory",
            "node_states": {},
        }
    },
}


def test_version_2(lm, path):
    path.write_text(json.dumps(VERSION_2, indent=2))
    chat = Session.load_from(path, dspy.Predict("question, context -> answer"))
    assert [turn.inputs["question"] for turn in chat.turns] == ["one", "two", "three"]
    assert [turn.score for turn in chat.turns] == [None, 0.5, None]
    assert chat.max_turns == 1
    assert chat.exclude_fields == {"context"}
    # The file holds no snapshots: they are rebuilt, and say so.
    assert [turn.exact for turn in chat.turns] == [False] * 3
    assert chat.turns[0].history_snapshot.messages == [{"question": "seed", "answer": "told"}]
    assert chat.turns[2].history_snapshot.messages == [{"question": "two", "answer": "b"}]
    chat(question="four", context="c")
    assert [m["role"] for m in lm.requests[0]] == ["system", "user", "assistant", "user"]
    chat.save(path)
    again = Session.load_from(path, dspy.Predict("question, context -> answer"))
    assert again.turns == chat.turns
    assert [turn.exact for turn in again.turns] == [False] * 3 + [True]


def test_version_1_of_a_session(path):
    old = {k: v for k, v in VERSION_2.items() if k not in ("history_input_fields", "copy_mode")}
    path.write_text(json.dumps({**old, "version": 1, "input_field_override": ["question"]}))
    chat = Session.load_from(path, dspy.Predict("question, context -> answer"))
    assert chat.history_input_fields == {"question"}
    path.write_text(json.dumps({**VERSION_2, "history_input_fields": []}))
    assert Session.load_from(path, qa()).history_input_fields == frozenset()


def test_version_1_of_a_state():
    state = SessionState.from_dict(VERSION_1_STATE)
    assert [turn.outputs for turn in state.turns] == [{"answer": "a"}, {"answer": "b"}]
    assert state.turns[1].score == 1.0
    assert state.turns[1].history_snapshot.messages == [{"question": "one", "answer": "a"}]
    assert state.turns[1].exact
    assert state.l2_memory == "likes tea"
    assert state.node_states["plan"].l2_memory == "node memory"
    assert state.node_states["plan"].turns[0].outputs == {"plan": "p"}
    assert SessionState.from_dict(state.to_dict()) == state


def test_nodes_of_version_1():
    turns = [
        {"index": 0, "inputs": {"question": "one"}, "outputs": {"plan": "p"}},
        {"index": 1, "inputs": {"question": "two"}, "outputs": {"plan": "q"}, "score": 0.5},
    ]
    seed = {"messages": [{"question": "seed", "plan": "told"}]}
    node = {**VERSION_1_STATE["node_states"]["plan"], "turns": turns, "initial_history": seed}
    state = SessionState.from_dict({**VERSION_1_STATE, "node_states": {"plan": node}})
    node = state.node_states["plan"]
    assert node.initial_history.messages == seed["messages"]
    assert [turn.history_snapshot.messages for turn in node.turns] == [
        seed["messages"],
        [*seed["messages"], {"question": "one", "plan": "p"}],
    ]
    assert [turn.score for turn in node.turns] == [None, 0.5]


def test_a_state_of_little():
    state = SessionState.from_dict({"version": 3, "l2_memory": "tea"})
    assert (state.turns, state.initial_history, state.l2_memory) == ([], None, "tea")
    assert state.to_dict()["initial_history"] is None


def test_words_without_a_score_and_what_an_edit_replaces_survive(chat, path):
    chat.rate(0, None, "hm")
    replaced = chat.turns[2].id
    chat.edit_turn(2, outputs={"answer": "edited"})
    chat.save(path)
    loaded = Session.load_from(path, qa())
    assert (loaded.turns[0].score, loaded.turns[0].feedback) == (None, "hm")
    assert [turn.record.replaces for turn in loaded.turns] == [None, None, replaced]


def test_a_file_holds_what_its_description_names(chat):
    def names(kind, wire):
        assert set(wire) <= set(kind.__annotations__), set(wire) - set(kind.__annotations__)

    chat.add_turn({}, {})
    chat.retry(question="again")
    data = chat.state.to_dict()
    names(wire.StateWire, data)
    names(wire.SnapshotsWire, data["snapshots"])
    for turn in (*data["turns"], *data["branches"][0]):
        names(wire.TurnWire, turn)
        assert {"id", "index", "inputs", "outputs"} <= set(turn)


class Colour(enum.Enum):
    RED = "red"


class Point(pydantic.BaseModel):
    x: int
    colour: Colour = Colour.RED


def test_early_values_get_the_types_of_the_signature(path):
    class Typed(dspy.Signature):
        """Answer."""

        point: Point = dspy.InputField()
        day: datetime.date = dspy.InputField()
        colour: Colour = dspy.OutputField()
        price: Decimal = dspy.OutputField()

    turn = {
        "index": 0,
        "inputs": {"point": {"x": 1, "colour": "red"}, "day": "2026-01-02"},
        "outputs": {"colour": "red", "price": "1.50"},
        "score": None,
    }
    path.write_text(json.dumps({**VERSION_2, "turns": [turn], "exclude_fields": ["history"]}))
    chat = Session.load_from(path, dspy.Predict(Typed))
    assert chat.turns[0].inputs == {"point": Point(x=1), "day": datetime.date(2026, 1, 2)}
    assert chat.turns[0].outputs == {"colour": Colour.RED, "price": Decimal("1.50")}


# ── values keep their types ──────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Address:
    street: str
    lines: tuple[int, ...] = ()
    nested: Optional[Address] = None  # noqa: UP045


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    size: int = dataclasses.field(init=False, default=3)


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Aliased(pydantic.BaseModel):
    own_name: str = pydantic.Field(alias="wireName")


TYPED = {
    "pydantic": Point(x=3),
    "aliased": Aliased(wireName="x"),
    "dataclass": Address("Main", (1, 2), Address("Side")),
    "frozen": Frozen("f"),
    "enum": Colour.RED,
    "int enum": Level.LOW,
    "flag": Access.READ,
    "flags": Access.READ | Access.WRITE,
    "no flags": Access(0),
    "bytearray": bytearray(b"ab"),
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
    "date": datetime.date(2026, 1, 2),
    "time": datetime.time(3, 4),
    "timedelta": datetime.timedelta(days=-1, microseconds=3),
    "decimal": Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "path": Path("a/b"),
    "bytes": b"\x00\xff",
    "complex": 1 + 2j,
    "infinity": float("-inf"),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({1}),
    "tuple": (1, (2, [3])),
    "int keys": {1: "a", 2: {3: "b"}},
    "tuple keys": {(1, "x"): [1]},
    "dollar keys": {"$type": "tuple", "items": [1]},
    "image": dspy.Image("https://example.org/a.png"),
    "audio": dspy.Audio(data="AAAA", audio_format="wav"),
    "code": dspy.Code(code="x = 1"),
    "history": dspy.History(messages=[{"a": (1,)}]),
    "tool calls": dspy.ToolCalls(tool_calls=[{"name": "f", "args": {"x": 1}}]),
    "example": dspy.Example(q=(1,), a=2).with_inputs("q"),
    "prediction": dspy.Prediction(answer={1}),
    "nested": {"list": [Point(x=1), {"deep": (Colour.RED,)}]},
    "surrogate": "\ud800",
    "control": "\x00\u2028",
    "huge": 10**40,
}
TYPES = [Point, Aliased, Address, Frozen, Colour, Level, Access]


@pytest.mark.parametrize("name", TYPED)
def test_a_value_comes_back_with_its_type(name, path):
    value = TYPED[name]
    chat = sessionify(qa())
    chat.add_turn({"question": copy.deepcopy(value)}, {"answer": value}, extras={"more": [value]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat.save(path, strict=True)
        loaded = Session.load_from(path, qa(), types=TYPES)
    for back in (
        loaded.turns[0].inputs["question"],
        loaded.turns[0].outputs["answer"],
        loaded.turns[0].extras["more"][0],
        loaded.session_history.messages[0]["answer"],
    ):
        assert type(back) is type(value)
        assert back == value
    assert loaded.save_state() == chat.save_state()


def test_a_subclass_does_not_come_back_as_its_base(path):
    class Stamp(datetime.datetime):
        pass

    class Money(Decimal):
        pass

    values = [Stamp(2026, 1, 2), Money("1.5"), collections.OrderedDict(a=1), range(3)]
    for value in values:
        chat = sessionify(qa())
        chat.add_turn({"question": value}, {"answer": "x"})
        with pytest.raises(SerializationError):
            chat.save(path, strict=True)
        with pytest.warns(UserWarning, match=type(value).__name__):
            chat.save(path)
        back = Session.load_from(path, qa()).turns[0].inputs["question"]
        assert isinstance(back, StandIn)
        assert back.type_name.endswith(type(value).__qualname__)


def test_files_keep_their_types(path, tmp_path):
    if not hasattr(dspy, "File"):
        pytest.skip("this DSPy has no dspy.File")
    (tmp_path / "a.txt").write_text("hello")
    value = dspy.File.from_path(str(tmp_path / "a.txt"))
    chat = sessionify(qa())
    chat.add_turn({"question": value}, {"answer": "x"})
    chat.save(path, strict=True)
    assert Session.load_from(path, qa()).turns[0].inputs["question"] == value


KEYS = st.text(max_size=4) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=4)
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([Colour.RED, Level.LOW, Point(x=1), Frozen("x")])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(st.integers() | st.text(max_size=3), max_size=3)
        | st.builds(lambda x: dspy.Example(x=x), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(inputs=st.dictionaries(st.text(max_size=5), VALUES, max_size=3), output=VALUES)
def test_every_combination_comes_back(inputs, output):
    state = SessionState()
    chat = sessionify(qa())
    with chat.use_state(state):
        chat.add_turn(inputs, {"answer": output})
    text = json.dumps(state.to_dict(), allow_nan=False)
    back = SessionState.from_dict(json.loads(text), types=TYPES)
    assert back.turns[0].inputs == inputs
    assert back.turns[0].outputs == {"answer": output}
    assert type(back.turns[0].outputs["answer"]) is type(output)
    assert json.dumps(back.to_dict()) == text


def test_the_signatures_types_need_not_be_named(path):
    class Typed(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        points: list[Point] = dspy.OutputField()
        colour: Optional[Colour] = dspy.OutputField()  # noqa: UP045

    chat = sessionify(dspy.Predict(Typed))
    chat.add_turn({"question": "x"}, {"points": [Point(x=1)], "colour": Colour.RED})
    chat.save(path)
    loaded = Session.load_from(path, dspy.Predict(Typed))
    assert loaded.turns == chat.turns


def test_the_types_of_forward_need_not_be_named(path):
    class Program(dspy.Module):
        def forward(self, point: Point, address: Optional[Address] = None) -> Colour:  # noqa: UP045
            return Colour.RED

    chat = sessionify(Program())
    chat(point=Point(x=2), address=Address("Main"))
    chat.save(path)
    assert Session.load_from(path, Program()).turns == chat.turns


def test_a_class_that_nobody_named_is_not_imported(path, tmp_path, monkeypatch):
    chat = sessionify(qa())
    chat.add_turn({"question": Point(x=3)}, {"answer": Colour.RED})
    chat.save(path)
    data = json.loads(path.read_text())
    data["turns"][0]["inputs"]["question"]["class"] = "evil_module:Point"
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match="types="):
        loaded = Session.load_from(path, qa())
    assert "evil_module" not in sys.modules
    stand_in = loaded.turns[0].inputs["question"]
    assert isinstance(stand_in, StandIn)
    assert stand_in.type_name == "evil_module:Point"
    # The data is not lost: a program that knows the class gets it from the next file.
    data["turns"][0]["inputs"]["question"]["class"] = f"{__name__}:Point"
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match="types="):
        Session.load_from(path, qa()).save(path)
    again = Session.load_from(path, qa(), types=[Point, Colour])
    assert again.turns[0].inputs["question"] == Point(x=3)
    assert again.turns[0].outputs["answer"] is Colour.RED


class Opaque:
    def __str__(self):
        return "an opaque thing"


def test_a_class_that_has_changed_since_does_not_cost_the_conversation(path):
    chat = sessionify(qa())
    chat.add_turn({"question": Point(x=3)}, {"answer": [Colour.RED, Address("Main")]})
    chat.save(path)
    data = path.read_text()
    for old, new in (('"x": 3', '"z": 3'), ('"name": "RED"', '"name": "GREEN"'), ('"street"', '"road"')):
        assert old in data
        path.write_text(data.replace(old, new))
        with pytest.warns(UserWarning, match="no longer takes"):
            loaded = Session.load_from(path, qa(), types=TYPES)
        values = [loaded.turns[0].inputs["question"], *loaded.turns[0].outputs["answer"]]
        assert any(isinstance(value, StandIn) for value in values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded.save(path)
            # Nothing is lost for the program that the values fit.
            path.write_text(path.read_text().replace(new, old))
            assert Session.load_from(path, qa(), types=TYPES).turns[0].inputs == chat.turns[0].inputs
            assert Session.load_from(path, qa(), types=TYPES).turns[0].outputs == chat.turns[0].outputs


def test_what_cannot_keep_its_type_becomes_a_stand_in(path):
    chat = sessionify(qa())
    chat.add_turn({"question": "x"}, {"answer": [Opaque()]})
    path.write_text("old")
    with pytest.raises(SerializationError, match=r"turn 0, outputs, field 'answer'.*Opaque"):
        chat.save(path, strict=True)
    assert path.read_text() == "old"
    with pytest.warns(UserWarning, match="Opaque"):
        chat.save(path)
    loaded = Session.load_from(path, qa())
    value = loaded.turns[0].outputs["answer"][0]
    assert value == "an opaque thing"
    assert value.type_name.endswith(":Opaque")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.save(path)
        assert Session.load_from(path, qa()).turns == loaded.turns


def test_a_value_that_contains_itself(path):
    endless = []
    endless.append(endless)
    chat = sessionify(qa())
    chat.add_turn({"question": "x"}, {"answer": endless})
    with pytest.raises(SerializationError, match="turn 0"):
        chat.save(path)
    assert not path.exists()


def test_to_dict_is_always_json():
    state = SessionState()
    chat = sessionify(qa())
    with chat.use_state(state), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in [*TYPED.values(), Opaque(), float("nan"), threading.Lock(), print, Point, object]:
            chat.add_turn({"question": value}, {"answer": value})
        json.dumps(state.to_dict(), allow_nan=False)


# ── atomic ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_write_leaves_the_old_file_whole(chat, path, monkeypatch):
    chat.save(path)
    before = path.read_bytes()
    chat(question="four")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        chat.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_writer_leaves_the_old_file_whole(chat, path):
    chat.save(path)
    code = (
        "import os, sys, dspy\n"
        "from dspy_session import Session\n"
        f"chat = Session.load_from({str(path)!r}, dspy.Predict('question -> answer'))\n"
        "chat.add_turn({'question': 'q' * 100_000}, {'answer': 'a'})\n"
        "os.replace = lambda *a: os._exit(9)\n"
        f"chat.save({str(path)!r})\n"
    )
    before = path.read_bytes()
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 9
    assert path.read_bytes() == before
    assert len(Session.load_from(path, qa())) == 3


def test_links_and_modes_are_kept(chat, tmp_path):
    target, link = tmp_path / "real.json", tmp_path / "link.json"
    chat.save(target)
    os.chmod(target, 0o640)
    link.symlink_to(target)
    chat.save(link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_missing_folder_is_the_systems_error(chat, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        chat.save(tmp_path / "nowhere" / "chat.json")
    with pytest.raises(FileNotFoundError):
        Session.load_from(tmp_path / "nothing.json", qa())


# ── damaged, foreign, newer ──────────────────────────────────────────────────────────────────────────────────

DAMAGES = {
    "empty": "",
    "cut": '{"version": 3, "turns": [',
    "text": "hello",
    "list": "[]",
    "number": "3",
    "binary": "\x00\x01\x02",
    "foreign": '{"name": "package", "version": "1.0.0"}',
    "foreign with a number": '{"version": 1, "settings": {}}',
    "no turns": '{"version": 3, "kind": "dspy-session conversation"}',
    "turns of another kind": '{"version": 3, "turns": {"a": 1}}',
    "a turn of another kind": '{"version": 3, "turns": [3]}',
    "a turn of another kind in version 2": '{"version": 2, "turns": [3]}',
    "a turn without index": '{"version": 3, "turns": [{"inputs": {}}]}',
    "an index of another kind": '{"version": 3, "turns": [{"index": "0", "inputs": {}}]}',
    "inputs of another kind": '{"version": 3, "turns": [{"index": 0, "inputs": [1]}]}',
    "early inputs of another kind": '{"version": 2, "turns": [{"index": 0, "inputs": [1]}]}',
    "an early history of another kind": '{"version": 2, "turns": [], "initial_history": [1]}',
    "a gap": '{"version": 3, "turns": [{"index": 0}, {"index": 5}]}',
    "unknown tag": '{"version": 3, "turns": [{"index": 0, "inputs": {"a": {"$type": "pickle"}}}]}',
    "tag of another kind": '{"version": 3, "turns": [{"index": 0, "inputs": {"a": {"$type": []}}}]}',
    "bad date": '{"version": 3, "turns": [{"index": 0, "inputs": {"a": {"$type": "date", "iso": "x"}}}]}',
    "snapshot of nothing": '{"version": 3, "turns": [{"index": 0, "snapshot": {"head": 4}}]}',
    "snapshot of the future": '{"version": 3, "turns": [{"index": 0, "snapshot": '
    '{"projection": 0, "runs": [[0, 0, 9]]}}], "snapshots": {"projections": [{"exclude": []}]}}',
    "bad option": '{"version": 3, "turns": [], "max_turns": -4}',
    "bad policy": '{"version": 2, "turns": [], "history_policy": "whatever"}',
    "unknown window": '{"version": 3, "turns": [], "window": {"policy": "eval", "code": "1"}}',
    "window of another kind": '{"version": 3, "turns": [], "window": 3}',
    "bad window": '{"version": 3, "turns": [], "window": {"policy": "turns", "count": 0}}',
    "option of another kind": '{"version": 3, "turns": [], "exclude_fields": 3}',
    "version of another kind": '{"version": "3", "turns": []}',
    "bad score": '{"version": 3, "turns": [{"index": 0, "score": "good"}]}',
    "bad early score": '{"version": 2, "turns": [{"index": 0, "score": "good"}]}',
    "node states of another kind": '{"version": 3, "turns": [], "node_states": [1]}',
    "memory of another kind": '{"version": 3, "turns": [], "l2_memory": 3}',
    "deep": '{"version": 3, "turns": [{"index": 0, "inputs": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}}]}",
    "usage of another kind": '{"version": 3, "turns": [{"index": 0, "usage": {"x": 1}}]}',
    "created of another kind": '{"version": 3, "turns": [{"index": 0, "created": "yesterday"}]}',
    "id of another kind": '{"version": 3, "turns": [{"index": 0, "id": [1]}]}',
    "branches of another kind": '{"version": 3, "turns": [], "branches": 3}',
    "calls of another kind": '{"version": 3, "turns": [{"index": 0, "calls": [3]}]}',
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_our_error(name, path):
    path.write_text(DAMAGES[name])
    with pytest.raises(FormatError) as caught:
        Session.load_from(path, qa())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"index": 0, "usage": {"prompt_tokens": "many"}}, "turn 0: usage holds a str"),
        ({"index": 0, "usage": {"prompt_tokens": True}}, "turn 0: usage holds a bool"),
        ({"index": 0, "model": 5}, "turn 0: model is a int"),
        ({"index": 0, "exact": 1}, "turn 0: exact is a int"),
        ({"index": 0, "inputs": [1]}, "turn 0: expected an object"),
        ({"index": 0, "calls": [{"seconds": "long"}]}, "call: seconds is a str"),
        ({"index": 0, "calls": [{"path": 5}]}, "call: path is a int"),
    ],
)
def test_damage_in_a_turn_names_it(turn, words):
    with pytest.raises(FormatError, match=words):
        SessionState.from_dict({"version": 3, "turns": [turn]})


def test_a_newer_state_is_called_one():
    with pytest.raises(UnsupportedVersionError, match="session state version: 99"):
        SessionState.from_dict({"version": 99, "turns": []})


@pytest.mark.parametrize("version", [4, 99])
def test_a_newer_file_is_refused(version, path):
    path.write_text(json.dumps({"version": version, "turns": []}))
    with pytest.raises(UnsupportedVersionError, match=f"(?s){version}.*newer"):
        Session.load_from(path, qa())
    with pytest.raises(ValueError, match=r"[Uu]nsupported"):
        SessionState.from_dict({"version": version, "turns": []})


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_is_changed_in_a_file_is_read_or_refused(data):
    chat = sessionify(qa(), initial_history=dspy.History(messages=[{"question": "s", "answer": "t"}]))
    for number in range(3):
        chat.add_turn({"question": f"q{number}"}, {"answer": (1, {2})})
    chat.rate(0, 0.5)
    chat.edit_turn(1, outputs={"answer": "e"})
    wire = json.loads(json.dumps(chat.save_state()))
    places = []

    def walk(node):
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(wire)
    node, key = data.draw(st.sampled_from(places), label="place")
    node[key] = data.draw(
        st.sampled_from([None, 3, -1, 10**9, "x", [], {}, [1], {"a": 1}, True, 0.5]), label="instead"
    )
    target = sessionify(qa())
    target.add_turn({"question": "own"}, {"answer": "a"})
    before = target.save_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.load_conversation(wire)
    except DspySessionError:
        assert target.save_state() == before
        return
    # What was read must be usable.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in target.turns:
            repr(turn)
            turn._repr_html_()
            hash(turn)
        json.dumps(target.save_state(), allow_nan=False)
        target.to_examples()
        with dspy.context(lm=ScriptedLM(), adapter=None):
            target(question="goes on")


# ── weights and programs ─────────────────────────────────────────────────────────────────────────────────────


def test_weights_are_the_bare_programs(chat, tmp_path):
    demo = {"question": "d", "answer": "e"}
    chat.module.demos = [demo]
    for suffix in (".json", ".pkl"):
        path = tmp_path / f"weights{suffix}"
        chat.save_weights(path)
        bare, other = qa(), sessionify(qa())
        options = {"allow_pickle": True} if suffix == ".pkl" else {}
        bare.load(path, **options)
        other.load(path, **options)
        assert [dict(d) for d in bare.demos] == [dict(d) for d in other.module.demos] == [demo]
        bare.save(path)
        other.load(path, **options)
        assert bare.dump_state() == other.dump_state()
    assert list(bare.signature.fields) == ["question", "answer"]


def test_kinds_of_file_are_told_apart(chat, tmp_path):
    conversation, weights = tmp_path / "conversation.json", tmp_path / "weights.json"
    chat.save(conversation)
    chat.save_weights(weights)
    with pytest.raises(FormatError, match="load_from"):
        chat.load(conversation)
    with pytest.raises(FormatError, match=r"session\.load\(path\)"):
        Session.load_from(weights, qa())
    with pytest.raises(FormatError, match="save_weights"):
        chat.save(tmp_path / "chat.pkl")
    chat.load(weights)
    assert len(chat) == 3


def test_saving_the_conversation_of_a_compiled_session_says_that_weights_are_not_in_it(chat, path):
    chat.module.demos = [{"question": "d", "answer": "e"}]
    with pytest.warns(UserWarning, match="save_weights"):
        chat.save(path)


def test_the_whole_program_without_live_turns(chat, tmp_path):
    with warnings.catch_warnings():
        # DSPy warns that loading a program unpickles it.
        warnings.simplefilter("ignore")
        chat.save(tmp_path / "program", save_program=True)
        loaded = dspy.load(str(tmp_path / "program"), allow_pickle=True)
    assert isinstance(loaded, Session)
    assert len(loaded) == 0
    assert len(chat) == 3
    loaded(question="one")
    loaded(question="two")
    assert len(loaded) == 2


def test_while_compiling_save_writes_weights(chat, tmp_path):
    context = pytest.importorskip("dspy.utils.callback_context")
    if not hasattr(context, "_ACTIVE_COMPILES"):
        pytest.skip("this DSPy does not say that it compiles")
    target = tmp_path / "candidate.json"

    class Saving(dspy.LabeledFewShot):
        def compile(self, student, *, trainset, **options):
            compiled = super().compile(student, trainset=trainset)
            compiled.save(target)
            return compiled

    Saving(k=1).compile(chat, trainset=chat.to_examples())
    bare = qa()
    bare.load(target)
    assert len(bare.demos) == 1


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_states_go_to_files_too(chat, path):
    state = chat.state
    state.l2_memory = "likes tea"
    state.node("plan").l2_memory = "node"
    state.save(path)
    loaded = SessionState.load_from(path)
    assert loaded == state
    assert loaded.conversation_id == state.conversation_id
    assert state != state.fork() or state == state.fork()
    with pytest.raises(TypeError):
        hash(state)
    path.write_text("[]")
    with pytest.raises(FormatError):
        SessionState.load_from(path)


def test_a_state_checks_what_it_is_given():
    for wrong in ({"turns": [{"index": 0}]}, {"l2_memory": 3}):
        with pytest.raises(ConfigurationError):
            SessionState(**wrong)
    with pytest.raises(TypeError):
        SessionState(initial_history=[])


class Part(pydantic.BaseModel):
    name: str


class Parts(dspy.Signature):
    question: str = dspy.InputField()
    parts: list[Part] = dspy.OutputField()


@pytest.mark.parametrize("version", [1, 2])
def test_turns_of_an_early_file_get_their_types_at_every_node(version, path):
    turn = {"inputs": {"question": "q"}, "outputs": {"parts": [{"name": "bolt"}]}, "index": 0}
    state = {"version": version, "turns": [turn], "initial_history": None, "l2_memory": ""}
    path.write_text(json.dumps({**state, "node_states": {"predict": {**state, "node_states": {}}}}))
    session = Session.load_from(path, dspy.ChainOfThought(Parts))
    for found in (session.state, session.state.node_states["predict"]):
        assert found.turns[0].outputs["parts"] == [Part(name="bolt")]
