"""The `store` commands of the command line: `add_commands` adds them to an argparse parser."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import timezone
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DspySessionError
from ._opening import open_store
from .base import Store
from .copying import copy_conversation, copy_store, export_conversation

__all__ = ["add_commands"]


def add_commands(subparsers: Any) -> None:
    """Add `store ls|show|fork|export|verify|prune|erase|copy`.

    Each sets `run` in the parsed arguments: a function of these that returns the exit status, 0 if all went
    well, 1 after an error or a found problem, 2 if something has to be confirmed first.
    """
    store = subparsers.add_parser("store", help="look after a store of conversations")
    actions = store.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add(actions, "ls", _ls, "list the conversations of a scope", limit=True, any_scope=True)
    _add(actions, "show", _show, "show a conversation", key=True, limit=True)
    fork = _add(actions, "fork", _fork, "begin a conversation with the turns of another", key=True)
    fork.add_argument("new_key", metavar="NEW_KEY")
    fork.add_argument("--at", type=int, metavar="N", help="share the first N turns alone")
    export = _add(actions, "export", _export, "write conversations as JSON lines", any_scope=True)
    export.add_argument("--key", help="this conversation alone")
    export.add_argument("--output", type=Path, metavar="FILE", help="instead of the standard output")
    verify = _add(actions, "verify", _verify, "check that all is as it was written", any_scope=True)
    verify.add_argument("--key", help="this conversation alone")
    prune = _add(actions, "prune", _prune, "drop older turns for good")
    prune.add_argument("--key", help="of this conversation alone")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="the last N turns stay")
    prune.add_argument("--yes", action="store_true", help="really drop them")
    erase = _add(actions, "erase", _erase, "delete a conversation for good", key=True)
    erase.add_argument("--forks", choices=["keep", "erase"], help="what becomes of its forks")
    erase.add_argument("--yes", action="store_true", help="really delete it")
    copy = _add(actions, "copy", _copy, "copy conversations to another store", any_scope=True)
    copy.add_argument("--to", required=True, metavar="URL", help="the address of the other store")
    copy.add_argument("--key", help="this conversation alone")


def _add(
    actions: Any,
    name: str,
    work: Callable[[Store, argparse.Namespace], int],
    text: str,
    *,
    key: bool = False,
    limit: bool = False,
    any_scope: bool = False,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get("DSPY_SESSION_STORE"),
        help="the store's address; by default that in DSPY_SESSION_STORE, where nobody sees a password",
    )
    every = "by default every scope" if any_scope else 'by default ""'
    parser.add_argument("--scope", default=None if any_scope else "", help=f"the tenant, {every}")
    if key:
        parser.add_argument("key", metavar="KEY")
    if limit:
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most N, by default 20")
    parser.set_defaults(run=lambda arguments: _guarded(work, arguments))
    return parser


def _guarded(work: Callable[[Store, argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        if not arguments.store:
            print("error: say which store, with --store or in DSPY_SESSION_STORE", file=sys.stderr)
            return 2
        with open_store(arguments.store) as store:
            return work(store, arguments)
    except DspySessionError as error:
        print(f"error: {_safe(str(error))}", file=sys.stderr)
        return 1


def _safe(text: str) -> str:
    """Text without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _scopes(store: Store, scope: str | None) -> tuple[str, ...]:
    return store.scopes() if scope is None else (scope,)


def _ls(store: Store, arguments: argparse.Namespace) -> int:
    for scope in _scopes(store, arguments.scope):
        for row in store.list(scope=scope, order="updated", limit=arguments.limit):
            updated = row.updated.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")
            notes = [row.title, " ".join(f"#{tag}" for tag in row.tags)]
            notes.append("" if row.source is None else f"(fork of {row.source})")
            more = " ".join(filter(None, notes))
            place = f"{row.scope}/{row.key}" if row.scope else row.key
            print(_safe(f"{updated}  {row.turns:6d} turns  {row.cost:10.4f}  {place}  {more}"))
    return 0


def _show(store: Store, arguments: argparse.Namespace) -> int:
    found = store.load(arguments.key, scope=arguments.scope, last=arguments.limit)
    print(
        _safe(f"{found.key}  revision {found.revision}  {found.total} turns  {found.cost:.4f}  {found.title}")
    )
    for name, document in (("head", found.head), ("metadata", found.metadata)):
        if document:
            print(f"{name}: {_json(document)}")
    for note in found.annotations:
        print(f"annotation: {_json(note)}")
    for turn in found.turns:
        print(f"{turn.index}: {_json(turn.data)}")
        for note in turn.annotations:
            print(f"   annotation: {_json(note)}")
    return 0


def _json(document: Any) -> str:
    return _safe(json.dumps(document, ensure_ascii=False))


def _fork(store: Store, arguments: argparse.Namespace) -> int:
    print(store.fork(arguments.key, arguments.new_key, scope=arguments.scope, at=arguments.at))
    return 0


def _export(store: Store, arguments: argparse.Namespace) -> int:
    try:
        target = sys.stdout if arguments.output is None else arguments.output.open("x", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write the export: {error}") from error
    try:
        for scope in _scopes(store, arguments.scope if arguments.key is None else arguments.scope or ""):
            keys = [arguments.key] if arguments.key else [row.key for row in store.list(scope=scope)]
            for key in keys:
                # ASCII: a document may hold what UTF-8 cannot express.
                target.write(json.dumps(export_conversation(store, key, scope=scope)) + "\n")
    finally:
        if target is not sys.stdout:
            target.close()
    return 0


def _verify(store: Store, arguments: argparse.Namespace) -> int:
    report = store.verify(arguments.key, scope=arguments.scope)
    for name, value in report.settings.items():
        print(_safe(f"{name}: {value}"))
    for warning in report.warnings:
        print(_safe(f"warning: {warning}"))
    for problem in report.problems:
        print(_safe(f"problem: {problem}"))
    print(f"{report.conversations} conversations, {report.turns} turns, {len(report.problems)} problems")
    return 0 if report.ok else 1


def _prune(store: Store, arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        which = "every conversation of the scope" if arguments.key is None else repr(arguments.key)
        print(_safe(f"would keep the last {arguments.keep} turns of {which}: say --yes"), file=sys.stderr)
        return 2
    print(f"{store.prune(keep=arguments.keep, key=arguments.key, scope=arguments.scope)} turns dropped")
    return 0


def _erase(store: Store, arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        found = store.load(arguments.key, scope=arguments.scope, last=0)
        print(_safe(f"would delete {found.key!r} with {found.total} turns: say --yes"), file=sys.stderr)
        return 2
    for key in store.erase(arguments.key, scope=arguments.scope, forks=arguments.forks):
        print(_safe(f"erased {key}"))
    return 0


def _copy(store: Store, arguments: argparse.Namespace) -> int:
    with open_store(arguments.to) as target:
        if arguments.key is not None:
            turns = copy_conversation(store, target, arguments.key, scope=arguments.scope or "")
            print(f"1 conversation copied, {turns} turns")
        else:
            count = copy_store(store, target, scope=arguments.scope)
            print(f"{count} conversations copied")
    return 0
