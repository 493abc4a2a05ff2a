"""A commit is one round trip to a server, counted on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dspy_session.stores import open_store

from .backends import address


class Wire:
    """Hands bytes to and fro between a client and a server, and counts how often the client had to wait."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.trips = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            asked = [False]
            threading.Thread(target=self._up, args=(client, server, asked), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client, asked), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, asked: list[bool]) -> None:
        while data := _receive(client):
            if not asked[0]:
                self.trips += 1
                asked[0] = True
            server.sendall(data)
        server.close()

    def _down(self, server: socket.socket, client: socket.socket, asked: list[bool]) -> None:
        while data := _receive(server):
            asked[0] = False
            client.sendall(data)
        client.close()

    def close(self) -> None:
        self._listener.close()


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


@contextmanager
def wired(backend: str) -> Iterator[tuple[str, Wire]]:
    with address(backend) as url:
        host, _, rest = url.partition("@")[2].partition("/")
        wire = Wire((host.split(":")[0], int(host.split(":")[1])))
        try:
            yield f"{url.partition('@')[0]}@127.0.0.1:{wire.port}/{rest}", wire
        finally:
            wire.close()


@pytest.mark.parametrize("backend", ["postgresql", "redis"])
def test_a_commit_is_one_round_trip(backend: str) -> None:
    with wired(backend) as (url, wire), open_store(url) as store:
        revision = store.create("k", {})
        store.fork("k", "f", at=0)
        other = store.append("f", [{"id": "w"}], expected=store.load("f").revision)
        for number in range(20):
            before = wire.trips
            note = {"kind": "score", "turn": f"t{number}"}
            revision = store.append("k", [{"id": f"t{number}"}], expected=revision, annotations=[note])
            assert wire.trips - before == 1
            before = wire.trips
            revision = store.append("k", [{"id": f"t{number}"}], expected=revision, keep=number)
            assert wire.trips - before == 1
            before = wire.trips
            other = store.append("f", [{"id": f"t{number}"}], expected=other)
            assert wire.trips - before == 1
        with store.lease("k") as lease:
            before = wire.trips
            store.append("k", [{"id": "z"}], expected=revision, fence=lease.token)
            assert wire.trips - before == 1


@pytest.mark.parametrize("backend", ["postgresql", "redis"])
def test_a_load_is_one_round_trip(backend: str) -> None:
    with wired(backend) as (url, wire), open_store(url) as store:
        revision = store.create("k", {}, turns=[{"id": f"t{n}"} for n in range(50)])
        store.append("k", [{"id": "x"}], expected=revision, keep=20, annotations=[{"kind": "m"}])
        for last in (0, 5, 30, None):
            before = wire.trips
            store.load("k", last=last)
            assert wire.trips - before == 1
