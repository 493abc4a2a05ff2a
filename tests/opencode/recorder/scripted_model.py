"""A model that answers from a script: OpenAI's chat completions with server-sent events, on loopback."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
USAGE = {"in": 9000, "out": 20}


@dataclass
class Script:
    """What the model answers.

    Attributes:
        main: replies, in order.
        keyed: replies to chats whose first message holds the key, in order: for sub-agents.
        requests: what was asked so far, with the replies given.
    """

    main: list[Json] = field(default_factory=list)
    keyed: dict[str, list[Json]] = field(default_factory=dict)
    requests: list[Json] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, headers: Any, body: Json) -> Json:
        """The next reply to a request, which is recorded."""
        chat = [message for message in body["messages"] if message["role"] != "system"]
        first = json.dumps(chat[0]["content"]) if chat else ""
        with self.lock:
            kind, reply = self._next(body, first)
            kept = {"kind": kind, "session": headers.get("x-session-id"), "model": body["model"]}
            self.requests.append({**kept, "messages": chat, "turn": reply})
        return reply

    def _next(self, body: Json, first: str) -> tuple[str, Json]:
        if body["model"] == "lab-small" or "Generate a title" in first:
            return "title", {"text": "A title", "usage": {"in": 300, "out": 3}}
        if not body.get("tools"):
            return "summary", {"text": "We read the stock module.", "usage": {"in": 5000, "out": 200}}
        for key, replies in self.keyed.items():
            if key in first and replies:
                return "sub", replies.pop(0)
        return "main", self.main.pop(0) if self.main else {"text": "Nothing more is planned."}


class ScriptedModel:
    """The server. `url` is the base URL that a provider's configuration wants."""

    def __init__(self, script: Script) -> None:
        self.script = script
        handler = type("Handler", (_Handler,), {"script": script})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ScriptedModel:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply = self.script.answer(self.headers, body)
        if "http" in reply:
            self._refuse(reply["http"])
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            for number, chunk in enumerate(chunks(reply, body["model"])):
                if number == reply.get("die_after"):
                    return
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
                if number == reply.get("hang_after"):
                    time.sleep(reply["hang"])
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            # The program under test has hung up, as when the user stops a reply.
            return

    def _refuse(self, refusal: Json) -> None:
        body = json.dumps({"error": {"message": "scripted", "type": "scripted"}}).encode()
        self.send_response(refusal["status"])
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in refusal.get("headers", {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def chunks(reply: Json, model: str) -> Iterator[Json]:
    """The events of a reply."""
    head = {"id": "chat", "object": "chat.completion.chunk", "created": 0, "model": model}

    def delta(content: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": content, "finish_reason": finish}]}

    yield delta({"role": "assistant"})
    if reply.get("reasoning"):
        yield delta({"reasoning_content": reply["reasoning"]})
    words = reply.get("text", "").split(" ")
    for place, word in enumerate(words if reply.get("text") else []):
        yield delta({"content": word if place == len(words) - 1 else f"{word} "})
    for index, tool in enumerate(reply.get("tools", ())):
        arguments = tool["args"] if isinstance(tool["args"], str) else json.dumps(tool["args"])
        function = {"name": tool["name"], "arguments": arguments}
        call = {
            "index": index,
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": function,
        }
        yield delta({"tool_calls": [call]})
    yield delta({}, reply.get("finish") or ("tool_calls" if reply.get("tools") else "stop"))
    used = {**USAGE, **reply.get("usage", {})}
    yield {
        **head,
        "choices": [],
        "usage": {
            "prompt_tokens": used["in"],
            "completion_tokens": used["out"],
            "total_tokens": used["in"] + used["out"],
            "prompt_tokens_details": {"cached_tokens": used.get("cached", 0)},
            "completion_tokens_details": {"reasoning_tokens": used.get("reasoning", 0)},
        },
    }
