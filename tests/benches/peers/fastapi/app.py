"""Notifications to browsers as they are usually self-hosted: FastAPI, Redis pub/sub.

Each process keeps its own sockets in memory, subscribes once, and forwards what
is published to those that it holds; any process can take any POST.

There is no sign-in: who connects says who they are. Belfry checks a token at
each handshake, so a comparison of connects favours this one.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections import defaultdict
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field
from redis.asyncio import Redis

TO_ALL = "notifications:all"
TO_USERS = "notifications:users"

# How long to wait before subscribing again, where Redis went away.
RESUBSCRIBE_SECONDS = 1

# How many sockets are written to before others have their turn, and for how
# long they may keep the rest waiting.
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
    """The sockets of this process, and those of each user."""

    def __init__(self):
        self.users: dict[WebSocket, str] = {}
        self.of_user: defaultdict[str, set[WebSocket]] = defaultdict(set)

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
        sockets = list(self.users)
        for begin in range(0, len(sockets), BATCH):
            await self.send(sockets[begin : begin + BATCH], text)
            # What was written goes out, and others have their turn.
            await asyncio.sleep(0)

    async def send_to_user(self, user, text):
        await self.send(list(self.of_user.get(user, ())), text)

    async def send(self, sockets, text):
        # One after the other: with 10,000, a task for each, as asyncio.gather
        # makes, takes a quarter longer and now and then a second. A send only
        # waits where a client does not read; it must not hold up the others.
        left = iter(sockets)
        while (socket := next(left, None)) is not None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    while socket is not None:
                        # Of a socket that has ended, its handler takes care.
                        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                            await socket.send_text(text)
                        socket = next(left, None)
            except TimeoutError:
                # It gets nothing any more, until its pings end it.
                self.remove(socket)


async def forward(pubsub, sockets):
    """What is published, to the sockets, in its order."""
    async for item in pubsub.listen():
        if item["type"] != "message":
            continue
        if item["channel"] == TO_ALL:
            await sockets.send_to_all(item["data"])
        else:
            # The user's id, a line's end, and what to send as it is.
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
            log.exception("the subscription has ended")
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
            # Nothing is expected of clients; this is how an end is noticed.
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        sockets.remove(socket)


@app.post("/notify", status_code=202)
async def notify(notification: Notification, request: Request):
    text = json.dumps(notification.message, ensure_ascii=False, separators=(",", ":"))
    match notification.target:
        case All():
            await request.app.state.redis.publish(TO_ALL, text)
        case User(user_id=user):
            await request.app.state.redis.publish(TO_USERS, f"{user}\n{text}")
