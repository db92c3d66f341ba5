"""A hub with watchers over a Redis that keeps hashes: what each client is told, and when each hash is read."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import trio
import trio.testing

from common.fanout import Hub, Topic
from common.histogram import Histogram
from common.metrics import Counters, HashFigures
from common.redis.subscription import Subscription
from common.tracing import NO_TRACES
from preflightd.checklist import packaged
from preflightd.watcher import Watcher
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.exceptions import RedisError

    from common.disconnect import Disconnect
    from common.redis.links import RedisLink
    from common.tracing import Tracer
    from common.web.peer import Peer
    from preflightd.checklist import Snapshot
    from preflightd.evaluator import Hash

RUN: Final = b"__keyspace@0__:run"
OTHER: Final = b"__keyspace@0__:other"

LATENCY: Final = 0.002
"""Seconds from a read to its answer."""

FIELD: Final = b"timestamps:build_channels"


def frame_of(fields: dict[bytes, bytes]) -> bytes:
    """The whole frame that is true of this hash."""
    return packaged().evaluate(fields).frame()


class FakeLink:
    """A Redis that keeps hashes. What it answers is settled when it is asked, and comes `latency` later."""

    def __init__(self) -> None:
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.errors: dict[bytes, RedisError] = {}
        """What it says of a key instead."""
        self.online = True
        self.latency = LATENCY
        self.queue = 0.0
        """Seconds from a wish to read until it is sent."""
        self.reads: dict[bytes, list[float]] = {}
        """When each key was read."""
        self.in_flight: dict[bytes, int] = {}
        self.most_in_flight = 0
        self.subscribed: list[bytes] = []
        self._hub: Hub | None = None

    def attach(self, hub: Hub) -> None:
        self._hub = hub

    def subscribe(self, channel: bytes) -> Subscription:
        self.subscribed.append(channel)
        return Subscription(channel)

    def unsubscribe(self, channel: bytes) -> None:
        self.subscribed.remove(channel)

    async def unsubscribe_all(self) -> None:
        self.subscribed.clear()
        await trio.lowlevel.checkpoint()

    async def read(self, *args: bytes | str | int, sending: Callable[[], None]) -> object:
        command, key = args
        assert command == "HGETALL"
        assert isinstance(key, bytes)
        await trio.sleep(self.queue)
        sending()
        answer, error = dict(self.hashes.get(key, {})), self.errors.get(key)
        self.reads.setdefault(key, []).append(trio.current_time())
        self.in_flight[key] = self.in_flight.get(key, 0) + 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight[key])
        try:
            await trio.sleep(self.latency)
        finally:
            self.in_flight[key] -= 1
        if error is not None:
            raise error
        return answer


class FakeWire:
    """Takes everything."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_nowait(self, data: bytes, frames: int = 1) -> None:
        assert frames == 1
        self.sent.append(data)


class FakePeer:
    """A client as a topic sees it."""

    def __init__(self) -> None:
        self.wire = FakeWire()
        self.opened = True
        self.wants_gap = False
        self.ends: list[Disconnect] = []

    def end(self, disconnect: Disconnect) -> None:
        self.ends.append(disconnect)


class Setting:
    """A hub whose `run` runs in `nursery`, over a `FakeLink`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        resync_interval: float,
        rng: random.Random,
        evaluate: Callable[[Hash], Snapshot],
        push_every_change: bool,
        tracer: Tracer,
    ) -> None:
        self.link = FakeLink()
        self.counters = Counters(delivery=Histogram(), hashes=HashFigures(reads=Histogram()))
        self.logbook = Logbook()
        self.hub = Hub(
            make_link=lambda _hub: cast("RedisLink", self.link),
            make_topic=lambda link: partial(
                Watcher,
                read=link.read,
                evaluate=evaluate,
                push_every_change=push_every_change,
                resync_interval=resync_interval,
                rng=rng,
                counters=self.counters,
                log=self.logbook.log,
                tracer=tracer,
            ),
            counters=self.counters,
            log=self.logbook.log,
        )
        nursery.start_soon(self.hub.run)

    @property
    def reads(self) -> list[float]:
        """When the run's hash was read."""
        return self.link.reads.get(b"run", [])

    def join(self, channel: bytes = RUN) -> tuple[FakePeer, Topic]:
        """A client in its handshake: it follows, and Redis has acknowledged the subscription."""
        peer = FakePeer()
        known = channel in self.link.subscribed
        topic = self.hub.join(channel, cast("Peer", peer))
        if not known:
            self.hub.on_active(channel, None)
        return peer, topic

    def open(self, channel: bytes = RUN) -> FakePeer:
        """A client whose conversation begins at once."""
        peer, topic = self.join(channel)
        topic.welcome(cast("Peer", peer))
        return peer

    def leave(self, peer: FakePeer, channel: bytes = RUN) -> None:
        (topic,) = [topic for topic in self.hub.topics if topic.channel == channel]
        self.hub.leave(topic, cast("Peer", peer))

    async def write(self, field: bytes = FIELD, value: bytes = b"1", key: bytes = b"run") -> None:
        """Set a field; Redis notifies."""
        self.link.hashes.setdefault(key, {})[field] = value
        await self.notify(key)

    async def notify(self, key: bytes = b"run", count: int = 1) -> None:
        """Redis says that often that the hash has changed."""
        await self.hub.on_messages({b"__keyspace@0__:" + key: [b"hset"] * count}, trio.current_time())

    def expected(self, key: bytes = b"run") -> bytes:
        """The frame that is true of the hash."""
        return frame_of(self.link.hashes.get(key, {}))


@asynccontextmanager
async def running(
    resync_interval: float = 0.0,
    rng: random.Random | None = None,
    *,
    evaluate: Callable[[Hash], Snapshot] | None = None,
    push_every_change: bool = False,
    tracer: Tracer = NO_TRACES,
) -> AsyncIterator[Setting]:
    """A setting; without resyncs unless the test asks for them, so that nothing but notifications mends anything."""
    async with trio.open_nursery() as nursery:
        setting = Setting(
            nursery,
            resync_interval,
            random.Random(1) if rng is None else rng,
            evaluate or packaged().evaluate,
            push_every_change,
            tracer,
        )
        await trio.testing.wait_all_tasks_blocked()
        yield setting
        nursery.cancel_scope.cancel()
    assert setting.link.most_in_flight <= 1, "one read at a time"


def check_no_repeats(*peers: FakePeer) -> None:
    """Two consecutive frames to a client always differ."""
    for peer in peers:
        assert all(one != other for one, other in pairwise(peer.wire.sent)), peer.wire.sent
