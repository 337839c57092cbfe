"""Notifications to browsers as they are commonly self-hosted: FastAPI, Redis pub/sub.

Each process keeps its own sockets in memory, subscribes once, and forwards every
published message to its sockets. Any process can handle any POST.

There is no sign-in: clients name their user themselves. Belfry verifies a token
in each handshake, so comparing handshakes favours this app.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections import defaultdict
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from redis.asyncio import Redis

TO_ALL = "notifications:all"
TO_USERS = "notifications:users"

# Pause before subscribing again after Redis went away.
RESUBSCRIBE_SECONDS = 1

# Sockets written to before other tasks run, and how long these sockets may
# hold up the others.
BATCH = 500
SEND_SECONDS = 5

log = logging.getLogger("uvicorn.error")


class All(BaseModel):
    type: Literal["all"]


class User(BaseModel):
    type: Literal["user"]
    user_id: str = Field(alias="userId", min_length=1, max_length=128)


class Notification(BaseModel):
    target: Annotated[All | User, Field(discriminator="type")]
    message: dict[str, Any]


class Sockets:
    """The sockets of this process, by user."""

    def __init__(self):
        self.users: dict[WebSocket, str] = {}
        self.of_user: defaultdict[str, set[WebSocket]] = defaultdict(set)
        self.listeners: set[asyncio.Queue[str]] = set()

    def add(self, socket, user):
        self.users[socket] = user
        self.of_user[user].add(socket)

    def remove(self, socket):
        user = self.users.pop(socket, None)
        if user is None:
            return
        self.of_user[user].discard(socket)
        if not self.of_user[user]:
            del self.of_user[user]

    async def send_to_all(self, text):
        for listener in self.listeners:
            listener.put_nowait(text)
        sockets = list(self.users)
        for begin in range(0, len(sockets), BATCH):
            await self.send(sockets[begin : begin + BATCH], text)
            # Lets the written data go out, and other tasks run.
            await asyncio.sleep(0)

    async def send_to_user(self, user, text):
        await self.send(list(self.of_user.get(user, ())), text)

    async def send(self, sockets, text):
        # One after the other: with 10,000 sockets, a task for each, as with
        # asyncio.gather, takes a quarter longer and sometimes a second. A send
        # waits only if its client does not read, and must not hold up others.
        left = iter(sockets)
        while (socket := next(left, None)) is not None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    while socket is not None:
                        # An ended socket is removed by its handler.
                        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                            await socket.send_text(text)
                        socket = next(left, None)
            except TimeoutError:
                # It receives nothing more, and its pings will end it.
                self.remove(socket)


async def forward(pubsub, sockets):
    """Sends published messages to the sockets, in order."""
    async for item in pubsub.listen():
        if item["type"] != "message":
            continue
        if item["channel"] == TO_ALL:
            await sockets.send_to_all(item["data"])
        else:
            # The user's id, a newline, and the text to send.
            user, text = item["data"].split("\n", 1)
            await sockets.send_to_user(user, text)


async def keep_forwarding(redis, sockets, subscribed):
    while True:
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(TO_ALL, TO_USERS)
                subscribed.set()
                await forward(pubsub, sockets)
        except Exception:
            log.exception("the subscription ended")
        await asyncio.sleep(RESUBSCRIBE_SECONDS)


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.sockets = Sockets()
    app.state.redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    subscribed = asyncio.Event()
    forwarding = asyncio.create_task(
        keep_forwarding(app.state.redis, app.state.sockets, subscribed)
    )
    await subscribed.wait()
    yield
    forwarding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await forwarding
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def connect(socket: WebSocket, user: str):
    sockets = socket.app.state.sockets
    await socket.accept()
    sockets.add(socket, user)
    try:
        while True:
            # Clients send nothing. Receiving notices the end of the connection.
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        sockets.remove(socket)


@app.get("/events")
async def events(request: Request):
    """Server-Sent Events: what is sent to all, from now on."""
    listeners = request.app.state.sockets.listeners

    async def stream():
        queue = asyncio.Queue()
        listeners.add(queue)
        try:
            yield ":\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            listeners.remove(queue)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.post("/notify", status_code=202)
async def notify(notification: Notification, request: Request):
    text = json.dumps(notification.message, ensure_ascii=False, separators=(",", ":"))
    match notification.target:
        case All():
            await request.app.state.redis.publish(TO_ALL, text)
        case User(user_id=user):
            await request.app.state.redis.publish(TO_USERS, f"{user}\n{text}")
