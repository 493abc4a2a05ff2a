"""What every node is shown, after any calls, failures, undos, forks, resets and saves, against a simple model."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field

import dspy
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspy_session import SessionState, with_memory
from dspy_session.testing.lm import ScriptedLM
from tests.memory.programs import fields, past, wanted

NODES = ("alpha", "beta", "gamma", "delta")
CONFIGS = {
    "persistent": {},
    "episodic": {"lifespan": "episodic"},
    "stateless": {"lifespan": "stateless"},
    "shared": {"isolation": "shared"},
    "disabled": {"enabled": False},
}


class Program(dspy.Module):
    """Calls its first two nodes twice each, all others once; the last one answers."""

    def __init__(self) -> None:
        super().__init__()
        for name in NODES:
            setattr(self, name, dspy.Predict(f"question -> {name}_out"))

    def forward(self, question):
        for name in (*NODES[:2], *NODES):
            prediction = getattr(self, name)(question=question)
        if question.startswith("fail"):
            raise ZeroDivisionError
        return dspy.Prediction(answer=prediction.delta_out)


@dataclass
class Node:
    """What a node has: its calls, its memory, and episodes that wait."""

    calls: list = field(default_factory=list)
    memory: str = ""
    waiting: list = field(default_factory=list)


@dataclass
class User:
    """One user: the conversation, what each node has, and what there was before each turn."""

    turns: list = field(default_factory=list)
    nodes: dict = field(default_factory=lambda: {name: Node() for name in NODES})
    before: list = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    @initialize(policies=st.tuples(*(st.sampled_from(sorted(CONFIGS)) for _ in NODES)))
    def begin(self, policies):
        self.policies = dict(zip(NODES, policies, strict=True))
        self.lm = ScriptedLM()
        self.broken = False
        configs = {
            name: {**CONFIGS[policy], **({"consolidator": self.consolidate} if policy == "episodic" else {})}
            for name, policy in self.policies.items()
        }
        with dspy.context(lm=self.lm, adapter=None):
            self.app = with_memory(Program(), child_configs=configs, unbound="error")
        self.states = [self.app.new_state()]
        self.users = [User()]
        self.number = 0

    def consolidate(self, past_memory, episode_transcript):
        if self.broken:
            raise ConnectionError
        questions = [
            json.loads(line[10:])["question"] for line in episode_transcript.splitlines() if "inputs" in line
        ]
        return f"{past_memory}+{','.join(questions)}"

    # ── what the model of it all says ────────────────────────────────────────────────────────────────────

    def expected(self, user, name, calls):
        """The messages that a node is shown: of the conversation, of its own, or none."""
        policy, node = self.policies[name], user.nodes[name]
        if policy == "shared":
            return [
                m for question, answer in user.turns for m in ({"question": question}, {"answer": answer})
            ]
        own = {"persistent": node.calls + calls, "episodic": calls}.get(policy, [])
        memory = [{"long_term_memory": node.memory}] if policy == "episodic" and node.memory else []
        return memory + [m for question, out in own for m in ({"question": question}, {f"{name}_out": out})]

    def check(self, user, question):
        """Compare the requests of one call with the model, and give what each node has answered."""
        calls: dict[str, list] = {name: [] for name in NODES}
        for request in self.lm.requests:
            name = next(name for name in NODES if wanted(request, f"{name}_out"))
            assert [fields(text) for text in past(request)] == self.expected(user, name, calls[name])
            calls[name].append((question, f"{name}_out {self.lm.requests.index(request) + 1}"))
        assert sum(map(len, calls.values())) == len(NODES) + 2
        return calls

    def committed(self, user, question, calls):
        user.before.append((list(user.turns), copy.deepcopy(user.nodes)))
        user.turns.append((question, calls["delta"][-1][1]))
        for name, policy in self.policies.items():
            node = user.nodes[name]
            if policy == "persistent":
                node.calls += calls[name]
            elif policy == "episodic":
                node.waiting += calls[name]
                if not self.broken:
                    node.memory += "+" + ",".join(question for question, _ in node.waiting)
                    node.waiting = []

    # ── what may happen ──────────────────────────────────────────────────────────────────────────────────

    def call(self, which, question, style, **kwargs):
        with dspy.context(lm=self.lm, adapter=None, trace=[]):
            self.lm.requests.clear()
            if style == "bind":
                return self.app.bind(self.states[which])(question=question, **kwargs)
            with self.app.use_state(self.states[which]):
                if style == "async":
                    return asyncio.run(self.app.acall(question=question, **kwargs))
                return self.app(question=question, **kwargs)

    def pick(self, number):
        return number % len(self.users)

    @rule(number=st.integers(0, 9), style=st.sampled_from(["sync", "async", "bind"]))
    def turn(self, number, style):
        which, self.number = self.pick(number), self.number + 1
        question = f"question {self.number} of {which}"
        self.call(which, question, style)
        calls = self.check(self.users[which], question)
        self.committed(self.users[which], question, calls)

    @rule(number=st.integers(0, 9), style=st.sampled_from(["sync", "bind"]))
    def failure(self, number, style):
        which, self.number = self.pick(number), self.number + 1
        question = f"fail {self.number}"
        with pytest.raises(ZeroDivisionError):
            self.call(which, question, style)
        self.check(self.users[which], question)

    @rule(number=st.integers(0, 9), place=st.integers(0, 9))
    def replay(self, number, place):
        which = self.pick(number)
        turns = self.states[which].turns
        if turns:
            turn = turns[place % len(turns)]
            self.call(which, turn.inputs["question"], "sync", history=turn.history_snapshot)
            then = User(*copy.deepcopy(self.users[which].before[turn.index]))
            self.check(then, turn.inputs["question"])

    @rule(number=st.integers(0, 9), steps=st.integers(1, 3))
    def undo(self, number, steps):
        which = self.pick(number)
        removed = self.states[which].undo(steps)
        user = self.users[which]
        assert len(removed) == min(steps, len(user.turns))
        for _ in removed:
            user.turns, user.nodes = user.before.pop()

    @precondition(lambda self: len(self.users) < 4)
    @rule(number=st.integers(0, 9))
    def fork(self, number):
        which = self.pick(number)
        self.states.append(self.states[which].fork())
        self.users.append(copy.deepcopy(self.users[which]))

    @rule(number=st.integers(0, 9))
    def reset(self, number):
        which = self.pick(number)
        self.states[which].reset()
        memories = {name: Node(memory=node.memory) for name, node in self.users[which].nodes.items()}
        self.users[which] = User(nodes=memories)

    @rule(number=st.integers(0, 9))
    def save_and_load(self, number):
        which = self.pick(number)
        data = json.loads(json.dumps(self.states[which].to_dict()))
        self.states[which] = SessionState.from_dict(data)

    @rule()
    def consolidator_breaks_or_is_repaired(self):
        self.broken = not self.broken

    @invariant()
    def states_hold_what_the_model_holds(self):
        for state, user in zip(getattr(self, "states", ()), getattr(self, "users", ()), strict=True):
            assert [(t.inputs["question"], t.outputs["answer"]) for t in state.turns] == user.turns
            for name, node in user.nodes.items():
                held = state.node_states.get(name) or SessionState()
                assert [(t.inputs["question"], t.outputs[f"{name}_out"]) for t in held.turns] == node.calls
                assert held.l2_memory == node.memory
                assert [c.exchange.inputs["question"] for e in held.pending for c in e.records] == [
                    question for question, _ in node.waiting
                ]
        if hasattr(self, "app"):
            assert len(self.app.own_state) == 0


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=18, deadline=None)
TestMachine = Machine.TestCase
