"""Uses the whole public API. Type checkers read it; nothing runs it.

A test beside it checks that no public name is missing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dspy

import dspy_session
from dspy_session import (
    Call,
    Session,
    SessionState,
    StandIn,
    Turn,
    Usage,
    errors,
    get_child_l1_ledger,
    get_current_history,
    get_execution_trace,
    get_node_memory,
    get_outer_history,
    kfold_examples,
    opencode,
    register_helpers,
    server,
    sessionify,
    split_examples,
    stores,
    windows,
    with_memory,
)
from dspy_session.history import HistoryView
from dspy_session.integrations import mlflow
from dspy_session.opencode.analytics.warehouse import Warehouse
from dspy_session.testing.lm import ScriptedLM


def metric(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(example.answer == prediction.answer)


def told(session: Session, turn: Turn) -> None:
    print(session, turn.id)


def making(program: dspy.Module, history: dspy.History) -> Session:
    everything = Session(
        program,
        history_field="history",
        max_turns=None,
        max_stored_turns=1_000,
        exclude_fields={"context"},
        history_input_fields=["question"],
        history_extras={"trajectory"},
        window=windows.blocks(high=20, low=10, keep_initial=True),
        initial_history=history,
        history_policy="use_if_provided",
        on_metric_error="raise",
        on_overflow="trim",
        strict_history_annotation=True,
        copy_mode="shallow",
        lock="async",
        busy="fail",
        record="calls",
        unbound="error",
        on_turn=told,
    )
    old_name = Session(program, input_field_override={"question"})
    short: Session = sessionify(program, max_turns=3)
    app: Session = with_memory(
        program,
        recursive=True,
        include=["worker"],
        exclude=["critic"],
        where=lambda path, node: True,
        isolation="shared",
        lifespan="episodic",
        consolidator=None,
        child_configs={"worker": {"lifespan": "stateless"}},
        lock="thread",
    )
    print(old_name, app)
    return short if everything else old_name


def calling(session: Session) -> None:
    prediction: Any = session(question="What?")
    again: Any = session.forward(question="What?")
    results: list[Any] = session.batch([dspy.Example(question="What?")])
    messages: list[dict[str, Any]] = session.preview(question="What?")
    print(prediction, again, results, messages)


async def calling_async(session: Session) -> None:
    prediction: Any = await session.acall(question="What?")
    again: Any = await session.aforward(question="What?")
    retried: Any = await session.aretry()
    async with session.use_state(session.new_state()) as state:
        print(prediction, again, retried, state.turns)


def looking(session: Session) -> None:
    turns: list[Turn] = session.turns
    history: dspy.History = session.session_history
    count: int = len(session)
    module: dspy.Module = session.module
    bound: bool = session.is_bound()
    print(turns, history, count, module, bound, session.state, session.own_state, session.options)
    print(session.history_field, session.history_policy, session.exclude_fields, session.history_input_fields)
    print(session.max_stored_turns, session.lock, session.program)
    session.max_turns = 3
    session.window = windows.turns(3)
    session.on_turn = told


def states(session: Session, history: dspy.History) -> None:
    state: SessionState = session.new_state(initial_history=history, l2_memory="likes tea")
    with session.use_state(state) as same:
        print(same.turns)
    with session.replay():
        session(question="What?")
    module: dspy.Module = session.bind(state)
    made = SessionState(turns=state.turns, initial_history=history, l2_memory="", node_states={})
    removed: list[Turn] = made.undo(2)
    data: dict[str, Any] = made.to_dict()
    back: SessionState = SessionState.from_dict(data, types=[StandIn])
    back.save("state.json")
    loaded: SessionState = SessionState.load_from(Path("state.json"), types=())
    fork: SessionState = loaded.fork()
    fork.reset()
    print(module, removed, len(fork), fork.conversation_id, fork.l2_memory, fork.initial_history)


def editing(session: Session) -> None:
    turn: Turn = session.add_turn({"question": "What?"}, {"answer": "That."}, extras={"why": "so"})
    turn = session.edit_turn(turn, inputs=None, outputs={"answer": "This."}, extras=None)
    popped: Turn | None = session.pop_turn()
    removed: list[Turn] = session.undo(steps=2)
    answer: Any = session.retry(question="What then?")
    fork: Session = session.fork()
    branches: list[Session] = session.branches
    session.update_module(dspy.Predict("question -> answer"))
    session.reset()
    print(popped, removed, answer, fork, branches)


def a_turn(turn: Turn, calls: tuple[Call, ...]) -> None:
    identity: str = turn.id
    place: int = turn.index
    fields: tuple[Mapping[str, Any], ...] = (turn.inputs, turn.outputs, turn.extras)
    snapshot: dspy.History = turn.history_snapshot
    made: datetime | None = turn.created_at
    model: str | None = turn.model
    usage: Usage | None = turn.usage
    if usage is not None:
        numbers: tuple[int, ...] = (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.calls,
        )
        cost: float | None = usage.cost
        print(numbers, cost)
    turn.score = 0.5
    turn.feedback = "half right"
    print(identity, place, fields, snapshot, made, model, turn.exact, turn.calls, turn.record)
    for call in calls:
        print(call.path, call.inputs, call.outputs, call.history, call.predictor, call.seconds)
    turn.print_calls()
    print(
        Turn(0, {"question": "What?"}, {"answer": "That."}, None, None, feedback=None, extras=None, id=None)
    )


def training(session: Session) -> None:
    scores: list[float] = session.score(metric, gold=None)
    session.rate(session.turns[0], 1.0, "good")
    examples: list[dspy.Example] = session.to_examples(
        metric=metric,
        min_score=0.5,
        include_history=True,
        strict_trajectory=True,
        require_outputs=True,
        extras=["reasoning"],
        where=lambda turn: turn.index > 0,
    )
    same: list[dspy.Example] = session.to_trainset(min_score=0.5)
    merged: list[dspy.Example] = Session.merge_examples(session, session.fork(), min_score=0.5)
    train, test = split_examples(merged, ratio=0.8, by="session", seed=0)
    folds: list[tuple[list[dspy.Example], list[dspy.Example]]] = kfold_examples(merged, k=5, seed=0)
    better: Session = session.optimize(dspy.LabeledFewShot(k=1), trainset=train, conversation="fresh")
    chats: list[dict[str, Any]] = session.to_finetune("chats.jsonl", adapter=None, min_score=0.5)
    print(scores, examples, same, test, folds, better, chats)


def keeping(session: Session, program: dspy.Module) -> None:
    session.save("talk.json", strict=True)
    session.save(Path("folder"), save_program=True)
    data: dict[str, Any] = session.save_state(strict=False)
    session.load_conversation(data, types=[StandIn])
    session.save_weights("weights.json")
    session.load("weights.json")
    loaded: Session = Session.load_from("talk.json", program, types=[StandIn], max_turns=3)
    chat: list[dict[str, Any]] = loaded.to_messages()
    again: Session = Session.from_messages(chat, program, input_field="question", output_field="answer")
    stand_in = StandIn("text", "module:Class")
    print(again, stand_in.type_name, stand_in.data)


def fold(past_memory: str, episode_transcript: str) -> str:
    return past_memory + episode_transcript


def shorter(view: HistoryView) -> HistoryView:
    return view.last(3)


def some_windows(session: Session) -> None:
    window: windows.Window = windows.turns(3)
    folded = windows.summary(fold, keep=10, every=5)
    for window in (windows.turns(3), windows.blocks(4, 2), windows.tokens(100, count=len), shorter, folded):
        session.window = window
    print(windows.characters_over_four({"question": "What?"}), window)


def inside_a_program() -> str:
    histories: tuple[dspy.History | None, ...] = (get_current_history(), get_outer_history())
    register_helpers(dspy.ChatAdapter())
    return f"{histories}{get_node_memory()}{get_child_l1_ledger('worker')}{get_execution_trace()}"


def a_store() -> None:
    with stores.open_store("memory://") as store:
        conversation: stores.StoredConversation = store.load("key")
        report: stores.VerifyReport = store.verify()
        print(conversation, report.ok, stores.MAX_KEY_BYTES)
    kinds: tuple[type, ...] = (
        stores.ConversationSummary,
        stores.Lease,
        stores.Problem,
        stores.Store,
        stores.StoredTurn,
    )
    document: stores.Document = {}
    print(kinds, document)


def in_the_browser(path: Path) -> None:
    with server.running(path, token="a-token", hosts=["box.example"]) as url:
        print(url.rstrip("/"))
    app = server.create_app(
        Warehouse(path), compatible=True, redact=False, sync=lambda progress: progress(1, 2)
    )
    print(app.state)
    server.serve(Warehouse(), "127.0.0.1", 0, None, 2.0, False, source=path, announce=print)


def in_mlflow(session: Session, program: dspy.Module, examples: list[dspy.Example]) -> Session:
    mlflow.autolog(session_id=mlflow.trace_session_id, user=lambda state: None, disable=False, silent=True)
    callback = mlflow.SessionTraces(user=mlflow.trace_session_id)
    uri: str = mlflow.log_conversation(session, "talk.json", run_id=None)
    state: SessionState = mlflow.load_state(uri, types=[Path])
    logged: str = mlflow.log_examples(examples, "trainset", context="training", run_id=None, strict=True)
    found: list[dspy.Example] = mlflow.load_examples(logged, types=[Path])
    records: list[dict[str, Any]] = mlflow.to_records(examples, strict=True)
    print(callback, state, found, mlflow.from_records(records), mlflow.predict_fn(program))
    return mlflow.load_conversation(uri, program, types=[Path], max_turns=3)


def failures() -> None:
    try:
        print(dspy_session.__name__, opencode.__name__, ScriptedLM(["That."], delay=0.0).requests)
    except errors.StaleStateError as error:
        print(error.expected, error.found, error.turn)
    except errors.MissingExtraError as error:
        print(error.package, error.extra)
    except (
        errors.UnsupportedVersionError,
        errors.FormatError,
        errors.SerializationError,
        errors.StateTypeError,
        errors.ConfigurationError,
        errors.HistoryTypeError,
        errors.UnknownPathError,
        errors.UnboundStateError,
        errors.BindingError,
        errors.BusyError,
        errors.LeaseError,
        errors.ConversationNotFoundError,
        errors.ConversationExistsError,
        errors.StoreUnavailableError,
        errors.AddressError,
        errors.StoreError,
        errors.SourceNotFoundError,
        errors.SourceFormatError,
        errors.WarehouseBusyError,
        errors.OpenCodeError,
        errors.DspySessionError,
    ) as error:
        print(error)
