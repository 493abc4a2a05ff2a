"""Parts that are sessions themselves, wherever they hang, keep one ledger for each user."""

from __future__ import annotations

import copy
from typing import Any

import dspy
import pytest

from dspy_session import sessionify, with_memory
from tests.memory.programs import of_node, past, shown


def part(output="note", **options):
    return sessionify(dspy.Predict(f"question -> {output}"), **options)


class Holder(dspy.Module):
    """Holds sessions in every kind of place, one of them not seen when the app is made."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = part()
        self.listed = [part(), part()]
        self.named = {"a": part(), "b": [part()]}
        self._private = part()
        self.nested = dspy.Module()
        self.nested.deep = part()
        self.best = dspy.BestOfN(part(), N=2, reward_fn=lambda args, pred: 0.0, threshold=1.0)
        self.tuple = (part(),)

    def all(self) -> dict[str, Any]:
        return {
            "plain": self.plain, "listed[0]": self.listed[0], "listed[1]": self.listed[1],
            "named['a']": self.named["a"], "named['b'][0]": self.named["b"][0], "_private": self._private,
            "nested.deep": self.nested.deep, "best.module": self.best, "tuple[0]": self.tuple[0],
            **({"late": self.late} if hasattr(self, "late") else {}),
        }  # fmt: skip

    def forward(self, question):
        return [each(question=question) for each in self.all().values()][-1]


def test_every_part_has_one_ledger_for_each_user(lm):
    app = with_memory(Holder(), unbound="error")
    app.module.late = part()
    states = {name: app.new_state() for name in ("alice", "bob")}
    for round_ in range(2):
        for name, state in states.items():
            with app.use_state(state):
                app(question=f"{name} {round_}")
    for name, state in states.items():
        assert sorted(state.node_states) == sorted(app.module.all())
        for path, node in state.node_states.items():
            assert [turn.inputs["question"] for turn in node.turns] == [f"{name} 0", f"{name} 1"], path
    owners = [
        app.module.best.module if path == "best.module" else each for path, each in app.module.all().items()
    ]
    assert [len(owner.own_state) for owner in owners] == [0] * len(owners)
    for request in lm.requests:
        assert not ("alice" in str(request) and "bob" in str(request))


def test_each_attempt_sees_the_parts_past_and_one_counts(lm):
    app = with_memory(Holder())
    app(question="one")
    first = len(lm.requests)
    app(question="two")
    assert all(len(past(request)) == 2 for request in lm.requests[first:])
    assert len(app.state.node_states["best.module"]) == 2
    app.undo()
    assert {len(node) for node in app.state.node_states.values()} == {1}


def test_parts_inherit_if_so_wanted(lm):
    class Pair(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = part()
            self.write = dspy.Predict("question, note -> answer")

        def forward(self, question):
            return self.write(question=question, note=self.part(question=question).note)

    for options in ({"nested_sessions": "inherit"}, {"child_configs": {"part": {"isolation": "shared"}}}):
        lm.requests.clear()
        app = with_memory(Pair(), **options)
        app(question="one")
        app(question="two")
        assert shown(of_node(lm, "note")[1]) == [{"question": "one"}, {"answer": "answer 2"}]
        assert "part" not in app.state.node_states or len(app.state.node_states["part"]) == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [0, 2, 4]),
        ({"max_turns": 1}, [0, 2, 2]),
        ({"lifespan": "stateless"}, [0, 0, 0]),
        ({"lifespan": "episodic"}, [0, 0, 0]),
        ({"enabled": False}, [0, 0, 0]),
    ],
)
def test_policies_of_a_part_that_is_a_session(lm, config, expected):
    class Single(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = part()

        def forward(self, question):
            return self.part(question=question)

    app = with_memory(Single(), child_configs={"part": config})
    for question in "abc":
        app(question=question)
    assert [len(past(request)) for request in lm.requests] == expected


def test_a_part_brings_its_past_into_the_session_that_holds_it_alone(lm):
    class Single(dspy.Module):
        def __init__(self, inner):
            super().__init__()
            self.part = inner

        def forward(self, question):
            return self.part(question=question)

    inner = part()
    inner(question="before")
    app = with_memory(Single(inner))
    app(question="own")
    assert len(past(lm.requests[-1])) == 2
    app.undo()
    app(question="own again")
    assert len(past(lm.requests[-1])) == 2
    with app.use_state(app.new_state()):
        app(question="user")
    assert past(lm.requests[-1]) == []
    assert len(inner.turns) == 1


def test_a_part_called_outside_the_app_keeps_its_own(lm):
    holder = Holder()
    app = with_memory(holder)
    app(question="inside")
    holder.plain(question="outside")
    assert [turn.inputs["question"] for turn in holder.plain.turns] == ["outside"]
    assert "inside" not in str(lm.requests[-1])


def test_a_part_in_two_programs_is_two_parts(lm):
    shared = part()

    class Single(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = shared

        def forward(self, question):
            return self.part(question=question)

    first, second = with_memory(Single()), with_memory(Single())
    first(question="apples")
    second(question="pears")
    first(question="plums")
    assert "apples" not in str(lm.requests[1])
    assert "pears" not in str(lm.requests[2])
    assert len(past(lm.requests[2])) == 2


def test_a_copy_of_a_part_made_inside_the_program_is_the_part(lm):
    class Copying(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = part()

        def forward(self, question):
            return copy.deepcopy(self.part)(question=question)

    app = with_memory(Copying(), unbound="error")
    for name in ("alice", "bob"):
        with app.use_state(app.new_state()):
            app(question=name)
    assert "alice" not in str(lm.requests[1])


def test_a_failing_turn_takes_its_parts_back(lm):
    class Failing(Holder):
        def forward(self, question):
            super().forward(question)
            raise RuntimeError("late")

    app = with_memory(Failing())
    with pytest.raises(RuntimeError):
        app(question="q")
    assert app.state.node_states == {}


def test_callbacks_of_parts_are_called_when_the_turn_is_recorded(lm):
    told = []

    class Single(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = part(on_turn=lambda session, turn: told.append(("part", len(app.turns))))

        def forward(self, question):
            return self.part(question=question)

    app = with_memory(Single(), on_turn=lambda session, turn: told.append(("root", len(app.turns))))
    app(question="q")
    assert told == [("part", 1), ("root", 1)]
