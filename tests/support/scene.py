"""A daemon that is sent what it should not be, and a healthy client beside it that must not notice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.raw import RawClient, RedisConnection, connect, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from common.embedded import EmbeddedRedis

SETTINGS = {"metrics_enabled": "true", "ping_interval": "1h", "pong_timeout": "3h"}
LIMIT = 64 * 1024
"""MAX_MESSAGE_SIZE, bytes."""

ENDS = ("connection closed", "connection ended with error")


@attrs.define
class Scene:
    """A daemon under test, a healthy client on the topic `run:log`, and what was published to it."""

    daemon: DaemonProcess
    redis: RedisConnection
    healthy: RawClient
    nursery: trio.Nursery
    published: int = 0

    async def heartbeat(self) -> None:
        """The healthy client receives the next message, as it received all before."""
        await self.redis.publish("run:log", [str(self.published)])
        self.published += 1
        expected = [f'{{"type":"status","data":"{k}"}}'.encode() for k in range(self.published)]
        assert await self.healthy.receive(self.published) == expected

    async def visit(self, *frames: bytes) -> RawClient:
        """A client that sends this right behind its handshake."""
        return await connect(self.nursery, self.daemon.port, "/run:log", more=b"".join(frames))

    def endings(self) -> list[tuple[str, str]]:
        """Message and reason of each conversation that has ended, in order."""
        return [(line["msg"], line["reason"]) for line in self.daemon.lines if line["msg"] in ENDS]

    async def wait_endings(self, count: int) -> None:
        """Wait until so many conversations have their last line."""
        await wait_until(lambda: len(self.endings()) >= count, f"{count} conversations have ended")


@asynccontextmanager
async def open_scene(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, *expect: str, **settings: str
) -> AsyncIterator[Scene]:
    """A daemon that is as it was when the block is left."""
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, SETTINGS | settings, expect=expect) as daemon,
    ):
        scene = Scene(daemon, redis, await connect(nursery, daemon.port, "/run:log"), nursery)
        await scene.heartbeat()
        await wait_until(lambda: daemon.clients() == 1, "only the healthy client is there")
        before = daemon.descriptors()
        yield scene
        await scene.heartbeat()
        await wait_until(lambda: daemon.descriptors() == before, f"{before} descriptors again")
        assert await daemon.metric("status2_connections_active") == 1
        await scene.healthy.leave()
        await wait_until(lambda: scene.endings()[-1:] == [("connection closed", "client_closed")], "its last line")

        async def left() -> bool:
            return await daemon.metric("status2_connections_active") == 0

        await wait_until(left, "nobody is left")
        await wait_until(lambda: daemon.descriptors() == before - 1, f"{before - 1} descriptors in the end")
