"""How long Redis and the clients take to answer: what is measured, and what that costs (SPEC 4)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.histogram import BUCKETS, Histogram
from common.redis.resp import encode
from common.web.heartbeat import SAMPLES, Heartbeat
from tests.support.connections import open_connection

if TYPE_CHECKING:
    from common.disconnect import Disconnect

INTERVAL = 5.0


# -- clients -----------------------------------------------------------------------------------------------------------


class SlowPeer:
    """A client whose pongs take `delay` seconds; none come if that is None."""

    def __init__(self, nursery: trio.Nursery, delay: float | None) -> None:
        self.last_seen = trio.current_time()
        self.pings = 0
        self._nursery = nursery
        self._delay = delay

    def ping(self) -> None:
        self.pings += 1
        if self._delay is not None:
            self._nursery.start_soon(self._pong, self._delay)

    async def _pong(self, delay: float) -> None:
        await trio.sleep(delay)
        self.last_seen = trio.current_time()

    def end(self, disconnect: Disconnect) -> None:
        del disconnect


async def measured(delays: list[float | None], seconds: float, histogram: Histogram | None) -> list[SlowPeer]:
    """Let clients with these delays be pinged for so long, those of each number spread over the interval."""
    async with trio.open_nursery() as nursery:
        heartbeat = Heartbeat(interval=INTERVAL, timeout=1e6, round_trips=histogram, rng=random.Random(3))
        nursery.start_soon(heartbeat.run)
        peers = []
        for delay in delays:
            peers.append(SlowPeer(nursery, delay))
            heartbeat.add(peers[-1])
            await trio.sleep(INTERVAL / len(delays))
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return peers


async def test_a_client_that_is_alone_is_measured_at_every_ping(autojump_clock: MockClock) -> None:
    histogram = Histogram()
    (peer,) = await measured([0.08], 20.5 * INTERVAL, histogram)
    assert sum(histogram.counts) == peer.pings - 1, "the last pong is taken in at the next ping"
    assert histogram.total == pytest.approx(0.08 * (peer.pings - 1))
    assert histogram.counts[BUCKETS.index(0.1)] == peer.pings - 1


async def test_of_many_a_few_are_measured_and_in_the_long_run_all_of_them(autojump_clock: MockClock) -> None:
    histogram = Histogram()
    delays: list[float | None] = [0.02, 0.2] * 100
    intervals = 60
    await measured(delays, intervals * INTERVAL, histogram)
    samples = sum(histogram.counts)
    assert intervals * SAMPLES / 2 <= samples <= intervals * SAMPLES * 2
    # Phases never change: a fixed stride would see the same clients for ever, and here only one half of them.
    share = histogram.counts[BUCKETS.index(0.025)] / samples
    assert 0.4 <= share <= 0.6


async def test_a_pong_that_does_not_come_is_no_short_round_trip(autojump_clock: MockClock) -> None:
    histogram = Histogram()
    await measured([None], 20 * INTERVAL, histogram)
    assert sum(histogram.counts) == 0


async def test_where_nobody_reads_it_nothing_is_measured(autojump_clock: MockClock) -> None:
    (peer,) = await measured([0.08], 20.5 * INTERVAL, None)
    assert peer.pings == 21


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.25, 0.9])
async def test_each_probe_is_measured(seconds: float, autojump_clock: MockClock) -> None:
    async with open_connection() as bench:
        for _ in range(5):
            assert await bench.server.receive_some() == encode("PING")
            await trio.sleep(seconds)
            await bench.server.send_all(b"+PONG\r\n")
            await wait_all_tasks_blocked()
        assert bench.round_trips == [pytest.approx(seconds)] * 5


async def test_a_probe_without_an_answer_is_no_round_trip(autojump_clock: MockClock) -> None:
    async with open_connection() as bench:
        await bench.end()
        assert bench.round_trips == []


async def test_what_somebody_waits_for_is_no_probe(autojump_clock: MockClock) -> None:
    async with open_connection() as bench:
        reply = bench.connection.request("HGETALL", "run")
        await bench.heard()
        await bench.say(b"%0\r\n")
        assert reply.done
        probe = bench.connection.probe("ROLE")
        await bench.heard()
        assert bench.round_trips == []
        await bench.say(b"*1\r\n$6\r\nmaster\r\n")
        assert probe.value == [b"master"]
        assert bench.round_trips == [pytest.approx(0.0)]
