"""`python -m bench.peers.websockets --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.

Each client has a Redis connection of its own, a task that sends what comes from it, one that pings and one that reads.
A client that reads too slowly holds up its own task, and then Redis, which bounds what waits for a subscriber. A lost
Redis ends the process: a bench has no outages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

PING_INTERVAL: Final = 5.0
PONG_TIMEOUT: Final = 65.0
REQUEST_TIMEOUT: Final = 10.0
"""Seconds until Redis must have acknowledged a subscription: thousands may be asked for at once."""
BACKLOG: Final = 4096
WRITE_LIMIT: Final = 64 * 1024
_TOPIC: Final = re.compile(r"/([A-Za-z0-9_.;-]{1,256}:[A-Za-z0-9_.-]{1,256})/?")


class Bridge:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._subscriptions: dict[ServerConnection, PubSub] = {}

    async def process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """Before the 101: Redis has acknowledged the subscription when it goes out."""
        path = unquote(request.path.partition("?")[0])
        if path == "/health":
            return ws.respond(HTTPStatus.OK, "OK\n")
        topic = _TOPIC.fullmatch(path)
        if topic is None:
            return ws.respond(HTTPStatus.BAD_REQUEST, "not a <runid>:<channel>\n")
        subscription = self._redis.pubsub()
        try:
            await subscription.subscribe(topic[1])
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
            tasks = [asyncio.create_task(job) for job in (forward(subscription, ws), ping(ws), read_until_gone(ws))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def forward(subscription: PubSub, ws: ServerConnection) -> None:
    async for message in subscription.listen():
        status = {"type": "status", "data": message["data"]}
        await ws.send(json.dumps(status, ensure_ascii=False, separators=(",", ":")))


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


async def run(port: int, redis_url: str) -> None:
    """Returns never; raises ConnectionError (Redis') when Redis is lost."""
    redis = Redis.from_url(
        redis_url,
        decode_responses=True,
        encoding_errors="replace",
        max_connections=1_000_000,
        retry=Retry(NoBackoff(), 0),  # a connection made anew would hide a loss
    )
    bridge = Bridge(redis)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL", help="Pub/Sub ignores its database number")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.port, arguments.redis))


if __name__ == "__main__":
    main()
