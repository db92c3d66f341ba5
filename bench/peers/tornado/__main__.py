"""`python -m bench.peers.tornado --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.

Each client has a Redis connection of its own, a task that sends what comes from it and a periodic callback that pings.
A client that reads too slowly holds up its own task, and then Redis, which bounds what waits for a subscriber. A lost
Redis ends the process: a bench has no outages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from tornado.ioloop import PeriodicCallback
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

PING_INTERVAL: Final = 5.0
PONG_TIMEOUT: Final = 65.0
REQUEST_TIMEOUT: Final = 10.0
"""Seconds until Redis must have acknowledged a subscription: thousands may be asked for at once."""
BACKLOG: Final = 4096
_TOPIC: Final = r"/([A-Za-z0-9_.;-]{1,256}:[A-Za-z0-9_.-]{1,256})/?"


class HealthHandler(RequestHandler):
    def get(self) -> None:
        self.write("OK\n")


class StatusHandler(WebSocketHandler):
    """One client from its request to its end."""

    def initialize(self, redis: Redis) -> None:
        self._redis = redis
        self._subscription: PubSub
        self._forwarding: asyncio.Task[None]
        self._pinging = PeriodicCallback(self._ping, PING_INTERVAL * 1000)
        self._last_life = time.monotonic()

    async def prepare(self) -> None:
        """Before the 101: Redis has acknowledged the subscription when it goes out."""
        self._subscription = self._redis.pubsub()
        try:
            await self._subscription.subscribe(self.path_args[0])
            acknowledged = await self._subscription.get_message(timeout=REQUEST_TIMEOUT)
        except (RedisError, OSError):
            acknowledged = None
        if not acknowledged:
            async with aclosing(self._subscription):
                raise HTTPError(503)

    def open(self, _topic: str) -> None:
        self._last_life = time.monotonic()
        self._pinging.start()
        self._forwarding = asyncio.create_task(self._forward())

    def on_message(self, message: str | bytes) -> None:  # noqa: ARG002 - any frame is life, whatever it says
        self._last_life = time.monotonic()

    def on_close(self) -> None:
        self._pinging.stop()
        self._forwarding.cancel()

    async def _forward(self) -> None:
        async with aclosing(self._subscription) as subscription:
            try:
                async for message in subscription.listen():
                    status = {"type": "status", "data": message["data"]}
                    await self.write_message(json.dumps(status, ensure_ascii=False, separators=(",", ":")))
            except (RedisError, OSError):
                self.close(1013, "redis is gone")
            except WebSocketClosedError:
                return

    async def _ping(self) -> None:
        if time.monotonic() - self._last_life > PONG_TIMEOUT:
            self.close(1008, "no life")
            return
        try:
            await self.write_message('{"type":"ping"}')
        except WebSocketClosedError:
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
    application = Application(
        [("/health", HealthHandler), (_TOPIC, StatusHandler, {"redis": redis})],
        websocket_ping_interval=None,
    )
    application.listen(port, "127.0.0.1", backlog=BACKLOG)
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
