"""What running code may ask about the conversation, and what it is told."""

from __future__ import annotations

import dspy
import pytest

import dspy_session
from dspy_session import (
    get_child_l1_ledger,
    get_current_history,
    get_execution_trace,
    get_node_memory,
    get_outer_history,
    register_helpers,
    sessionify,
    with_memory,
)
from dspy_session.errors import UnknownPathError
from tests.memory.programs import Agent, contents


class Asking(Agent):
    """Asks between its predictors, and inside one."""

    def __init__(self, ask):
        super().__init__()
        self.ask = ask
        self.inner = dspy.Predict("question -> note")

    def forward(self, question):
        self.ask("before")
        plan = self.planner(question=question).plan
        self.ask("between")
        return self.writer(question=question, plan=plan)


def test_outside_of_a_call_there_is_nothing(lm):
    assert get_current_history() is None
    assert get_outer_history() is None
    assert (get_node_memory(), get_child_l1_ledger("planner"), get_execution_trace()) == ("", "", "")


def test_ledgers_show_what_is_staged(lm):
    told = []
    app = with_memory(
        Asking(lambda when: told.append((when, get_child_l1_ledger("planner"), get_child_l1_ledger(""))))
    )
    app(question="one")
    app(question="two")
    counts = [(when, node.count("- turn"), root.count("- turn")) for when, node, root in told]
    assert counts == [("before", 0, 0), ("between", 1, 0), ("before", 1, 1), ("between", 2, 1)]
    assert told[1][1] == '- turn: 0\n  inputs: {"question": "one"}\n  outputs: {"plan": "plan 1"}'


@pytest.mark.parametrize("root", ["", "root", "."])
def test_names_of_the_root(lm, root):
    told = []
    app = with_memory(Asking(lambda when: told.append(get_child_l1_ledger(root))))
    app(question="one")
    app(question="two")
    assert '"one"' in told[-1]


@pytest.mark.parametrize("path", ["plan", "writer.predict", "root.planner", "Planner"])
def test_a_wrong_path_is_a_clear_error(lm, path):
    app = with_memory(Asking(lambda when: get_child_l1_ledger(path)))
    with pytest.raises(UnknownPathError, match="planner, writer, inner"):
        app(question="one")
    assert len(app.turns) == 0


def test_the_trace_names_nodes_and_the_stack(lm):
    told = []
    app = with_memory(Asking(lambda when: told.append(get_execution_trace())))
    app(question="one")
    lines = told[-1].splitlines()
    assert lines == ["root: turns=0 l2_chars=0", "planner: turns=1 l2_chars=0", "active_stack=root"]


class Looking(dspy.Predict):
    """A predictor that looks around."""

    def forward(self, **kwargs):
        self.seen.append((get_current_history(), get_outer_history(), get_execution_trace().splitlines()[-1]))
        return super().forward(**kwargs)


def looking(signature):
    predictor = Looking(signature)
    predictor.seen = []
    return predictor


def test_histories_inside_a_node(lm):
    program = Agent()
    program.planner = looking("question -> plan")
    app = with_memory(program)
    app(question="one")
    app(question="two")
    current, outer, stack = program.planner.seen[1]
    assert current.messages == [{"question": "one", "plan": "plan 1"}]
    assert outer.messages == [{"question": "one", "answer": "answer 2"}]
    assert stack == "active_stack=root > planner"


def test_the_outer_history_is_the_enclosing_sessions(lm):
    class Inner(dspy.Module):
        def __init__(self):
            super().__init__()
            self.step = dspy.Predict("question -> note")

        def forward(self, question):
            told.append((get_current_history(), get_outer_history()))
            return self.step(question=f"inner {question}")

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.part = sessionify(Inner())
            self.write = dspy.Predict("question, note -> answer")

        def forward(self, question):
            return self.write(question=question, note=self.part(question=question).note)

    told = []
    app = with_memory(Outer())
    app(question="one")
    app(question="two")
    current, outer = told[1]
    assert current.messages == [{"question": "one", "note": "note 1"}]
    assert outer.messages == [{"question": "one", "answer": "answer 2"}]


def test_they_work_in_the_threads_of_parallel(lm):
    class Tool(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(found=get_child_l1_ledger("planner"))

    class Wide(Agent):
        def __init__(self):
            super().__init__()
            self.tool = Tool()

        def forward(self, question):
            prediction = super().forward(question)
            pairs = [(self.tool, dspy.Example(question="q").with_inputs("question"))] * 3
            found.extend(p.found for p in dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs))
            return prediction

    found: list[str] = []
    with_memory(Wide())(question="one")
    assert len(found) == 3
    assert all('"plan": "plan 1"' in text for text in found)


def test_helpers_of_a_template_adapter(lm):
    template = pytest.importorskip("dspy_template_adapter", reason="dspy-template-adapter is not installed")
    adapter = template.TemplateAdapter(
        messages=[
            {
                "role": "system",
                "content": "OUTER {outer_history()} MEMORY {node_memory()} LEDGER {child_l1_ledger(path='planner')} "
                "CURRENT {current_history()} TRACE {execution_trace()}",
            },
            {"role": "user", "content": "{question}"},
        ],
        parse_mode="full_text",
    )
    register_helpers(adapter)

    class Mixed(Agent):
        def forward(self, question):
            plan = self.planner(question=question).plan
            with dspy.context(adapter=adapter):
                return self.inner(question=plan)

        def __init__(self):
            super().__init__()
            self.inner = dspy.Predict("question -> note")

    keep = {"lifespan": "episodic", "consolidator": lambda **_: "what was learnt"}
    app = with_memory(Mixed(), child_configs={"inner": keep})
    app(question="one")
    app(question="two")
    system = lm.requests[3][0]["content"]
    assert "MEMORY what was learnt" in system
    assert '"plan": "plan 1"' in system
    assert '"plan": "plan 3"' in system
    assert "question: one" in system.split("MEMORY")[0]
    assert "active_stack=root > inner" in system


def test_every_helper_is_public():
    assert {"get_current_history", "register_helpers"} <= set(dspy_session.__all__)
    assert contents([]) == []
