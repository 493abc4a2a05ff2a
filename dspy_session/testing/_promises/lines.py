"""Promises of stores: lines of turns, what is said of them, and lines that share a beginning."""

from __future__ import annotations

from ...errors import ConversationExistsError, StaleStateError, StoreError, UnknownPathError
from .case import StoreCase, names, refused, turn


class Lines(StoreCase):
    """Positions, windows, annotations and forks."""

    # -- moving back -------------------------------------------------------------------------------------

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

    def test_which_ids_are_on_the_line_after_moving_back(self) -> None:
        turns = [turn(f"t{number}") for number in range(3)]
        revision = self.store.create("k", {}, scope=self.scope, turns=turns)
        revision = self.append("k", ["x", "y"], revision, keep=1)
        assert self.append("k", ["t0"], revision) == revision
        with refused(StoreError):
            self.store.append("k", [turn("t0", other=1)], scope=self.scope, expected=revision)
        for gone in ("t1", "t2"):
            with refused(UnknownPathError):
                self.append("k", [], revision, annotations=[{"kind": "s", "turn": gone}])
        self.append("k", ["t1"], revision, annotations=[{"kind": "s", "turn": "t0"}])
        found = self.load()
        assert names(found.turns) == ["t0", "x", "y", "t1"]
        assert found.turns[0].annotations == ({"kind": "s", "turn": "t0"},)

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

    # -- windows -----------------------------------------------------------------------------------------

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

    # -- annotations -------------------------------------------------------------------------------------

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
        for fine in ({"kind": "m"}, {"kind": "s", "turn": "t0"}, {"kind": "s", "turn": "x"}):
            with refused(UnknownPathError):
                self.append("k", ["x"], revision, annotations=[fine, {"kind": "s", "turn": "nobody"}])
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

    def test_annotations_alone_count_where_they_were_written(self) -> None:
        revision = self.begin()
        for number in range(3):
            note = {"kind": "m", "v": number}
            revision = self.append("k", [f"t{number}"], revision, annotations=[note])
        forked = self.store.fork("k", "f", scope=self.scope, at=2)
        said = [{"kind": "m", "v": "f"}, {"kind": "s", "turn": "t0", "v": "f"}]
        self.append("f", [], forked, annotations=said)
        found = self.load("f")
        assert (found.annotations, found.turns[0].annotations) == ((said[0],), (said[1],))
        assert self.load().annotations == ({"kind": "m", "v": 2},)
        revision = self.append("k", [], revision, keep=1)
        said = [{"kind": "m", "v": "k"}, {"kind": "s", "turn": "t0", "v": "k"}]
        revision = self.append("k", [], revision, annotations=said)
        found = self.load()
        assert (found.annotations, found.turns[0].annotations) == ((said[0],), (said[1],))
        revision = self.append("k", ["x", "y"], revision)
        assert self.load().annotations == (said[0],)
        self.append("k", [], revision, keep=0)
        assert self.load().annotations == ()

    def test_annotations_are_carried_to_where_the_line_goes_on(self) -> None:
        note = {"kind": "m", "v": "early"}
        revision = self.append("k", ["a"], self.begin(), annotations=[note])
        revision = self.append("k", ["b"], revision, annotations=[{"kind": "m", "v": "late"}])
        revision = self.append("k", ["x", "y", "z"], revision, keep=1)
        for keep in (4, 3, 2, 1):
            revision = self.append("k", [], revision, keep=keep)
            assert self.load().annotations == (note,)

    def test_annotations_of_a_commit_find_each_of_its_turns(self) -> None:
        notes = [{"kind": "s", "turn": name, "v": name} for name in "bca"]
        self.append("k", ["a", "b", "c"], self.begin(turns=1), annotations=notes)
        assert [row.annotations for row in self.load().turns] == [(), (notes[2],), (notes[0],), (notes[1],)]

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

    # -- forks -------------------------------------------------------------------------------------------

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

    def test_the_commits_of_its_source_are_none_of_a_fork(self) -> None:
        start = self.begin()
        latest = self.append("k", [], start, title="T")
        forked = self.store.fork("k", "f", scope=self.scope)
        assert forked not in (start, latest)
        for outdated in (start, latest):
            with refused(StaleStateError):
                self.append("f", [], outdated, title="T")
        assert self.load("f").revision == forked

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

    def test_a_fork_knows_the_turns_that_it_inherited(self) -> None:
        self.begin(turns=2)
        revision = self.store.fork("k", "f", scope=self.scope)
        assert self.append("f", ["t1"], revision) == revision
        with refused(StoreError):
            self.store.append("f", [turn("t1", other=1)], scope=self.scope, expected=revision)
        self.append("f", ["x"], revision, annotations=[{"kind": "s", "turn": "t0"}])
        assert self.load("f").turns[0].annotations == ({"kind": "s", "turn": "t0"},)

    def test_a_fork_of_what_was_pruned(self) -> None:
        self.begin(turns=5)
        self.store.prune(key="k", keep=3, scope=self.scope)
        for at, total in ((None, 5), (4, 4), (2, 2)):
            forked = self.store.fork("k", f"f{at}", scope=self.scope, at=at)
            self.append(f"f{at}", ["x"], forked)
            found = self.load(f"f{at}")
            assert (found.first, found.total) == (2, total + 1)
            assert [row.index for row in found.turns] == list(range(2, total + 1))
            assert names(found.turns) == [*(f"t{i}" for i in range(2, total)), "x"]
        with refused(UnknownPathError):
            self.store.fork("k", "f", scope=self.scope, at=1)

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
