"""Promises of stores: documents come back as they were given, and a conversation is begun once."""

from __future__ import annotations

from typing import Any

from ...errors import ConversationExistsError, ConversationNotFoundError, SerializationError, UnknownPathError
from ...stores.base import StoredConversation
from .case import StoreCase, names, refused, turn


class Documents(StoreCase):
    """What is given comes back."""

    # -- documents ---------------------------------------------------------------------------------------

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

    # -- creation ----------------------------------------------------------------------------------------

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
