"""Copying between stores, and the `store` commands."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dspy_session.errors import ConversationExistsError, ConversationNotFoundError
from dspy_session.stores import Store, open_store
from dspy_session.stores.commands import add_commands
from dspy_session.stores.copying import copy_conversation, copy_store, export_conversation

from .backends import PERSISTENT, address


def fill(store: Store, scope: str = "") -> None:
    revision = store.create(
        "k",
        {"h": 1},
        scope=scope,
        title="A title",
        tags=["x"],
        metadata={"m": 1},
        cost=0.5,
        turns=[{"id": "t0"}],
    )
    for number in range(1, 450):
        note = {"kind": "score", "turn": f"t{number}", "v": number}
        revision = store.append(
            "k", [{"id": f"t{number}"}], scope=scope, expected=revision, annotations=[note], cost=1.0
        )
    store.append("k", scope=scope, expected=revision, keep=440, annotations=[{"kind": "m", "v": "é"}])
    store.fork("k", "f", scope=scope, at=3)


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(PERSISTENT[:3], 2)))
def test_copying_between_backends(source: str, target: str) -> None:
    with (
        address(source) as here,
        address(target) as there,
        open_store(here) as one,
        open_store(there) as two,
    ):
        fill(one)
        fill(one, "tenant")
        assert copy_store(one, two) == 4
        for scope in ("", "tenant"):
            for key in ("k", "f"):
                assert export_conversation(two, key, scope=scope) == export_conversation(
                    one, key, scope=scope
                )
        assert two.verify().ok
        assert two.load("f").revision != one.load("f").revision


def test_a_copy_that_was_broken_off_goes_on() -> None:
    one, two = open_store("memory://"), open_store("memory://")
    fill(one)
    append, calls = two.append, itertools.count()

    def fail_at_the_third(*args: object, **options: object) -> str:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return append(*args, **options)  # type: ignore[arg-type]

    two.append = fail_at_the_third  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        copy_conversation(one, two, "k")
    assert two.load("k").total == 400
    assert copy_conversation(one, two, "k") == 40
    assert export_conversation(two, "k") == export_conversation(one, "k")


def test_a_copy_overwrites_nothing() -> None:
    one, two = open_store("memory://"), open_store("memory://")
    fill(one)
    two.create("k", {"h": 1}, metadata={"m": 1}, turns=[{"id": "somebody else's"}])
    before = two.load("k")
    with pytest.raises(ConversationExistsError):
        copy_conversation(one, two, "k")
    with pytest.raises(ConversationNotFoundError):
        copy_conversation(one, two, "nobody")
    assert two.load("k") == before
    assert copy_conversation(one, two, "k", new_key="k2") == 440
    with pytest.raises(ConversationExistsError):
        copy_conversation(one, two, "k", new_key="k2")


def test_a_pruned_conversation_can_be_copied() -> None:
    one, two = open_store("memory://"), open_store("memory://")
    fill(one)
    one.prune(key="k", keep=10)
    assert copy_conversation(one, two, "k") == 10
    assert [turn.id for turn in two.load("k").turns] == [turn.id for turn in one.load("k").turns]
    assert two.load("k").turns[0].index == 0


# -- commands -----------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/chat.db"
    with open_store(url) as store:
        fill(store)
        store.create("evil\x1b[2Jkey", {"h": "\x9b\x07"}, scope="t\n", title="two\nlines")
    return url


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("DSPY_SESSION_STORE", url)

    def run(*words: str) -> int:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers())
        arguments = parser.parse_args(["store", *words])
        status = arguments.run(arguments)
        assert isinstance(status, int)
        return status

    return run


def test_ls(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert any("440 turns" in line and "A title #x" in line for line in lines)
    assert any("(fork of k)" in line for line in lines)
    assert any(r"t\n/evil\x1b[2Jkey" in line and r"two\nlines" in line for line in lines)
    assert run("ls", "--scope", "", "--limit", "1") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_show(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "k", "--limit", "2") == 0
    out = capsys.readouterr().out
    assert '439: {"id": "t439"}' in out
    assert "437:" not in out
    assert 'annotation: {"kind": "m", "v": "é"}' in out
    assert run("show", "evil\x1b[2Jkey", "--scope", "t\n") == 0
    out = capsys.readouterr().out
    assert all(character.isprintable() for line in out.split("\n") for character in line)


def test_fork_prune_and_erase(run: Callable[..., int], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fork", "k", "what-if", "--at", "5") == 0
    assert run("prune", "--keep", "2", "--key", "what-if") == 2
    assert run("prune", "--keep", "2", "--key", "what-if", "--yes") == 0
    assert "3 turns dropped" in capsys.readouterr().out
    assert run("erase", "k") == 2
    assert run("erase", "k", "--yes") == 1
    assert "'f', 'what-if'" in capsys.readouterr().err
    assert run("erase", "k", "--yes", "--forks", "keep") == 0
    with open_store(url) as store:
        assert [row.key for row in store.list()] == ["f", "what-if"]
        assert [turn.id for turn in store.load("what-if").turns] == ["t3", "t4"]


def test_export(
    run: Callable[..., int], url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export") == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with open_store(url) as store:
        expected = [
            export_conversation(store, row.key, scope=s)
            for s in store.scopes()
            for row in store.list(scope=s)
        ]
    assert documents == expected
    target = tmp_path / "out.jsonl"
    assert run("export", "--key", "f", "--output", str(target)) == 0
    assert [turn["data"]["id"] for turn in json.loads(target.read_text())["turns"]] == ["t0", "t1", "t2"]
    assert run("export", "--key", "f", "--output", str(target)) == 1
    assert "exists" in capsys.readouterr().err


def test_verify(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify") == 0
    assert "3 conversations, 443 turns, 0 problems" in capsys.readouterr().out
    assert run("verify", "--key", "f") == 0
    assert run("verify", "--key", "nobody") == 1
    assert "nobody" in capsys.readouterr().err


def test_copy(run: Callable[..., int], url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    assert run("copy", "--to", other, "--key", "f") == 0
    assert run("copy", "--to", other, "--scope", "t\n") == 0
    with open_store(other) as store:
        assert store.scopes() == ("", "t\n")
        assert store.load("f").total == 3


def test_which_store(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DSPY_SESSION_STORE")
    assert run("ls") == 2
    assert run("ls", "--store", "nonsense") == 1
    assert "nonsense" in capsys.readouterr().err
