"""A chat server: one program for all users, each user's conversation in a store, replies streamed as they
come.

    STORE=sqlite:///chat.db MODEL=openai/gpt-4.1-mini uvicorn app:app --workers 4

    POST /users/{user}/messages   {"question": "…"}       server-sent events: `token`…, then `done` or `error`
    GET  /users/{user}/messages   ?before=…&limit=…       the latest turns, or those before an index
    DELETE /users/{user}                                  forget everything
    GET  /health

The tenant is the header `X-Tenant`; put your own authentication in front. Workers keep nothing between
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import dspy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from dspy_session import telemetry, windows, with_memory
from dspy_session.errors import ConversationNotFoundError, LeaseError, StoreError
from dspy_session.stores import open_store
from dspy_session.stores.aio import AsyncStore


class Assistant(dspy.Module):
    """Plans, then answers; each step remembers its own part of the conversation."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.reply = dspy.Predict("question, plan -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        plan = (await self.plan.acall(question=question)).plan
        return await self.reply.acall(question=question, plan=plan)


assistant = with_memory(Assistant(), window=windows.blocks(high=40, low=20), unbound="error")
store = AsyncStore(open_store(os.environ.get("STORE", "sqlite:///chat.db")))


def model() -> Any:
    """The model; a test puts a scripted one in its place with `module:function`."""
    name = os.environ.get("MODEL", "openai/gpt-4.1-mini")
    if name.startswith("python:"):
        module, _, function = name.removeprefix("python:").partition(":")
        return getattr(__import__(module, fromlist=[function]), function)()
    return dspy.LM(name)


def event(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def answer(tenant: str, user: str, question: str, out: asyncio.Queue[bytes | None]) -> None:
    """One request: everything happens in this task, so that cancelling it cancels all of it."""
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer", predict=assistant.module.reply)]
    streamed = dspy.streamify(assistant, stream_listeners=listeners, is_async_program=True)
    try:
        async with store_conversation(tenant, user) as talk:
            async for item in streamed(question=question):
                if isinstance(item, dspy.streaming.StreamResponse):
                    out.put_nowait(event("token", item.chunk))
                elif isinstance(item, dspy.Prediction):
                    # The turn is in the store by now: what is sent from here on is acknowledged.
                    turn = talk.state.turns[-1]
                    out.put_nowait(event("done", {"answer": item.answer, "index": turn.index, "id": turn.id}))
    except LeaseError:
        out.put_nowait(event("error", "another request of this user took over"))
    except StoreError as error:
        out.put_nowait(event("error", f"not stored: {type(error).__name__}"))
    finally:
        out.put_nowait(None)


def store_conversation(tenant: str, user: str) -> Any:
    return assistant.conversation(user, store=store, scope=tenant, ttl=10)


async def messages(request: Request) -> StreamingResponse:
    """Answer a message; a client that goes away cancels its request, which then writes nothing."""
    question = (await request.json())["question"]
    tenant, user = request.headers.get("x-tenant", ""), request.path_params["user"]
    out: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def events() -> AsyncIterator[bytes]:
        # A state must not be bound in a generator, whose driver would get the binding: hence a task of its
        # own.
        task = asyncio.create_task(answer(tenant, user, question, out))
        try:
            while (item := await out.get()) is not None:
                yield item
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return StreamingResponse(events(), media_type="text/event-stream")


async def history(request: Request) -> JSONResponse:
    """A page of the conversation, read without the model or a lease."""
    before, limit = request.query_params.get("before"), int(request.query_params.get("limit", "20"))
    try:
        turns = await store.turns(
            request.path_params["user"],
            scope=request.headers.get("x-tenant", ""),
            before=None if before is None else int(before),
            limit=limit,
        )
    except ConversationNotFoundError:
        turns = ()
    shown = [
        {"index": turn.index, "id": turn.id, **turn.data["inputs"], **turn.data["outputs"]} for turn in turns
    ]
    return JSONResponse(shown)


async def forget(request: Request) -> JSONResponse:
    """Erase a user's conversation, and what was forked from it."""
    tenant, user = request.headers.get("x-tenant", ""), request.path_params["user"]
    try:
        erased = await store.erase(user, scope=tenant, forks="erase")
    except ConversationNotFoundError:
        erased = ()
    return JSONResponse({"erased": list(erased)})


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"worker": os.getpid(), "counts": dict(telemetry.counts())})


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    dspy.configure(lm=model())
    yield
    await store.close()


app = Starlette(
    routes=[
        Route("/users/{user}/messages", messages, methods=["POST"]),
        Route("/users/{user}/messages", history, methods=["GET"]),
        Route("/users/{user}", forget, methods=["DELETE"]),
        Route("/health", health),
    ],
    lifespan=lifespan,
)
