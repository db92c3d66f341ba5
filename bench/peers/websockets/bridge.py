"""A bridge from Redis Pub/Sub to WebSocket clients on `websockets` and `redis.asyncio`: all but what clients are told.

Each client has a Redis connection of its own, a task that forwards what comes from it, one that pings and one that
reads. A client that reads too slowly holds up its own task, and then Redis, which bounds what waits for a subscriber.
A lost Redis ends the process: a bench has no outages.
"""

from __future__ import annotations

import argparse
import asyncio
from abc import ABC, abstractmethod
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

if TYPE_CHECKING:
    import re

    from redis.asyncio.client import PubSub
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

PING_INTERVAL: Final = 5.0
PONG_TIMEOUT: Final = 65.0
REQUEST_TIMEOUT: Final = 10.0
"""Seconds until Redis must have acknowledged a subscription: thousands may be asked for at once."""
BACKLOG: Final = 4096
WRITE_LIMIT: Final = 64 * 1024


class Bridge(ABC):
    """What both services have in common; `redis` returns bytes."""

    path: ClassVar[re.Pattern[str]]
    """Of the paths that are served; its group is the topic's name."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._subscriptions: dict[ServerConnection, PubSub] = {}

    @abstractmethod
    def channel(self, topic: str) -> str:
        """What to subscribe to for it."""

    @abstractmethod
    async def forward(self, subscription: PubSub, ws: ServerConnection) -> None:
        """Tell the client what there is to tell, until cancelled."""

    async def process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """Before the 101: Redis has acknowledged the subscription when it goes out."""
        path = unquote(request.path.partition("?")[0])
        if path == "/health":
            return ws.respond(HTTPStatus.OK, "OK\n")
        match = self.path.fullmatch(path)
        if match is None:
            return ws.respond(HTTPStatus.BAD_REQUEST, "no such path\n")
        subscription = self.redis.pubsub()
        try:
            await subscription.subscribe(self.channel(match[1]))
            acknowledged = await subscription.get_message(timeout=REQUEST_TIMEOUT)
        except (RedisError, OSError):
            acknowledged = None
        if not acknowledged or ws.state is not State.CONNECTING:
            async with aclosing(subscription):
                return ws.respond(HTTPStatus.SERVICE_UNAVAILABLE, "redis does not answer\n")
        self._subscriptions[ws] = subscription
        return None

    async def serve_client(self, ws: ServerConnection) -> None:
        """One client from its 101 to its end; whichever task ends first ends the others and the connection."""
        async with aclosing(self._subscriptions.pop(ws)) as subscription:
            jobs = (self.forward(subscription, ws), ping(ws), read_until_gone(ws))
            tasks = [asyncio.create_task(job) for job in jobs]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def ping(ws: ServerConnection) -> None:
    while True:
        await asyncio.sleep(PING_INTERVAL)
        await ws.send('{"type":"ping"}')


async def read_until_gone(ws: ServerConnection) -> None:
    """Returns when the client closed, or showed no life for `PONG_TIMEOUT`."""
    try:
        while True:
            async with asyncio.timeout(PONG_TIMEOUT):
                await ws.recv()
    except (ConnectionClosed, TimeoutError):
        return


async def run(kind: type[Bridge], port: int, redis_url: str) -> None:
    """Returns never; raises ConnectionError (Redis') when Redis is lost."""
    redis = Redis.from_url(
        redis_url,
        max_connections=1_000_000,
        retry=Retry(NoBackoff(), 0),  # a connection made anew would hide a loss
    )
    bridge = kind(redis)
    async with serve(
        bridge.serve_client,
        "127.0.0.1",
        port,
        process_request=bridge.process_request,
        compression=None,
        ping_interval=None,
        write_limit=WRITE_LIMIT,
        backlog=BACKLOG,
    ):
        while True:
            await redis.ping()
            await asyncio.sleep(1)


def main(kind: type[Bridge], description: str | None) -> None:
    """The command line: serves until it is killed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL")
    arguments = parser.parse_args()
    asyncio.run(run(kind, arguments.port, arguments.redis))
