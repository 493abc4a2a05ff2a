"""Sessions in MLflow: traces by conversation, conversations as artifacts, examples as datasets (extra `mlflow`).

Traces: `autolog()` turns on `mlflow.dspy.autolog()`, and each trace of a turn carries MLflow's own key
`mlflow.trace.session`, by which MLflow groups traces into sessions.

Artifacts and datasets: what `log_conversation` and `log_examples` write is read by `load_conversation` and
`load_examples`, from whatever store MLflow uses. A file of examples has a record on each line: a JSON object with
`inputs`, `expectations` and `tags`, as in MLflow's evaluation datasets. Its values are written as
`dspy_session.codec.values` says, so that a history comes back as `dspy.History`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from dspy_session import _context
from dspy_session._base import SessionBase
from dspy_session.codec.values import Decoder
from dspy_session.conversation import Conversation
from dspy_session.errors import ConfigurationError, FormatError, MissingExtraError
from dspy_session.integrations._records import example, from_records, predict_fn, to_records
from dspy_session.session import Session
from dspy_session.state import SessionState

try:
    with warnings.catch_warnings():
        # While it is imported, MLflow warns of type hints of its own.
        warnings.simplefilter("ignore")
        import mlflow
        import mlflow.data.dataset_source
        import mlflow.data.dataset_source_registry
        import mlflow.dspy
        import mlflow.entities
        from mlflow.dspy.callback import MlflowCallback
except ImportError as missing:
    raise MissingExtraError("mlflow", "mlflow") from missing

__all__ = [
    "SessionTraces",
    "autolog",
    "from_records",
    "load_conversation",
    "load_examples",
    "load_state",
    "log_conversation",
    "log_examples",
    "predict_fn",
    "to_records",
    "trace_session_id",
]

TRACE_SESSION = "mlflow.trace.session"
TRACE_USER = "mlflow.trace.user"
# Traces that are open at once, or nearly: of older ones nothing needs to be known.
_REMEMBERED = 10_000

Named = Callable[[SessionState], "str | None"]


# ── traces ───────────────────────────────────────────────────────────────────────────────────────────────────


def trace_session_id(of: SessionBase | SessionState | Conversation) -> str:
    """The id under which MLflow finds the traces of a conversation.

    It is the key of a stored conversation, with `scope/` in front if it has a scope; of any other, its state's
    `conversation_id`, which forks share and files keep.

    Args:
        of: a session, whose bound or own state is meant; a state; or a conversation from a store.
    """
    state = of.state if isinstance(of, SessionBase) else of
    talk = state.sink if isinstance(state, SessionState) else state
    if isinstance(talk, Conversation):
        return f"{talk.scope}/{talk.key}" if talk.scope else talk.key
    assert isinstance(state, SessionState)
    return state.conversation_id


def autolog(
    *,
    session_id: Named | None = None,
    user: Named | None = None,
    disable: bool = False,
    **options: Any,
) -> None:
    """`mlflow.dspy.autolog`, with the conversation's id on each trace of a turn. Call it once, at the start.

    Calls that become no turn, such as evaluations, replays and compilations, are traced without an id. A trace
    around turns of several conversations has the id of the first.

    Args:
        session_id: from the state of a turn, the id; by default `trace_session_id`. None: this trace has none.
        user: from the state of a turn, the user's name, or None; becomes `mlflow.trace.user`.
        disable: end it, and MLflow's tracing of DSPy with it.
        **options: as for `mlflow.dspy.autolog`.

    Raises:
        ConfigurationError: it was called inside `dspy.context`.
    """
    mlflow.dspy.autolog(disable=disable, **options)
    if not disable and not any(isinstance(each, MlflowCallback) for each in dspy.settings.callbacks):
        mlflow.dspy.autolog(disable=True, **options)
        raise ConfigurationError(
            "autolog was called inside `dspy.context`, where no callback can be configured: call it outside"
        )
    others = [each for each in dspy.settings.callbacks if not isinstance(each, SessionTraces)]
    dspy.configure(callbacks=others if disable else [SessionTraces(session_id, user), *others])


class SessionTraces(BaseCallback):  # type: ignore[misc]
    """The DSPy callback that `autolog` installs; for those who list their callbacks themselves.

    Args:
        session_id: as for `autolog`.
        user: as for `autolog`.
    """

    def __init__(self, session_id: Named | None = None, user: Named | None = None) -> None:
        self._session_id, self._user = session_id or trace_session_id, user
        self._named: dict[str, None] = {}
        self._guard = threading.Lock()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Whatever starts inside a turn: give the trace around it the id of the turn's conversation."""
        state = _open_conversation()
        span = None if state is None else mlflow.get_current_active_span()
        if state is None or span is None or not self._is_new(span.trace_id):
            return
        known = {
            TRACE_SESSION: self._session_id(state),
            TRACE_USER: None if self._user is None else self._user(state),
        }
        mlflow.update_current_trace(
            metadata={key: value for key, value in known.items() if value is not None}
        )

    # A bare predictor that is asked again, or one that runs in a pool's thread, begins a trace of its own, in
    # which no module starts but the first.
    on_adapter_format_start = on_lm_start = on_tool_start = on_module_start

    def _is_new(self, trace_id: str) -> bool:
        with self._guard:
            if trace_id in self._named:
                return False
            self._named[trace_id] = None
            if len(self._named) > _REMEMBERED:
                del self._named[next(iter(self._named))]
            return True


def _open_conversation() -> SessionState | None:
    """The state of the turn that is open here, of the outermost if there are several; None if none will be recorded."""
    innermost = _context.frame()
    if innermost is None:
        return None
    turn = deque(innermost.around(), maxlen=1).pop()
    if turn.closed or not turn.live:
        return None
    # An attempt of `BestOfN` or `Refine` has a fork of the state, which no store knows.
    bound = _context.scope().bindings.get(turn.lineage)
    forked = bound is not None and bound.conversation_id == turn.state.conversation_id
    return bound if forked else turn.state


# ── conversations as artifacts ───────────────────────────────────────────────────────────────────────────────


def log_conversation(
    conversation: SessionBase | SessionState | Conversation,
    artifact_file: str = "conversation.json",
    *,
    run_id: str | None = None,
) -> str:
    """Log a conversation as an artifact of a run.

    Args:
        conversation: a session, whose bound or own state is meant, with its options; a state; or a conversation from
            a store. Of a long one in a store only what the window needs may be loaded: `load_older` fetches the rest.
        artifact_file: the file's path among the run's artifacts; ends in `.json`.
        run_id: the run; by default the active one, or a new one, as always in MLflow.

    Returns:
        The artifact's address, `runs:/<run id>/<artifact_file>`, for `load_conversation` and `load_state`.

    Raises:
        ConfigurationError: `artifact_file` is no path of a JSON file.
    """
    place = Path(artifact_file)
    if place.suffix != ".json" or place.is_absolute() or ".." in place.parts:
        raise ConfigurationError(
            f"artifact_file must be a relative path that ends in .json, not {artifact_file!r}"
        )
    run_id = _run(run_id)
    with _artifact(place, run_id) as path:
        (conversation.state if isinstance(conversation, Conversation) else conversation).save(path)
    return f"runs:/{run_id}/{place.as_posix()}"


def load_conversation(
    uri: str, module: dspy.Module, *, types: Iterable[type] = (), **overrides: Any
) -> Session:
    """A session that goes on with a conversation from MLflow.

    Args:
        uri: what `log_conversation` gave, or any other address of such an artifact.
        module: the program; its weights are not in the file.
        types: classes of your own that may come back.
        **overrides: options that differ from the logged ones.

    Raises:
        FormatError: the artifact is no conversation.
    """
    with tempfile.TemporaryDirectory() as folder, _speaking_of(uri, _downloaded(uri, folder)) as path:
        return Session.load_from(path, module, types=types, **overrides)


def load_state(uri: str, *, types: Iterable[type] = ()) -> SessionState:
    """The state of a conversation from MLflow, for `app.use_state(state)`.

    Args:
        uri: what `log_conversation` gave, or any other address of such an artifact.
        types: classes of your own that may come back.

    Raises:
        FormatError: the artifact is no conversation.
    """
    with tempfile.TemporaryDirectory() as folder, _speaking_of(uri, _downloaded(uri, folder)) as path:
        return SessionState.load_from(path, types=types)


def _run(run_id: str | None) -> str:
    if run_id is not None:
        return run_id
    run = mlflow.active_run() or mlflow.start_run()
    return str(run.info.run_id)


@contextlib.contextmanager
def _artifact(place: Path, run_id: str) -> Iterator[Path]:
    """Where to write what is logged under a path among the run's artifacts when the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, place.name)
        yield path
        parent = place.parent.as_posix()
        mlflow.log_artifact(str(path), None if parent == "." else parent, run_id=run_id)


def _downloaded(uri: str, folder: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


@contextlib.contextmanager
def _speaking_of(uri: str, path: Path) -> Iterator[Path]:
    """Errors speak of the artifact, not of its copy."""
    try:
        yield path
    except FormatError as error:
        raise type(error)(str(error).replace(str(path), uri)) from error


# ── examples as datasets ─────────────────────────────────────────────────────────────────────────────────────


def log_examples(
    examples: Iterable[dspy.Example],
    name: str = "trainset",
    *,
    context: str = "training",
    run_id: str | None = None,
    strict: bool = False,
) -> str:
    """Log examples as a dataset of a run: the examples as the artifact `datasets/<name>.jsonl`, and the dataset,
    with its name, digest and size, among the run's inputs.

    Args:
        examples: with input keys, as `to_examples` gives them.
        name: the dataset's name: letters, digits, `.`, `_` and `-`.
        context: what the run uses it for, such as `"training"` or `"evaluation"`.
        run_id: the run; by default the active one, or a new one, as always in MLflow.
        strict: raise `SerializationError` for a value that cannot keep its type, instead of writing its text.

    Returns:
        The artifact's address for `load_examples`.

    Raises:
        ConfigurationError: the name is not allowed, or an example does not say which of its fields are inputs.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigurationError(f"name must be letters, digits, '.', '_' and '-', not {name!r}")
    rows = to_records(examples, strict=strict)
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    raw = text.encode("utf-8", "surrogatepass")
    run_id = _run(run_id)
    file = f"datasets/{name}.jsonl"
    with _artifact(Path(file), run_id) as path:
        path.write_bytes(raw)
    source = ArtifactSource(f"runs:/{run_id}/{file}")
    dataset = mlflow.entities.Dataset(
        name=name,
        digest=hashlib.sha256(raw).hexdigest()[:8],
        source_type=source._get_source_type(),
        source=source.to_json(),
        profile=json.dumps({"num_rows": len(rows)}),
    )
    tags = [mlflow.entities.InputTag("mlflow.data.context", context)]
    used = mlflow.entities.DatasetInput(dataset=dataset, tags=tags)
    mlflow.MlflowClient().log_inputs(run_id, datasets=[used])
    return source.uri


def load_examples(uri: str, *, types: Iterable[type] = ()) -> list[dspy.Example]:
    """Examples from MLflow, with their input keys, and with the conversations that `split_examples` goes by.

    Args:
        uri: what `log_examples` gave, or any other address of such an artifact.
        types: classes of your own that may come back.

    Raises:
        FormatError: the artifact does not hold examples; names the line.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = _downloaded(uri, folder).read_bytes()
    decoder = Decoder(types)
    lines = enumerate(raw.decode("utf-8", "surrogatepass").split("\n"), start=1)
    return [example(_json(line, f"{uri}:{i}"), decoder, f"{uri}:{i}") for i, line in lines if line.strip()]


def _json(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise FormatError(f"{place} is damaged or no JSON: {error}") from error


class ArtifactSource(mlflow.data.dataset_source.DatasetSource):  # type: ignore[misc]
    """A file among a run's artifacts, as the source of a dataset; `mlflow.data.get_source(dataset)` gives it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @staticmethod
    def _get_source_type() -> str:
        return "mlflow_run"

    def load(self) -> str:
        """The path of a local copy."""
        return str(mlflow.artifacts.download_artifacts(artifact_uri=self.uri))

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        # What a program gives as the source of its own datasets means what it meant before.
        return False

    def to_dict(self) -> dict[str, Any]:
        """The address."""
        return {"uri": self.uri}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> ArtifactSource:
        """The source that `to_dict` describes."""
        return cls(source_dict["uri"])


mlflow.data.dataset_source_registry.register_dataset_source(ArtifactSource)
