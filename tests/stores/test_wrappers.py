"""Encryption and redaction: what the inner store gets to see, and what it cannot do to it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_session.errors import ConfigurationError, FormatError, StaleStateError, StoreError
from dspy_session.stores import Store, open_store
from dspy_session.stores.encryption import EncryptedStore, KeyRing
from dspy_session.stores.redaction import RedactingStore

SECRET = "xyzzy-plugh"
RING = KeyRing({"2026": b"k" * 32}, "2026")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with EncryptedStore(open_store(f"sqlite:///{path}"), RING) as store:
        yield store


def fill(store: Store, key: str = "k", scope: str = "") -> None:
    revision = store.create(
        key, {"h": SECRET}, scope=scope, metadata={"m": SECRET}, title=SECRET, tags=[SECRET, "b"]
    )
    for number in range(3):
        revision = store.append(
            key,
            [{"id": f"t{number}", "q": SECRET}],
            scope=scope,
            expected=revision,
            annotations=[{"kind": "m", "v": SECRET}, {"kind": "s", "turn": f"t{number}", "v": SECRET}],
        )


def behind(path: Path, statement: str, *values: object) -> None:
    """Change a row behind the store's back."""
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


# -- encryption ---------------------------------------------------------------------------------------------


def test_no_content_reaches_the_disk(store: Store, path: Path) -> None:
    fill(store)
    store.fork("k", "f", title=SECRET)
    store.append("f", [{"id": "x", "q": SECRET}], expected=store.load("f").revision, title=SECRET + "2")
    for file in path.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    assert store.load("k").turns[0].data["q"] == SECRET
    assert [row.title for row in store.list()] == [SECRET + "2", SECRET]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE turn SET data = (SELECT data FROM turn WHERE idx = 0) WHERE idx = 1", "filed under"),
        ("UPDATE turn SET data = replace(data, '2026.', '2026.AAAA') WHERE idx = 1", "turn 1"),
        ("UPDATE turn SET idx = 9 - idx WHERE idx IN (0, 1)", "turn"),
        (
            "UPDATE turn SET data = (SELECT data FROM turn t WHERE t.idx = turn.idx AND t.segment = 2)"
            " WHERE segment = 1",
            "turn 0",
        ),
        ("UPDATE conversation SET head = 2 WHERE id = 1", "head"),
        (
            "UPDATE note SET data = (SELECT data FROM note n WHERE n.segment = 2 AND n.about = -1)"
            " WHERE about = -1",
            "annotation",
        ),
    ],
)
def test_a_changed_or_moved_row_does_not_open(store: Store, path: Path, statement: str, words: str) -> None:
    fill(store)
    fill(store, "other", "other tenant")
    if "9 - idx" in statement:
        behind(path, "UPDATE turn SET idx = idx + 100 WHERE idx < 2 AND segment = 1")
        behind(path, "UPDATE turn SET idx = 101 - idx WHERE idx >= 100")
    else:
        behind(path, statement)
    for key, scope in (("k", ""), ("other", "other tenant")):
        try:
            store.load(key, scope=scope)
        except FormatError:
            break
    else:
        pytest.fail("both conversations open")
    report = store.verify()
    assert any(words in problem.what for problem in report.problems), report.problems


def test_a_conversation_under_another_key_or_scope_does_not_open(store: Store, path: Path) -> None:
    fill(store)
    behind(path, "UPDATE conversation SET key = 'stolen'")
    with pytest.raises(FormatError):
        store.load("stolen")
    behind(path, "UPDATE conversation SET key = 'k', scope = 'thief'")
    with pytest.raises(FormatError):
        store.load("k", scope="thief")
    with pytest.raises(FormatError):
        store.list(scope="thief")


def test_rotation(path: Path) -> None:
    address = f"sqlite:///{path}"
    old, new = KeyRing.new_secret(), KeyRing.new_secret()
    with EncryptedStore(open_store(address), KeyRing({"old": old}, "old")) as store:
        fill(store)
    with EncryptedStore(open_store(address), KeyRing({"old": old, "new": new}, "new")) as store:
        store.append("k", [{"id": "x"}], expected=store.load("k").revision)
        assert len(store.load("k").turns) == 4
        assert store.verify().ok
    with EncryptedStore(open_store(address), KeyRing({"new": new}, "new")) as store:
        with pytest.raises(StoreError, match="'old'"):
            store.load("k")
        assert not store.verify().ok
    with open_store(address) as inner:
        names = [turn.data["sealed"].split(".")[0] for turn in inner.turns("k")]
        assert names == ["old", "old", "old", "new"]


def test_another_secret_of_the_same_name_does_not_open(store: Store, path: Path) -> None:
    fill(store)
    with EncryptedStore(open_store(f"sqlite:///{path}"), KeyRing({"2026": b"x" * 32}, "2026")) as other:
        for read in (lambda: other.load("k"), other.list, lambda: other.fork("k", "f")):
            with pytest.raises(FormatError):
                read()


def test_a_store_that_was_not_encrypted(path: Path) -> None:
    with open_store(f"sqlite:///{path}") as plain:
        fill(plain)
        with pytest.raises(FormatError, match="not sealed"):
            EncryptedStore(plain, RING).load("k")


def test_commits_are_repeated_by_another_process(path: Path) -> None:
    address = f"sqlite:///{path}"
    with EncryptedStore(open_store(address), RING) as store:
        fill(store)
        start = store.load("k").revision
        after = store.append("k", [{"id": "x"}], expected=start)
        later = store.append("k", [{"id": "y"}], expected=after)
    with EncryptedStore(open_store(address), RING) as store:
        assert store.append("k", [{"id": "x"}], expected=start) == after
        with pytest.raises(StaleStateError) as caught:
            store.append("k", [{"id": "z", "q": SECRET}], expected=start)
        assert caught.value.turn == {"id": "z", "q": SECRET}
        assert caught.value.found == later


def test_commits_are_repeated_after_the_secret_was_changed(path: Path) -> None:
    address = f"sqlite:///{path}"
    old, new = KeyRing.new_secret(), KeyRing.new_secret()
    with EncryptedStore(open_store(address), KeyRing({"old": old}, "old")) as store:
        fill(store)
        start = store.load("k").revision
        after = store.append("k", [{"id": "x"}, {"id": "y"}], expected=start, keep=2)
        store.append("k", [{"id": "z"}], expected=after)
    with EncryptedStore(open_store(address), KeyRing({"old": old, "new": new}, "new")) as store:
        assert store.append("k", [{"id": "x"}, {"id": "y"}], expected=start, keep=2) == after
        for turns, keep in (([{"id": "x"}], 1), ([{"id": "x"}, {"id": "y", "q": 1}], 2)):
            with pytest.raises(StaleStateError) as caught:
                store.append("k", turns, expected=start, keep=keep)
            assert caught.value.turn == turns[-1]
        assert [turn.id for turn in store.load("k").turns] == ["t0", "t1", "x", "y", "z"]


def test_forks_open_what_they_inherit(store: Store) -> None:
    fill(store)
    store.fork("k", "f", at=2)
    store.append("f", [{"id": "f1"}, {"id": "f2"}], expected=store.load("f").revision, keep=1)
    store.fork("f", "g", at=3)
    store.append("g", [{"id": "g1"}], expected=store.load("g").revision, keep=2)
    store.erase("k", forks="keep")
    store.erase("f", forks="keep")
    assert [turn.id for turn in store.load("g").turns] == ["t0", "f1", "g1"]
    assert [turn.id for turn in store.turns("g", before=2)] == ["t0", "f1"]
    assert store.load("g").head == {"h": SECRET}
    [row] = store.list()
    assert (row.title, row.tags, row.metadata) == (SECRET, (SECRET, "b"), {"m": SECRET})
    assert store.verify().ok


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeyRing({}, "a"),
        lambda: KeyRing({"a": b"short"}, "a"),
        lambda: KeyRing({"a.b": b"k" * 32}, "a.b"),
    ],
)
def test_key_rings_that_are_none(make: Callable[[], KeyRing]) -> None:
    with pytest.raises(ConfigurationError):
        make()


# -- redaction ----------------------------------------------------------------------------------------------


def redact(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """Take the secret out of any document, wherever it is."""
    found: dict[str, Any] = json.loads(json.dumps(document).replace(SECRET, "[removed]"))
    return found


def test_redaction_happens_before_anything_is_written(path: Path) -> None:
    with RedactingStore(open_store(f"sqlite:///{path}"), redact) as store:
        fill(store)
        store.append("k", [{"id": "clean"}], expected=store.load("k").revision)
        store.fork("k", "f", head={"h": SECRET}, metadata={"m": SECRET}, title=SECRET, tags=[SECRET])
        found = store.load("k")
        assert found.turns[0].data == {"id": "t0", "q": "[removed]", "redacted": True}
        assert found.turns[3].data == {"id": "clean"}
        assert found.annotations == ({"kind": "m", "v": "[removed]", "redacted": True},)
        assert (found.title, found.tags) == ("[removed]", ("[removed]", "b"))
        assert store.load("f").head == {"h": "[removed]"}
    for file in path.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_redaction_leaves_what_was_given_alone_and_repeats_alike(path: Path) -> None:
    def in_place(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        document["q"] = "gone"
        return document

    with RedactingStore(open_store(f"sqlite:///{path}"), in_place) as store:
        start = store.create("k", {})
        turn = {"id": "a", "q": SECRET}
        after = store.append("k", [turn], expected=start)
        assert turn == {"id": "a", "q": SECRET}
        assert store.append("k", [turn], expected=start) == after
        with pytest.raises(StaleStateError) as caught:
            store.append("k", [{"id": "b", "q": SECRET}], expected=start)
        assert caught.value.turn == {"id": "b", "q": SECRET}


def test_redaction_must_not_change_what_things_are(path: Path) -> None:
    def rename(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "id": "other", "kind": "other"} if kind in ("turn", "annotation") else document

    with RedactingStore(open_store(f"sqlite:///{path}"), rename) as store:
        start = store.create("k", {})
        for more in ({"turns": [{"id": "a"}]}, {"annotations": [{"kind": "m"}]}):
            with pytest.raises(ConfigurationError, match="redaction"):
                store.append("k", expected=start, **more)
        assert store.load("k").revision == start


def test_an_error_in_the_hook_writes_nothing(path: Path) -> None:
    def fail(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        if kind == "annotation":
            raise RuntimeError("no model for this language")
        return document

    with RedactingStore(open_store(f"sqlite:///{path}"), fail) as store:
        start = store.create("k", {})
        with pytest.raises(RuntimeError):
            store.append("k", [{"id": "a"}], expected=start, annotations=[{"kind": "m"}])
        assert store.load("k").revision == start


def test_wrappers_go_around_each_other(path: Path) -> None:
    with RedactingStore(EncryptedStore(open_store(f"sqlite:///{path}"), RING), redact) as store:
        fill(store)
        assert store.load("k").turns[0].data["q"] == "[removed]"
        assert store.verify().ok
    assert b"removed" not in path.read_bytes()
