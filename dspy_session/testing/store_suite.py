"""The conformance suite of stores: what `dspy_session.stores.base` promises, as tests.

With pytest, subclass it:

    class TestMyStore(StoreSuite):
        def open_store(self):
            return MyStore("…")

Without, call `check_store`. Every test works in a scope of its own, so a store may hold other things, and
several runs may share a server. Where a store cannot keep a promise, say so: `divergences` maps the name of a
test to the reason. Such a test has to fail; once it passes, the suite fails, so that no excuse outlives its
reason.
"""

from __future__ import annotations

import functools
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

from ..errors import (
    ConfigurationError,
    ConversationExistsError,
    ConversationNotFoundError,
    LeaseError,
    SerializationError,
    StaleStateError,
    StoreError,
    UnknownPathError,
)
from ..stores.base import MAX_KEY_BYTES, Document, Store, StoredConversation, StoredTurn

__all__ = ["StoreSuite", "check_store"]

STRANGE_KEYS = (
    "",
    " ",
    "a/b",
    "../up",
    "semi;colon'--",
    '"quoted"',
    "{braces}",
    "per%cent%s",
    "que?stion",
    "back\\slash",
    "nul\x00inside",
    "nul\x00other",
    "new\nline",
    "é",
    "e\u0301",
    "日本語",
    "😀",
    "\uffff",
    "A",
    "a",
    "a ",
    "k" * MAX_KEY_BYTES,
)
FUTURE = datetime(2999, 1, 1, tzinfo=timezone.utc)


def check_store(
    open_store: Callable[[], Store], divergences: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    """Run the suite on a store; per test None if it held, else what went wrong.

    `open_store` is called for every test, and within some of them again for another handle on the same data.
    """
    suite = type("Suite", (StoreSuite,), {"divergences": divergences or {}})
    results: dict[str, str | None] = {}
    for name in sorted(dir(suite)):
        if name.startswith("test_"):
            case = suite()
            case.open_store = open_store
            try:
                case.setup_method()
                getattr(case, name)()
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
            finally:
                case.teardown_method()
    return results


@contextmanager
def refused(kind: type[BaseException]) -> Iterator[list[Any]]:
    """Expect an error in the block; the list then holds it."""
    caught: list[Any] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def turn(name: str, **more: Any) -> Document:
    """A turn's document."""
    return {"id": name, **more}


def names(turns: Sequence[StoredTurn]) -> list[str]:
    """The ids of turns."""
    return [stored.id for stored in turns]


def _must_fail(test: Callable[[Any], None], reason: str) -> Callable[[Any], None]:
    @functools.wraps(test)
    def run(self: Any) -> None:
        try:
            test(self)
        except Exception:
            if "pytest" in sys.modules:
                sys.modules["pytest"].xfail(reason)
            return
        raise AssertionError(f"passes now, so remove its divergence: {reason}")

    return run


class StoreSuite:
    """The tests; see the module."""

    divergences: ClassVar[Mapping[str, str]] = {}

    store: Store
    scope: str

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, reason in cls.divergences.items():
            setattr(cls, name, _must_fail(getattr(cls, name), reason))

    def open_store(self) -> Store:
        """A handle on the store under test. Every call: another handle on the same data."""
        raise NotImplementedError("a suite says how its store is opened")

    def reopen(self) -> Store:
        """Another handle, after `self.store` was closed."""
        return self.open_store()

    def setup_method(self, method: object = None) -> None:
        """Open the store, and choose a scope that nobody has used."""
        self.store = self.open_store()
        self.scope = f"suite-{secrets.token_hex(8)}"

    def teardown_method(self, method: object = None) -> None:
        """Leave nothing behind."""
        store = getattr(self, "store", None)
        if store is not None:
            for scope in (self.scope, self.scope + "-other"):
                store.expire(before=FUTURE, scope=scope)
            store.close()

    # -- shorthands -----------------------------------------------------------------------------------------

    def begin(self, key: str = "k", turns: int = 0, **more: Any) -> str:
        """A conversation with turns t0, t1, …, each of its own commit; its revision."""
        revision = self.store.create(key, {"head": key}, scope=self.scope, **more)
        for number in range(turns):
            revision = self.append(key, [f"t{number}"], revision)
        return revision

    def append(self, key: str, ids: Sequence[str], expected: str, **more: Any) -> str:
        """Append turns that have nothing but ids."""
        return self.store.append(key, [turn(i) for i in ids], scope=self.scope, expected=expected, **more)

    def load(self, key: str = "k", **more: Any) -> StoredConversation:
        """Load from the test's scope."""
        return self.store.load(key, scope=self.scope, **more)

    def ids(self, key: str = "k") -> list[str]:
        """The ids of all turns on the line."""
        return names(self.load(key).turns)

    # -- documents ------------------------------------------------------------------------------------------

    def test_documents_come_back_as_given(self) -> None:
        document = {
            "z": 1,
            "a": [1, 2.5, -0.0, 1e300, 10**30, True, None, "", [], {}, {"é": "日本語 😀"}],
            "control": '\x00\x01\n\t"\\/\u2028\x7f',
            "lone": "\ud83d alone",
            "": {"nested": [{"deep": {"deeper": []}}]},
        }
        self.store.create(
            "k",
            document,
            scope=self.scope,
            turns=[turn("t", value=document)],
            annotations=[{"kind": "memory", "value": document}],
            metadata=document,
        )
        found = self.load()
        for read in (
            found.head,
            found.turns[0].data["value"],
            found.annotations[0]["value"],
            found.metadata,
            self.store.list(scope=self.scope)[0].metadata,
        ):
            assert read == document
            assert list(read) == list(document)
            assert str(read["a"]) == str(document["a"])

    def test_what_is_read_can_be_changed_without_harm(self) -> None:
        given = turn("t", values=[1])
        self.store.create("k", {"h": []}, scope=self.scope, turns=[given])
        given["values"].append(2)
        first = self.load()
        first.turns[0].data["values"].append(3)
        first.head["h"].append(4)
        again = self.load()
        assert again.turns[0].data == turn("t", values=[1])
        assert again.head == {"h": []}

    def test_what_is_no_json_is_refused_and_changes_nothing(self) -> None:
        revision = self.begin(turns=1)
        ring: list[Any] = []
        ring.append(ring)
        for value in (float("nan"), float("inf"), {1, 2}, b"bytes", {1: "number as a name"}, object(), ring):
            with refused(SerializationError):
                self.store.append("k", [turn("x", v=value)], scope=self.scope, expected=revision)
            with refused(SerializationError):
                self.store.append(
                    "k", scope=self.scope, expected=revision, annotations=[{"kind": "m", "v": value}]
                )
            with refused(SerializationError):
                self.store.create("other", {"v": value}, scope=self.scope)
        bad: Any = ["no object"]
        with refused(SerializationError):
            self.store.create("other", bad, scope=self.scope)
        assert self.load().revision == revision
        assert [row.key for row in self.store.list(scope=self.scope)] == ["k"]

    def test_a_large_turn(self) -> None:
        text = "0123456789abcdef" * 65_536
        self.store.create("k", {}, scope=self.scope, turns=[turn("t", text=text)])
        assert self.load().turns[0].data["text"] == text

    # -- creation -------------------------------------------------------------------------------------------

    def test_create_and_load(self) -> None:
        revision = self.store.create("k", {"a": 1}, scope=self.scope)
        found = self.load()
        assert found == StoredConversation("k", self.scope, revision, {"a": 1}, (), 0, (), {})

    def test_create_with_turns_is_one_commit(self) -> None:
        turns = [turn("a"), turn("b")]
        notes = [{"kind": "score", "turn": "b", "v": 1}, {"kind": "memory", "v": 2}]
        revision = self.store.create("k", {}, scope=self.scope, turns=turns, annotations=notes)
        found = self.load()
        assert found.revision == revision
        assert names(found.turns) == ["a", "b"]
        assert found.turns[1].annotations == (notes[0],)
        assert found.annotations == (notes[1],)
        with refused(UnknownPathError):
            self.store.create(
                "l", {}, scope=self.scope, turns=turns, annotations=[{"kind": "s", "turn": "?"}]
            )

    def test_a_taken_key_is_refused(self) -> None:
        revision = self.begin(turns=1)
        with refused(ConversationExistsError):
            self.store.create("k", {"head": "k"}, scope=self.scope)
        with refused(ConversationExistsError):
            self.store.create("k", {"head": "k"}, scope=self.scope, turns=[turn("t0")])
        assert self.load().revision == revision

    def test_repeating_a_creation_with_turns_is_harmless(self) -> None:
        revision = self.store.create("k", {"h": 1}, scope=self.scope, turns=[turn("a")])
        assert self.store.create("k", {"h": 1}, scope=self.scope, turns=[turn("a")]) == revision
        with refused(ConversationExistsError):
            self.store.create("k", {"h": 2}, scope=self.scope, turns=[turn("a")])
        assert self.ids() == ["a"]

    def test_of_several_creators_one_succeeds(self) -> None:
        won: list[str] = []

        def create() -> None:
            try:
                won.append(self.store.create("k", {}, scope=self.scope))
            except ConversationExistsError:
                return

        self.together(create, 4)
        assert won == [self.load().revision]

    def together(self, work: Callable[[], None], count: int) -> None:
        """Run something in several threads at once; their first error, if any."""
        errors: list[BaseException] = []
        barrier = threading.Barrier(count)

        def run() -> None:
            try:
                barrier.wait(timeout=60)
                work()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def test_what_does_not_exist_is_not_found(self) -> None:
        for operation in (
            lambda: self.load("nobody"),
            lambda: self.store.turns("nobody", scope=self.scope),
            lambda: self.append("nobody", ["t"], "rev"),
            lambda: self.store.fork("nobody", "new", scope=self.scope),
            lambda: self.store.erase("nobody", scope=self.scope),
            lambda: self.store.prune(key="nobody", keep=1, scope=self.scope),
            lambda: self.store.verify("nobody", scope=self.scope),
        ):
            with refused(ConversationNotFoundError) as caught:
                operation()
            assert isinstance(caught[0], LookupError)
            assert "nobody" in str(caught[0])

    # -- commits --------------------------------------------------------------------------------------------

    def test_every_commit_replaces_the_revision(self) -> None:
        seen = [self.begin()]
        seen.append(self.append("k", ["a"], seen[-1]))
        seen.append(self.append("k", ["b", "c"], seen[-1]))
        seen.append(self.append("k", [], seen[-1], annotations=[{"kind": "m"}]))
        seen.append(self.append("k", [], seen[-1], keep=2))
        seen.append(self.append("k", [], seen[-1], title="t"))
        seen.append(self.append("k", [], seen[-1], cost=0.5))
        assert len(set(seen)) == len(seen)
        assert self.load().revision == seen[-1]
        assert self.append("k", [], seen[-1]) == seen[-1]

    def test_an_outdated_commit_writes_nothing(self) -> None:
        old = self.begin(turns=1)
        new = self.append("k", ["theirs"], old)
        before = self.load()
        for more in ({}, {"keep": 0}, {"annotations": [{"kind": "m"}]}, {"title": "x"}):
            with refused(StaleStateError) as caught:
                self.append("k", ["mine"], old, **more)
            assert (caught[0].expected, caught[0].found) == (old, new)
            assert caught[0].turn == turn("mine")
        with refused(StaleStateError):
            self.append("k", [], old, keep=0)
        with refused(StaleStateError):
            self.append("k", ["x"], "made up")
        with refused(StaleStateError):
            self.append("k", [], old)
        assert self.load() == before

    def test_repeating_the_latest_commit_is_harmless(self) -> None:
        start = self.begin(turns=2)
        commits: list[dict[str, Any]] = [
            {"turns": [turn("a")]},
            {"turns": [turn("b"), turn("c")], "annotations": [{"kind": "m", "v": 1}]},
            {"annotations": [{"kind": "m", "v": 2}, {"kind": "s", "turn": "a"}]},
            {"keep": 3},
            {"turns": [turn("d")], "keep": 1, "cost": 1.5},
            {"title": "a title", "tags": ["x"]},
        ]
        for commit in commits:
            after = self.store.append("k", scope=self.scope, expected=start, **commit)
            found, [row] = self.load(), self.store.list(scope=self.scope)
            assert self.store.append("k", scope=self.scope, expected=start, **commit) == after
            assert self.load() == found
            assert self.store.list(scope=self.scope) == (row,)
            start = after

    def test_repeating_a_commit_after_others_returns_its_own_revision(self) -> None:
        start = self.begin(turns=1)
        mine = self.append("k", ["a", "b"], start)
        theirs = self.append("k", ["c"], mine)
        assert self.append("k", ["a", "b"], start) == mine
        with refused(StaleStateError):
            self.append("k", ["d"], mine)
        assert self.ids() == ["t0", "a", "b", "c"]
        assert self.load().revision == theirs

    def test_a_turn_that_stands_there_is_not_written_again(self) -> None:
        revision = self.append("k", ["a"], self.begin())
        assert self.append("k", ["a"], revision) == revision
        revision = self.append("k", ["b"], revision)
        assert self.append("k", ["a"], revision) == revision
        assert self.append("k", ["a", "b"], revision) == revision
        assert self.ids() == ["a", "b"]

    def test_an_id_stands_for_one_content(self) -> None:
        start = self.begin()
        revision = self.append("k", ["a"], start)
        for turns in ([turn("a", other=1)], [turn("b"), turn("a")], [turn("a"), turn("b")]):
            with refused(StoreError) as caught:
                self.store.append("k", turns, scope=self.scope, expected=revision)
            assert not isinstance(caught[0], StaleStateError)
        with refused(StaleStateError):
            self.store.append("k", [turn("a", other=1)], scope=self.scope, expected=start)
        with refused(ConfigurationError):
            self.append("k", ["x", "x"], revision)
        assert self.ids() == ["a"]

    def test_a_repetition_elsewhere_is_none(self) -> None:
        start = self.begin(turns=3)
        self.append("k", ["a"], start)
        with refused(StaleStateError):
            self.append("k", ["a"], start, keep=1)
        assert self.ids() == ["t0", "t1", "t2", "a"]

    def test_parameters_that_are_not_allowed(self) -> None:
        revision = self.begin(turns=1)
        bad: list[dict[str, Any]] = [
            {"turns": [{"no": "id"}]},
            {"turns": [{"id": 5}]},
            {"turns": [turn("x" * (MAX_KEY_BYTES + 1))]},
            {"annotations": [{"no": "kind"}]},
            {"annotations": [{"kind": "m", "path": 3}]},
            {"annotations": [{"kind": "m", "turn": 3}]},
            {"keep": -1},
            {"keep": True},
            {"cost": float("nan")},
            {"tags": "no list"},
            {"title": 3},
            {"expected": None},
        ]
        for more in bad:
            with refused(ConfigurationError):
                self.store.append("k", **{"scope": self.scope, "expected": revision, **more})
        for last in (-1, 1.5):
            wrong: Any = last
            with refused(ConfigurationError):
                self.load(last=wrong)
        assert self.load().revision == revision

    def test_concurrent_writers_lose_nothing(self) -> None:
        self.begin()
        done: list[str] = []

        def write() -> None:
            for _ in range(10):
                name = secrets.token_hex(8)
                while True:
                    try:
                        self.append("k", [name], self.load(last=0).revision)
                        break
                    except StaleStateError:
                        continue
                done.append(name)

        self.together(write, 4)
        assert len(done) == 40
        assert sorted(self.ids()) == sorted(done)
        assert [stored.index for stored in self.load().turns] == list(range(40))

    # -- moving back ----------------------------------------------------------------------------------------

    def test_moving_back_and_going_on(self) -> None:
        revision = self.begin(turns=5)
        revision = self.append("k", [], revision, keep=3)
        assert self.ids() == ["t0", "t1", "t2"]
        revision = self.append("k", ["x"], revision)
        revision = self.append("k", ["y", "z"], revision, keep=1)
        assert self.ids() == ["t0", "y", "z"]
        revision = self.append("k", ["w"], revision)
        revision = self.append("k", [], revision, keep=0)
        assert self.ids() == []
        self.append("k", ["new"], revision)
        found = self.load()
        assert (names(found.turns), found.total, found.turns[0].index) == (["new"], 1, 0)

    def test_an_undone_turn_can_come_back(self) -> None:
        revision = self.begin(turns=3)
        revision = self.append("k", [], revision, keep=1)
        revision = self.append("k", ["t1"], revision)
        assert self.ids() == ["t0", "t1"]
        self.store.append("k", [turn("t1", edited=True)], scope=self.scope, expected=revision, keep=1)
        assert self.load().turns[1].data == turn("t1", edited=True)

    def test_positions_that_do_not_exist(self) -> None:
        revision = self.begin(turns=2)
        with refused(UnknownPathError):
            self.append("k", ["x"], revision, keep=3)
        with refused(UnknownPathError):
            self.store.fork("k", "f", scope=self.scope, at=3)
        assert self.load().revision == revision
        assert len(self.store.list(scope=self.scope)) == 1

    def test_many_moves(self) -> None:
        revision = self.begin(turns=2)
        expected = ["t0", "t1"]
        for number in range(30):
            keep = number * 7 % (len(expected) + 1)
            expected = [*expected[:keep], f"m{number}a", f"m{number}b"]
            revision = self.append("k", expected[-2:], revision, keep=keep)
            assert self.ids() == expected
            assert names(self.load(last=3).turns) == expected[-3:]
        assert self.store.verify("k", scope=self.scope).ok

    # -- windows --------------------------------------------------------------------------------------------

    def test_windows(self) -> None:
        revision = self.begin(turns=6)
        self.append("k", ["x", "y", "z"], revision, keep=4)
        whole = ["t0", "t1", "t2", "t3", "x", "y", "z"]
        for last in range(10):
            found = self.load(last=last)
            assert names(found.turns) == whole[max(0, 7 - last) :]
            assert found.total == 7
            assert [row.index for row in found.turns] == list(range(7))[max(0, 7 - last) :]
        for before in range(9):
            for limit in (0, 1, 3, 20):
                rows = self.store.turns("k", scope=self.scope, before=before, limit=limit)
                start = max(0, min(before, 7) - limit)
                assert names(rows) == whole[start : min(before, 7)]
                assert [row.index for row in rows] == list(range(7))[start : min(before, 7)]
        assert names(self.store.turns("k", scope=self.scope)) == whole

    def test_a_long_conversation_page_by_page(self) -> None:
        self.begin()
        revision = self.load().revision
        for number in range(0, 500, 50):
            revision = self.append("k", [f"n{i}" for i in range(number, number + 50)], revision)
        read, before = list(self.load(last=7).turns), 493
        while before:
            page = self.store.turns("k", scope=self.scope, before=before, limit=60)
            read, before = [*page, *read], page[0].index
        assert names(read) == [f"n{i}" for i in range(500)]

    # -- annotations ----------------------------------------------------------------------------------------

    def test_the_latest_of_a_kind_and_path_counts(self) -> None:
        revision = self.begin(turns=2)
        notes = [
            {"kind": "memory", "path": "a", "v": 1},
            {"kind": "memory", "path": "b", "v": 2},
            {"kind": "memory", "v": 3},
            {"kind": "memory", "path": "a", "v": 4},
            {"kind": "score", "turn": "t0", "v": 5},
            {"kind": "score", "turn": "t0", "path": "a", "v": 6},
            {"kind": "score", "turn": "t1", "v": 7},
            {"kind": "score", "turn": "t0", "v": 8},
        ]
        for note in notes:
            revision = self.append("k", [], revision, annotations=[note])
        found = self.load()
        assert found.annotations == (notes[1], notes[2], notes[3])
        assert found.turns[0].annotations == (notes[5], notes[7])
        assert found.turns[1].annotations == (notes[6],)
        assert self.load(last=1).annotations == found.annotations
        assert self.store.turns("k", scope=self.scope, before=1)[0] == found.turns[0]

    def test_names_of_annotations_are_not_confused(self) -> None:
        notes = [
            {"kind": "a", "path": "b"},
            {"kind": "a.b"},
            {"kind": "a", "path": ""},
            {"kind": "a"},
            {"kind": "", "path": "a"},
            {"kind": 'a","b'},
            {"kind": "é\x00"},
        ]
        self.store.create("k", {}, scope=self.scope, annotations=notes)
        assert self.load().annotations == tuple(notes)

    def test_an_annotation_needs_its_turn(self) -> None:
        revision = self.begin(turns=3)
        self.begin("other", turns=1)
        revision = self.append("k", [], revision, keep=2)
        for wrong in ("t2", "nobody"):
            with refused(UnknownPathError):
                self.append("k", ["x"], revision, annotations=[{"kind": "s", "turn": wrong}])
        with refused(UnknownPathError):
            self.append("k", ["x"], revision, keep=1, annotations=[{"kind": "s", "turn": "t1"}])
        assert self.load().revision == revision
        self.append("k", ["x"], revision, keep=1, annotations=[{"kind": "s", "turn": "x"}])
        assert self.load().turns[1].annotations == ({"kind": "s", "turn": "x"},)

    def test_annotations_of_a_position_come_back_with_it(self) -> None:
        revision = self.begin()
        for number in range(4):
            note = {"kind": "memory", "v": number}
            revision = self.append("k", [f"t{number}"], revision, annotations=[note])
        for keep in (3, 1, 0):
            revision = self.append("k", [], revision, keep=keep)
            expected = ({"kind": "memory", "v": keep - 1},) if keep else ()
            assert self.load().annotations == expected
        revision = self.append("k", ["again"], revision)
        assert self.load().annotations == ()
        revision = self.append("k", [], revision, annotations=[{"kind": "memory", "v": "late"}])
        revision = self.append("k", ["more"], revision)
        assert self.load().annotations == ({"kind": "memory", "v": "late"},)
        self.append("k", [], revision, keep=0)
        assert self.load().annotations == ()

    def test_a_rating_stays_with_its_turn(self) -> None:
        revision = self.begin(turns=6)
        revision = self.append("k", ["x"], revision, keep=5)
        revision = self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t2", "v": "late"}])
        revision = self.append("k", [], revision, keep=4)
        assert self.load().turns[2].annotations == ({"kind": "s", "turn": "t2", "v": "late"},)
        revision = self.append("k", ["y"], revision, keep=3)
        assert self.load(last=2).turns[0].annotations == ({"kind": "s", "turn": "t2", "v": "late"},)
        revision = self.append("k", [], revision, keep=2)
        revision = self.append("k", ["t2"], revision)
        assert self.load().turns[2].annotations == ()

    # -- forks ----------------------------------------------------------------------------------------------

    def test_a_fork_shares_and_is_independent(self) -> None:
        revision = self.begin(turns=3, title="T", tags=["x"], metadata={"m": 1}, cost=2.0)
        forked = self.store.fork("k", "f", scope=self.scope)
        assert forked == self.load("f").revision != revision
        revision = self.append("k", ["mine"], revision)
        forked = self.append("f", ["theirs"], forked)
        self.append("f", ["both"], forked)
        self.append("k", ["both"], revision)
        assert self.ids() == ["t0", "t1", "t2", "mine", "both"]
        assert self.ids("f") == ["t0", "t1", "t2", "theirs", "both"]
        fork, source = self.store.list(scope=self.scope)
        assert (fork.source, source.source) == ("k", None)
        assert (fork.title, fork.tags, fork.metadata, fork.cost) == ("T", ("x",), {"m": 1}, 0.0)

    def test_a_fork_of_an_earlier_position(self) -> None:
        revision = self.begin()
        for number in range(5):
            note = {"kind": "memory", "v": number}
            revision = self.append("k", [f"t{number}"], revision, annotations=[note])
        for at in (0, 2, 5):
            self.store.fork("k", f"f{at}", scope=self.scope, at=at)
            found = self.load(f"f{at}")
            assert names(found.turns) == [f"t{i}" for i in range(at)]
            assert found.annotations == (({"kind": "memory", "v": at - 1},) if at else ())
        self.append("f2", ["x"], self.load("f2").revision, annotations=[{"kind": "s", "turn": "t1"}])
        assert self.load("f2").turns[1].annotations == ({"kind": "s", "turn": "t1"},)
        assert self.load().turns[1].annotations == ()

    def test_what_happens_to_the_source_later_does_not_reach_a_fork(self) -> None:
        revision = self.begin(turns=3)
        revision = self.append("k", [], revision, annotations=[{"kind": "m", "v": "before"}])
        revision = self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t1", "v": "before"}])
        self.store.fork("k", "f", scope=self.scope)
        self.store.fork("k", "g", scope=self.scope)
        self.append("g", ["own"], self.load("g").revision)
        before, gone_on = self.load("f"), self.load("g")
        assert before.annotations == ({"kind": "m", "v": "before"},)
        revision = self.append("k", [], revision, annotations=[{"kind": "m", "v": "after"}])
        revision = self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t1", "v": "after"}])
        revision = self.append("k", ["x"], revision)
        assert (self.load("f"), self.load("g")) == (before, gone_on)
        revision = self.append("k", ["y"], revision, keep=1)
        assert (self.load("f"), self.load("g")) == (before, gone_on)
        self.store.prune(key="k", keep=1, scope=self.scope)
        assert (self.load("f"), self.load("g")) == (before, gone_on)
        self.store.erase("k", scope=self.scope, forks="keep")
        assert (self.load("f"), self.load("g")) == (before, gone_on)
        assert self.store.verify("f", scope=self.scope).ok

    def test_forks_of_forks(self) -> None:
        self.begin("a", turns=2)
        self.store.fork("a", "b", scope=self.scope)
        self.append("b", ["b0", "b1"], self.load("b").revision)
        self.store.fork("b", "c", scope=self.scope, at=3)
        self.store.fork("c", "d", scope=self.scope)
        self.append("d", ["d0"], self.load("d").revision)
        self.append("c", ["c0"], self.load("c").revision, keep=1)
        assert self.ids("d") == ["t0", "t1", "b0", "d0"]
        assert self.ids("c") == ["t0", "c0"]
        assert self.ids("b") == ["t0", "t1", "b0", "b1"]
        assert self.store.verify(scope=self.scope).ok

    def test_what_a_fork_can_be_given(self) -> None:
        self.begin(turns=1)
        self.store.fork("k", "f", scope=self.scope, head={"n": 1}, metadata={"n": 2}, title="new", tags=["t"])
        found, [row, _] = self.load("f"), self.store.list(scope=self.scope)
        assert (found.head, found.metadata) == ({"n": 1}, {"n": 2})
        assert (row.title, row.tags) == ("new", ("t",))
        assert self.load().head == {"head": "k"}

    def test_a_fork_needs_a_free_key(self) -> None:
        self.begin(turns=1)
        self.begin("f", turns=2)
        for new_key in ("f", "k"):
            with refused(ConversationExistsError):
                self.store.fork("k", new_key, scope=self.scope)
        assert self.ids("f") == ["t0", "t1"]

    # -- listing --------------------------------------------------------------------------------------------

    def test_summaries(self) -> None:
        revision = self.begin(title="é\x00", tags=["b", "a"], metadata={"m": [1]}, cost=0.25)
        [row] = self.store.list(scope=self.scope)
        assert (row.key, row.scope, row.title, row.tags) == ("k", self.scope, "é\x00", ("b", "a"))
        assert (row.turns, row.cost, row.metadata, row.source) == (0, 0.25, {"m": [1]}, None)
        assert row.created == row.updated
        assert row.created.utcoffset() == timedelta(0)
        revision = self.append("k", ["a", "b"], revision, cost=0.5)
        revision = self.append("k", [], revision, keep=1, title="new", tags=[])
        [after] = self.store.list(scope=self.scope)
        assert (after.turns, after.cost, after.title, after.tags) == (1, 0.75, "new", ())
        assert after.created == row.created
        assert after.updated >= row.updated
        found = self.load(last=0)
        assert (found.title, found.tags, found.cost) == ("new", (), 0.75)

    def test_listing_in_the_order_of_keys(self) -> None:
        keys = ["b", "a", "é", "Z", "", "\uffff", "😀", "ab", "a\x00"]
        for key in keys:
            self.begin(key)
        assert [row.key for row in self.store.list(scope=self.scope)] == sorted(keys)
        paged: list[str] = []
        after: str | None = None
        while page := self.store.list(scope=self.scope, after=after, limit=2):
            paged += [row.key for row in page]
            after = page[-1].key
        assert paged == sorted(keys)
        assert self.store.list(scope=self.scope, limit=0) == ()

    def test_listing_the_latest_first(self) -> None:
        for key in ("a", "b", "c"):
            self.begin(key)
        self.append("b", ["x"], self.load("b").revision)
        rows = self.store.list(scope=self.scope, order="updated")
        assert rows[0].key == "b"
        assert [row.updated for row in rows] == sorted((row.updated for row in rows), reverse=True)
        [b] = self.store.list(scope=self.scope, order="updated", limit=1)
        assert b.key == "b"
        assert [row.key for row in self.store.list(scope=self.scope, since=b.updated)] == ["b"]
        assert self.store.list(scope=self.scope, since=FUTURE) == ()
        wrong: Any = "title"
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, order=wrong)
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, order="updated", after="a")
        with refused(ConfigurationError):
            self.store.list(scope=self.scope, since=datetime(2026, 1, 1))

    # -- keys and scopes ------------------------------------------------------------------------------------

    def test_strange_keys(self) -> None:
        for number, key in enumerate(STRANGE_KEYS):
            self.store.create(key, {"n": number}, scope=self.scope, turns=[turn(key, n=number)])
        assert [row.key for row in self.store.list(scope=self.scope)] == sorted(STRANGE_KEYS)
        for number, key in enumerate(STRANGE_KEYS):
            found = self.load(key)
            assert (found.key, found.head, found.turns[0].id) == (key, {"n": number}, key)
            self.store.append(key, [turn("t")], scope=self.scope, expected=found.revision)
            with self.store.lease(key, scope=self.scope, wait=0) as lease:
                note = {"kind": "s", "turn": key}
                revision = self.load(key).revision
                self.append(key, [], revision, annotations=[note], fence=lease.token)
            assert self.load(key).turns[0].annotations == (note,)
        assert self.store.verify(scope=self.scope).ok
        for key in STRANGE_KEYS:
            self.store.fork(key, key[: MAX_KEY_BYTES - 2] + "+f", scope=self.scope)
            assert self.store.erase(key, scope=self.scope, forks="keep") == (key,)
        assert len(self.store.list(scope=self.scope)) == len(STRANGE_KEYS)

    def test_strange_scopes(self) -> None:
        scopes = [f"{self.scope[:20]}{key}"[:MAX_KEY_BYTES] for key in STRANGE_KEYS]
        try:
            for scope in scopes:
                self.store.create("k", {"scope": scope}, scope=scope)
            for scope in scopes:
                assert self.store.load("k", scope=scope).head == {"scope": scope}
                assert len(self.store.list(scope=scope)) == 1
            assert [scope for scope in self.store.scopes() if scope in scopes] == sorted(scopes)
        finally:
            for scope in scopes:
                self.store.expire(before=FUTURE, scope=scope)
        assert not set(scopes) & set(self.store.scopes())

    def test_keys_that_are_not_allowed(self) -> None:
        for key in ("k" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "\ud800", 5, None, b"k"):
            wrong: Any = key
            for operation in (
                lambda wrong=wrong: self.store.create(wrong, {}, scope=self.scope),
                lambda wrong=wrong: self.store.create("k", {}, scope=wrong),
                lambda wrong=wrong: self.load(wrong),
                lambda wrong=wrong: self.store.fork("k", wrong, scope=self.scope),
                lambda wrong=wrong: self.store.lease(wrong, scope=self.scope).__enter__(),
            ):
                with refused(ConfigurationError):
                    operation()
        assert self.store.list(scope=self.scope) == ()

    def test_scopes_do_not_see_each_other(self) -> None:
        revision = self.begin(turns=2)
        before, other = self.load(), self.scope + "-other"
        with refused(ConversationNotFoundError):
            self.store.load("k", scope=other)
        with refused(ConversationNotFoundError):
            self.store.turns("k", scope=other)
        with refused(ConversationNotFoundError):
            self.store.append("k", [turn("x")], scope=other, expected=revision)
        with refused(ConversationNotFoundError):
            self.store.fork("k", "f", scope=other)
        with refused(ConversationNotFoundError):
            self.store.erase("k", scope=other, forks="erase")
        with refused(ConversationNotFoundError):
            self.store.prune(key="k", keep=0, scope=other)
        with refused(ConversationNotFoundError):
            self.store.verify("k", scope=other)
        assert self.store.list(scope=other) == ()
        assert self.store.prune(keep=0, scope=other) == 0
        assert self.store.expire(before=FUTURE, scope=other) == ()
        theirs = self.store.create("k", {"theirs": True}, scope=other, turns=[turn("t0", theirs=True)])
        with self.store.lease("k", scope=other, wait=0), self.store.lease("k", scope=self.scope, wait=0):
            self.store.append("k", [], scope=other, expected=theirs, keep=0)
        self.store.erase("k", scope=other)
        assert self.load() == before

    # -- deleting -------------------------------------------------------------------------------------------

    def test_erase(self) -> None:
        revision = self.begin(turns=3)
        self.begin("other", turns=1)
        assert self.store.erase("k", scope=self.scope) == ("k",)
        with refused(ConversationNotFoundError):
            self.load()
        assert [row.key for row in self.store.list(scope=self.scope)] == ["other"]
        assert self.ids("other") == ["t0"]
        new = self.begin()
        assert new != revision
        with refused(StaleStateError):
            self.append("k", ["x"], revision)
        assert self.ids() == []

    def test_erasing_what_has_forks(self) -> None:
        self.begin(turns=3)
        self.store.fork("k", "f", scope=self.scope, at=2)
        self.store.fork("f", "g", scope=self.scope)
        with refused(StoreError) as caught:
            self.store.erase("k", scope=self.scope)
        assert "'f'" in str(caught[0])
        assert self.ids() == ["t0", "t1", "t2"]
        assert self.store.erase("f", scope=self.scope, forks="keep") == ("f",)
        assert self.ids("g") == ["t0", "t1"]
        self.append("g", ["g0"], self.load("g").revision)
        self.store.fork("k", "f", scope=self.scope)
        self.store.fork("f", "h", scope=self.scope)
        assert self.store.erase("k", scope=self.scope, forks="erase") == ("f", "h", "k")
        assert [row.key for row in self.store.list(scope=self.scope)] == ["g"]
        assert self.ids("g") == ["t0", "t1", "g0"]
        wrong: Any = "drop"
        with refused(ConfigurationError):
            self.store.erase("g", scope=self.scope, forks=wrong)

    def test_expire(self) -> None:
        self.begin("old", turns=2)
        self.store.fork("old", "fork", scope=self.scope)
        self.begin("new", turns=1)
        self.append("fork", ["x"], self.load("fork").revision)
        [limit] = [row.updated for row in self.store.list(scope=self.scope) if row.key == "old"]
        assert self.store.expire(before=limit, scope=self.scope) == ()
        limit += timedelta(microseconds=1)
        assert self.store.expire(before=limit, scope=self.scope) == ("old",)
        assert self.ids("fork") == ["t0", "t1", "x"]
        assert self.store.expire(before=FUTURE, scope=self.scope) == ("fork", "new")

    def test_prune(self) -> None:
        revision = self.begin(turns=6)
        revision = self.append("k", ["x"], revision, keep=5)
        revision = self.append("k", [], revision, annotations=[{"kind": "m", "v": 1}])
        revision = self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t0"}])
        self.begin("short", turns=1)
        assert self.store.prune(keep=2, scope=self.scope) == 4
        found = self.load()
        assert (names(found.turns), found.first, found.total) == (["t4", "x"], 4, 6)
        assert [row.index for row in found.turns] == [4, 5]
        assert found.annotations == ({"kind": "m", "v": 1},)
        assert (found.revision, self.ids("short")) == (revision, ["t0"])
        assert self.store.turns("k", scope=self.scope, before=4) == ()
        with refused(UnknownPathError):
            self.append("k", [], revision, keep=3)
        with refused(UnknownPathError):
            self.append("k", [], revision, annotations=[{"kind": "s", "turn": "t0"}])
        with refused(UnknownPathError):
            self.store.fork("k", "f", scope=self.scope, at=3)
        revision = self.append("k", ["y"], revision, keep=4)
        assert (self.ids(), self.load().total) == (["y"], 5)
        assert self.store.prune(key="k", keep=0, scope=self.scope) == 1
        self.append("k", ["z"], revision)
        assert [(row.index, row.id) for row in self.load().turns] == [(5, "z")]
        assert self.store.verify(scope=self.scope).ok

    # -- verify ---------------------------------------------------------------------------------------------

    def test_verify(self) -> None:
        revision = self.begin(turns=4)
        self.append("k", ["x"], revision, keep=2)
        self.store.fork("k", "f", scope=self.scope)
        report = self.store.verify(scope=self.scope)
        assert report.ok
        assert (report.conversations, report.turns, report.problems) == (2, 6, ())
        assert report.settings["backend"]
        assert self.store.verify("f", scope=self.scope).turns == 3

    # -- leases ---------------------------------------------------------------------------------------------

    def test_a_lease_excludes_others(self) -> None:
        with self.store.lease("k", scope=self.scope, wait=0) as lease:
            assert (lease.key, lease.scope) == ("k", self.scope)
            for wait in (0, 0.05):
                with refused(LeaseError), self.store.lease("k", scope=self.scope, wait=wait):
                    raise AssertionError("two holders at once")
            with self.store.lease("other", scope=self.scope, wait=0):
                pass
        with self.store.lease("k", scope=self.scope, wait=0) as again:
            assert again.token > lease.token

    def test_a_lease_is_given_back_after_an_error(self) -> None:
        with refused(KeyError), self.store.lease("k", scope=self.scope, wait=0):
            raise KeyError
        with self.store.lease("k", scope=self.scope, wait=0):
            pass

    def test_waiting_for_a_lease(self) -> None:
        self.begin()
        inside: list[int] = []

        def work() -> None:
            for _ in range(5):
                with self.store.lease("k", scope=self.scope) as lease:
                    inside.append(1)
                    assert len(inside) == 1
                    revision = self.load(last=0).revision
                    self.append("k", [secrets.token_hex(8)], revision, fence=lease.token)
                    inside.clear()

        self.together(work, 4)
        assert self.load().total == 20

    def test_a_commit_needs_its_fence(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope) as lease:
            revision = self.append("k", ["a"], revision, fence=lease.token)
            with refused(LeaseError):
                self.append("k", ["b"], revision, fence=lease.token - 1)
        with refused(LeaseError):
            self.append("k", ["b"], revision, fence=lease.token)
        revision = self.append("k", ["b"], revision)
        assert self.append("k", ["b"], self.load().revision) == revision
        assert self.ids() == ["a", "b"]

    def test_a_held_lease_is_renewed(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope, ttl=0.3) as lease:
            with refused(LeaseError), self.store.lease("k", scope=self.scope, wait=1.0):
                raise AssertionError("taken over although it was held")
            self.append("k", ["a"], revision, fence=lease.token)

    def test_a_crashed_holders_lease_is_taken_over(self) -> None:
        revision = self.begin()
        crashed = self.store.lease("k", scope=self.scope, ttl=0.2)
        old = crashed.__enter__()
        self.store.close()
        self.store = self.reopen()
        with self.store.lease("k", scope=self.scope, wait=60) as lease:
            assert lease.token > old.token
            with refused(LeaseError):
                self.append("k", ["late"], revision, fence=old.token)
            crashed.__exit__(None, None, None)
            self.append("k", ["good"], revision, fence=lease.token)
        assert self.ids() == ["good"]

    def test_a_repetition_needs_no_fence(self) -> None:
        revision = self.begin()
        with self.store.lease("k", scope=self.scope) as lease:
            after = self.append("k", ["a"], revision, fence=lease.token)
        assert self.append("k", ["a"], revision, fence=lease.token) == after

    def test_lease_times_that_are_not_allowed(self) -> None:
        for more in ({"wait": -1}, {"ttl": 0}, {"ttl": float("nan")}):
            with refused(ConfigurationError), self.store.lease("k", scope=self.scope, **more):
                raise AssertionError("entered")

    # -- handles --------------------------------------------------------------------------------------------

    def test_conversations_survive_closing(self) -> None:
        revision = self.begin(turns=3)
        revision = self.append("k", ["x"], revision, keep=2, annotations=[{"kind": "m"}])
        self.store.fork("k", "f", scope=self.scope, at=1)
        before = [self.load(), self.load("f"), self.store.list(scope=self.scope)]
        self.store.close()
        self.store.close()
        self.store = self.open_store()
        assert [self.load(), self.load("f"), self.store.list(scope=self.scope)] == before
        self.append("k", ["y"], revision)

    def test_handles_see_each_others_commits(self) -> None:
        revision = self.begin(turns=1)
        with self.open_store() as other:
            assert other.load("k", scope=self.scope) == self.load()
            new = other.append("k", [turn("x")], scope=self.scope, expected=revision)
            assert self.ids() == ["t0", "x"]
            with refused(StaleStateError):
                self.append("k", ["y"], revision)
            with other.lease("k", scope=self.scope), refused(LeaseError):
                self.store.lease("k", scope=self.scope, wait=0).__enter__()
            self.append("k", ["y"], new)
