"""One connection with the server's end of its stream, and its handler, in a test's hands."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from common.redis.connection import Connection
from common.redis.resp import RespParser, encode
from common.redis.subscription import CLASSIC, Subscription
from tests.support.logbook import Logbook
from tests.support.recording import RecordingHandler
from tests.support.scripted_redis import push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from common.redis.connection import Batch
    from common.redis.errors import RedisError
    from common.redis.subscription import SubscriptionKind


@attrs.define
class ConnectionBench:
    """A running connection, with the server's end of its stream in the test's hands."""

    connection: Connection
    server: trio.abc.Stream
    handler: RecordingHandler
    logbook: Logbook
    round_trips: list[float]
    ended: RedisError | None = None
    ended_at: float = -1.0
    has_ended: trio.Event = attrs.Factory(trio.Event)

    async def say(self, *chunks: bytes) -> None:
        """Send bytes as Redis would, each chunk as one read, and let the connection take them."""
        for chunk in chunks:
            await self.server.send_all(chunk)
            await wait_all_tasks_blocked()

    async def heard(self) -> bytes:
        """What the connection has written since the last time."""
        await wait_all_tasks_blocked()
        return bytes(await self.server.receive_some())

    async def subscribe(self, channel: bytes, kind: SubscriptionKind = CLASSIC) -> Subscription:
        """An active subscription."""
        subscription = Subscription(channel, kind)
        self.connection.subscribe(subscription)
        assert await self.heard() == encode(kind.subscribe, channel)
        await self.say(push(kind.active, channel, 1))
        assert subscription.active
        return subscription

    async def end(self) -> RedisError:
        """What ended the connection, once it has."""
        with trio.fail_after(10_000):
            await self.has_ended.wait()
        assert self.ended is not None
        return self.ended


@asynccontextmanager
async def open_connection(
    streams: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
    *,
    reply_limit: int = 1 << 20,
    probe_interval: float = 2.0,
    on_messages: Callable[[Batch, float], Awaitable[None]] | None = None,
) -> AsyncIterator[ConnectionBench]:
    """A connection that runs until it ends or the block does."""
    ours, theirs = streams or memory_stream_pair()
    handler, logbook = RecordingHandler(), Logbook()
    round_trips: list[float] = []
    connection = Connection(
        ours,
        RespParser(reply_limit),
        request_timeout=1.0,
        probe_interval=probe_interval,
        on_messages=on_messages or handler.on_messages,
        on_active=lambda subscription: handler.on_active(subscription.channel, None),
        on_refused=lambda subscription, error: handler.on_refused(subscription.channel, error),
        on_dropped=lambda subscription: handler.on_dropped(subscription.channel),
        on_round_trip=round_trips.append,
        log=logbook.log,
    )
    bench = ConnectionBench(connection, theirs, handler, logbook, round_trips)

    async def run() -> None:
        bench.ended = await connection.run()
        bench.ended_at = trio.current_time()
        bench.has_ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        yield bench
        nursery.cancel_scope.cancel()
