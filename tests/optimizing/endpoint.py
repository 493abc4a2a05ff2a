"""A chat endpoint on loopback that speaks OpenAI's chat API, with streaming, and answers by a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dspy_session.testing.lm import asked_for, text_of, written

Answer = Callable[[list[dict[str, Any]], list[str]], dict[str, Any]]


class Endpoint(ThreadingHTTPServer):
    """The server; `requests` holds the messages of each request."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[list[dict[str, Any]]] = []
        self.streamed = 0
        self.cut_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body["messages"]
        style, names = asked_for(messages)
        text = written(style, self.server.answer(messages, names))
        self.server.requests.append(messages)
        if body.get("stream"):
            self.server.streamed += 1
            self._stream(text)
        else:
            self._send("application/json", json.dumps(_whole(text)).encode())

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for number, piece in enumerate(_pieces(text)):
            if number == self.server.cut_after:
                self.connection.close()
                return
            self._event(_chunk({"role": "assistant", "content": piece}))
        self._event(_chunk({}, "stop"))
        self._event({**_chunk({}), "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 5):
        yield text[start : start + 5]


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "loop", "choices": [choice]}


def _whole(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "loop",
        "choices": [choice],
        "usage": USAGE,
    }


def tells_what_it_was_told(messages: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Answers with the number of messages and the first user message, so that a missing history shows."""
    first = next(text_of(m) for m in messages if m["role"] == "user").split("\n")[1]
    return {name: f"the {name} to message {len(messages)} after {first}" for name in names}


@contextmanager
def endpoint(answer: Answer = tells_what_it_was_told) -> Iterator[Endpoint]:
    """A running server."""
    server = Endpoint(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
