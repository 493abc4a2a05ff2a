"""The sealed form, as its documentation gives it; what else an encrypted store asks and says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dspy_session.errors import (
    ConfigurationError,
    DspySessionError,
    FormatError,
    StaleStateError,
    StoreError,
    StoreUnavailableError,
)
from dspy_session.stores import Problem, Store, StoredConversation, encryption, open_store
from dspy_session.stores._wrapping import WrappedStore
from dspy_session.stores.encryption import EncryptedStore, KeyRing
from dspy_session.stores.redaction import RedactingStore

SECRET = bytes(range(32))
RING = KeyRing({"Key-1_a": SECRET}, "Key-1_a")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with EncryptedStore(open_store(f"sqlite:///{path}"), RING) as store:
        yield store


def behind(path: Path, statement: str, *values: object) -> None:
    """Change a row behind the store's back."""
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


# -- the sealed form ----------------------------------------------------------------------------------------


def hkdf(secret: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt."""
    key = hmac.digest(bytes(32), secret, "sha256")
    blocks = [b""]
    while len(b"".join(blocks)) < size:
        blocks.append(hmac.digest(key, blocks[-1] + info + bytes([len(blocks)]), "sha256"))
    return b"".join(blocks)[:size]


def sealed_by_hand(text: str, *place: object) -> str:
    keys = hkdf(SECRET, b"dspy-session store 1", 64)
    where, plain = json.dumps(["dspy-session", 1, *place]).encode(), text.encode()
    nonce = hmac.new(keys[32:], b"%d " % len(where) + where + plain, hashlib.sha256).digest()[:12]
    return "Key-1_a." + base64.b64encode(nonce + AESGCM(keys[:32]).encrypt(nonce, plain, where)).decode()


def test_the_sealed_form_is_that_which_is_documented() -> None:
    with open_store("memory://") as inner:
        store = EncryptedStore(inner, KeyRing({"Key-1_a": SECRET}, "Key-1_a"))
        note = {"kind": "s", "path": "p", "turn": "t", "v": "ü"}
        store.create(
            "k",
            {"h": 1},
            scope="s",
            turns=[{"id": "t"}],
            annotations=[note],
            metadata={"m": 2},
            title="ü",
            tags=["a", "b"],
        )
        store.fork("k", "f", scope="s")
        found = inner.load("k", scope="s")
        assert found.head == {"sealed": sealed_by_hand('{"document":{"h":1},"lineage":[]}', "s", "k", "head")}
        assert found.metadata == {
            "sealed": sealed_by_hand('{"document":{"m":2},"lineage":[]}', "s", "k", "metadata")
        }
        assert inner.load("f", scope="s").head == {
            "sealed": sealed_by_hand('{"document":{"h":1},"lineage":[["k",1]]}', "s", "f", "head")
        }
        [turn] = found.turns
        assert turn.data == {"id": "t", "sealed": sealed_by_hand('{"id":"t"}', "s", "k", "turn", 0, "t")}
        assert turn.annotations == (
            {
                "kind": "s",
                "path": "p",
                "turn": "t",
                "sealed": sealed_by_hand(
                    '{"kind":"s","path":"p","turn":"t","v":"ü"}', "s", "k", "annotation", "s", "p", "t"
                ),
            },
        )
        assert found.title == sealed_by_hand('["\\u00fc"]', "s", "k", "title")
        assert found.tags == (sealed_by_hand('["a", "b"]', "s", "k", "tags"),)


@pytest.mark.parametrize("text", ["", "x", "{}", "日本語"])
def test_what_was_sealed_opens_again_at_its_place_alone(text: str) -> None:
    sealed = RING.seal(text, b"place")
    assert RING.open(sealed, [b"other", b"place"], "it") == text
    with pytest.raises(FormatError, match="it does not open"):
        RING.open(sealed, [b"other"], "it")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text[:12] + "!" + text[12:],
        lambda text: text + ".AAAA",
        lambda text: text[:-4],
        lambda text: "Key-1_a.",
        lambda text: "Key-1_a.AAAA",
        lambda text: "Key-1_a.AAA",
        lambda text: f"Key-1_a.{'A' * 40}",
    ],
)
def test_nothing_but_what_was_sealed_opens(change: Any) -> None:
    with pytest.raises(FormatError, match="it does not open"):
        RING.open(change(RING.seal("text", b"place")), [b"place"], "it")


def test_what_is_not_sealed_is_told_from_what_does_not_open() -> None:
    for text in (None, 5, "", "no dot"):
        with pytest.raises(FormatError, match="it is not sealed"):
            RING.open(text, [b"place"], "it")
    with pytest.raises(StoreError, match="'other'"):
        RING.open("other.AAAA", [b"place"], "it")


# -- what was moved -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "becomes"),
    [('"kind":"m"', '"kind":"n"'), ('"path":"p"', '"path":"q"'), ('"turn":"a"', '"turn":"b"')],
)
def test_an_annotation_under_another_name_does_not_open(
    store: Store, path: Path, was: str, becomes: str
) -> None:
    note = {"kind": "m", "path": "p", "turn": "a"}
    store.create("k", {}, turns=[{"id": "a"}], annotations=[note])
    behind(path, "UPDATE note SET data = replace(data, ?, ?)", was, becomes)
    with pytest.raises(FormatError, match="an annotation of 'k'"):
        store.load("k")


def test_a_fork_opens_nothing_behind_what_it_inherited(store: Store, path: Path) -> None:
    store.create("k", {}, turns=[{"id": name} for name in "abc"])
    store.append("f", [{"id": "x"}], expected=store.fork("k", "f", at=2))
    assert [turn.id for turn in store.load("f").turns] == ["a", "b", "x"]
    of_the_source = "(SELECT data FROM turn WHERE id = 'c')"
    behind(path, f"UPDATE turn SET id = 'c', data = {of_the_source} WHERE id = 'x'")
    with pytest.raises(FormatError, match="turn 2 of 'f'"):
        store.load("f")


def test_a_fork_from_the_beginning_opens_what_it_inherited(store: Store) -> None:
    note = {"kind": "m", "v": 1}
    store.create("k", {"h": 1}, annotations=[note], metadata={"m": 1}, title="T", tags=["a", "b"])
    store.fork("k", "f", at=0)
    for key in ("k", "f"):
        found = store.load(key)
        assert (found.title, found.tags, found.annotations) == ("T", ("a", "b"), (note,))
    assert [(row.title, row.tags) for row in store.list()] == [("T", ("a", "b"))] * 2


def test_a_summary_that_does_not_open_says_whose_it_is(store: Store, path: Path) -> None:
    for column, row in (("title", {"title": "T"}), ("tags", {"tags": ["a"]})):
        for key in (column, f"other {column}"):
            store.create(key, {}, scope="s", **row)  # type: ignore[arg-type]
        other = f"(SELECT {column} FROM conversation WHERE key = 'other {column}')"
        behind(path, f"UPDATE conversation SET {column} = {other} WHERE key = '{column}'")
        for read in (lambda key: store.load(key, scope="s"), lambda key: store.list(scope="s")):
            with pytest.raises(FormatError, match=rf"the summary of '{column}' \(scope 's'\) does not open"):
                read(column)
        store.erase(column, scope="s")


# -- verifying ----------------------------------------------------------------------------------------------


def test_verify_names_what_does_not_open_where_it_was_asked(store: Store, path: Path) -> None:
    for scope in ("", "s"):
        for key in ("k", "l"):
            store.create(key, {}, scope=scope, turns=[{"id": name} for name in "abc"])
    behind(path, "UPDATE turn SET data = replace(data, 'Key-1_a.', 'Key-1_a.AAAA') WHERE idx > 0")

    def places(**where: Any) -> list[tuple[str, str | None, int | None]]:
        problems: tuple[Problem, ...] = store.verify(**where).problems
        found = [problem for problem in problems if "does not open" in problem.what]
        assert all(f"turn {problem.index} of {problem.key!r}" in problem.what for problem in found)
        return [(problem.scope, problem.key, problem.index) for problem in found]

    def all_of(scope: str, *keys: str) -> list[tuple[str, str, int]]:
        return [(scope, key, index) for key in keys for index in (1, 2)]

    assert places() == [*all_of("", "k", "l"), *all_of("s", "k", "l")]
    assert places(scope="") == all_of("", "k", "l")
    assert places(scope="s") == all_of("s", "k", "l")
    assert places(key="l") == all_of("", "l")
    assert places(key="l", scope="s") == all_of("s", "l")


def test_a_commit_beside_damage_is_told_why_it_is_refused(store: Store, path: Path) -> None:
    start = store.create("k", {})
    after = store.append("k", [{"id": "a"}], expected=start)
    behind(path, "UPDATE turn SET data = replace(data, 'Key-1_a.', 'Key-1_a.AAAA')")
    with pytest.raises(StaleStateError) as caught:
        store.append("k", [{"id": "a", "v": 1}], expected=start)
    assert (caught.value.found, caught.value.turn) == (after, {"id": "a", "v": 1})


def test_verify_names_a_head_that_does_not_open(store: Store, path: Path) -> None:
    store.create("k", {}, scope="s")
    behind(path, "UPDATE conversation SET metadata = '{}'")
    assert [(p.scope, p.key, p.index) for p in store.verify().problems] == [("s", "k", None)]


def test_verify_says_how_the_store_is_sealed(store: Store) -> None:
    settings = store.verify().settings
    assert settings["encryption"] == "AES-256-GCM, current secret 'Key-1_a'"
    assert settings["backend"] == "sqlite"


# -- what is asked of the inner store -----------------------------------------------------------------------


class Watched(WrappedStore):
    """Keeps how many turns it was asked to load."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.loaded: list[int | None] = []

    def load(self, key: str, *, scope: str = "", last: int | None = None) -> StoredConversation:
        self.loaded.append(last)
        return super().load(key, scope=scope, last=last)


@pytest.fixture
def inner() -> Watched:
    return Watched(open_store("memory://"))


def test_a_commit_is_one_request(inner: Watched) -> None:
    store = EncryptedStore(inner, RING)
    revision = store.create("k", {}, scope="s", turns=[{"id": "a"}])
    for name in "bc":
        revision = store.append("k", [{"id": name}], scope="s", expected=revision)
    revision = store.append("k", scope="s", expected=revision, title="T")
    revision = store.append("k", [{"id": "d"}], scope="s", expected=revision, keep=1)
    store.append("k", [{"id": "e"}], scope="s", expected=revision)
    assert inner.loaded == []
    reader = EncryptedStore(inner, RING)
    revision = reader.load("k", scope="s").revision
    reader.append("k", [{"id": "f"}], scope="s", expected=revision)
    assert inner.loaded == [None]
    assert [turn.id for turn in reader.load("k", scope="s").turns] == ["a", "d", "e", "f"]


def test_what_is_not_known_is_asked_without_reading_turns(inner: Watched) -> None:
    revision = EncryptedStore(inner, RING).create("k", {}, turns=[{"id": "a"}, {"id": "b"}])
    store = EncryptedStore(inner, RING)
    store.append("k", [{"id": "c"}], expected=revision)
    store.fork("k", "f")
    assert len(store.turns("k", limit=1)) == 1
    assert store.verify().ok
    assert store.append("k", [{"id": "c"}], expected=revision) == inner.load("k", last=0).revision
    assert set(inner.loaded) == {0}
    assert [turn.id for turn in store.load("f").turns] == ["a", "b", "c"]


def test_annotations_need_no_position(inner: Watched) -> None:
    revision = EncryptedStore(inner, RING).create("k", {}, turns=[{"id": "a"}])
    EncryptedStore(inner, RING).append("k", expected=revision, annotations=[{"kind": "m"}])
    assert inner.loaded == []


def test_the_latest_positions_are_remembered(inner: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "_REMEMBERED", 2)
    for key, asked in (("c", []), ("b", []), ("a", [0])):
        store, scope = EncryptedStore(inner, RING), f"for {key}"
        revisions = {name: store.create(name, {}, scope=scope) for name in "abc"}
        inner.loaded.clear()
        store.append(key, [{"id": "x"}], scope=scope, expected=revisions[key])
        assert inner.loaded == asked


# -- wrappers are called like the store itself --------------------------------------------------------------


def unchanged(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return document


WRAPPERS: Mapping[str, Any] = {
    "wrapped": WrappedStore,
    "encrypted": lambda inner: EncryptedStore(inner, RING),
    "redacting": lambda inner: RedactingStore(inner, unchanged),
}


def by_default(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the operations do that are told nothing but what they have to be told."""
    seen: list[Any] = []
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    revision = store.create("k", {"h": 1})
    seen.append(store.list())
    revision = store.append("k", [{"id": "a"}], expected=revision)
    store.append("k", [{"id": "b"}], expected=revision)
    store.fork("k", "f")
    seen += [store.list(), store.scopes(), store.turns("k"), store.load("f").turns, store.load("k").head]
    with store.lease("k") as lease:
        seen.append((lease.scope, lease.key, lease.ttl))
    seen += [store.prune(keep=1), store.turns("k"), store.erase("f"), store.verify().conversations]
    monkeypatch.undo()
    seen += [store.expire(before=datetime(2999, 1, 1, tzinfo=timezone.utc)), store.scopes()]
    return seen


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_have_the_defaults_of_the_store_itself(
    wrapper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = open_store("memory://")
    assert by_default(WRAPPERS[wrapper](inner), monkeypatch) == by_default(
        open_store("memory://"), monkeypatch
    )


def refusals(store: Store) -> list[str]:
    """What is said of parameters that are not allowed."""
    revision = store.create("k", {}, turns=[{"id": "a"}])
    bad: Any = {1: 2}
    said = []
    for operation in (
        lambda: store.create(5, {}),  # type: ignore[arg-type]
        lambda: store.create("l", {}, scope=5),  # type: ignore[arg-type]
        lambda: store.create("l", bad),
        lambda: store.create("l", {}, metadata=bad),
        lambda: store.create("l", {}, turns=[{"id": "x", "v": bad}]),
        lambda: store.create("l", {}, turns=[{"id": 5}]),
        lambda: store.create("l", {}, annotations=[{"kind": "m", "v": bad}]),
        lambda: store.append(5, expected=revision),  # type: ignore[arg-type]
        lambda: store.append("k", scope=5, expected=revision),  # type: ignore[arg-type]
        lambda: store.append("k", [{"id": "x", "v": bad}], expected=revision),
        lambda: store.append("k", [{"id": None}], expected=revision),
        lambda: store.append("k", expected=revision, annotations=[{"kind": "m", "v": bad}]),
        lambda: store.fork("k", 5),  # type: ignore[arg-type]
        lambda: store.fork("k", "f", head=bad),
        lambda: store.fork("k", "f", metadata=bad),
    ):
        with pytest.raises(DspySessionError) as caught:
            operation()
        said.append(f"{type(caught.value).__name__}: {caught.value}")
    assert store.load("k").revision == revision
    return said


@pytest.mark.parametrize("wrapper", ["wrapped", "encrypted"])
def test_wrappers_refuse_in_the_words_of_the_store_itself(wrapper: str) -> None:
    assert refusals(WRAPPERS[wrapper](open_store("memory://"))) == refusals(open_store("memory://"))


def test_names_of_secrets() -> None:
    for name in ("A", "z", "0", "-", "_", "a" * 64):
        assert KeyRing({name: SECRET}, name).seal("x", b"p").startswith(f"{name}.")
    for name in ("", "a" * 65, "a.b", "a b", "é", "a\n"):
        with pytest.raises(ConfigurationError):
            KeyRing({name: SECRET}, name)
    assert len(KeyRing.new_secret()) == 32 != KeyRing.new_secret()


class FailingOnce(WrappedStore):
    """A store whose next commit fails, with nothing written."""

    failing = False

    def append(self, *args: Any, **more: Any) -> str:
        if self.failing:
            self.failing = False
            raise StoreUnavailableError("locked by other writers; nothing was written")
        return super().append(*args, **more)


def test_a_turn_that_is_to_move_is_not_taken_for_a_repetition(path: Path) -> None:
    """It stands elsewhere on the line, and its sealed text would not open at its new place."""
    inner = FailingOnce(open_store(f"sqlite:///{path}"))
    with EncryptedStore(inner, RING) as store:
        turns = [{"id": f"t{number}"} for number in range(6)]
        revision = store.create("k", {}, turns=turns)
        inner.failing = True
        with pytest.raises(StoreUnavailableError):
            store.append("k", [turns[5]], expected=revision, keep=2)
        assert [turn.id for turn in store.load("k").turns] == [turn["id"] for turn in turns]
        store.append("k", [turns[5]], expected=revision, keep=2)
        assert [turn.id for turn in store.load("k").turns] == ["t0", "t1", "t5"]
        assert store.verify().ok


def test_a_sealed_text_of_other_characters_is_damage() -> None:
    with pytest.raises(FormatError, match="does not open"):
        RING.open("Key-1_a.é", [b"place"], "the head")
