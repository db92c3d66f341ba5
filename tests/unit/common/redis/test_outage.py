"""Redis goes away while the link is online: what is noticed, what is kept, how it comes back, alone and in a crowd."""

from __future__ import annotations

import errno
import random
from itertools import pairwise

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.backoff import Backoff
from common.logs import make_logger
from common.redis.attempts import CALM
from common.redis.link import Link
from tests.support.links import POLICY, URL, LinkBench, make_link, open_link
from tests.support.recording import RecordingHandler, RecordingRandom, delays_of_an_outage
from tests.support.scripted_redis import hanging_up_after, message, open_scripted_redis, push

CHANNEL = b"run:status"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
SMALL = attrs.evolve(POLICY, reply_limit=65536)


async def test_silence_in_mid_session_is_noticed_within_probe_and_timeout(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        await trio.sleep(99.5)
        # The last byte came at 98, the next probe leaves at 100.
        bench.redis.holding = True
        await bench.handler.wait_for("lost")
        assert autojump_clock.current_time() == 101
        assert not bench.link.online
        assert bench.link.timeouts == 1
        assert [line["command"] for line in bench.logbook.said("redis request timed out")] == ["PING"]
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == "no answer to PING for 1s"


@pytest.mark.parametrize(
    ("last_words", "error"),
    [
        (message(CHANNEL, b"a long message")[:-8], "closed by Redis in the middle of a reply"),
        (b"$5\r\nab", "closed by Redis in the middle of a reply"),
        (b"", "closed by Redis"),
    ],
)
async def test_closed_in_mid_message_delivers_what_was_whole_and_comes_back(
    last_words: bytes, error: str, autojump_clock: MockClock
) -> None:
    async with open_link() as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        await trio.sleep(3.5)
        bench.redis.peer.send(message(CHANNEL, b"whole") + last_words)
        bench.redis.drop_all()
        await bench.handler.wait_for("online", 2)
        bench.redis.publish(CHANNEL, b"after")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {CHANNEL: [b"whole", b"after"]}
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == error
        gap = autojump_clock.current_time() - 3.5
        assert bench.handler.events[-3:-1] == [("active", CHANNEL, gap), ("online", gap)]


@pytest.mark.parametrize(
    "garbage", [b"+OK\r\n", b"?\r\n", push(b"subscribe", b"x", 1), b"$99999\r\n" + b"x" * 70000], ids=repr
)
async def test_bytes_out_of_turn_cost_one_reconnect_and_nothing_else(garbage: bytes, autojump_clock: MockClock) -> None:
    async with open_link(SMALL) as bench:
        subscription = bench.link.subscribe(CHANNEL)
        await bench.link.wait_active(subscription)
        bench.redis.peer.send(garbage)
        await bench.handler.wait_for("online", 2)
        assert subscription.active
        assert bench.logbook.at_least("error") == []
        assert autojump_clock.current_time() <= 0.5


async def test_a_twenty_megabyte_message_is_delivered(autojump_clock: MockClock) -> None:
    payload = b"x" * (20 << 20)
    async with open_link() as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        bench.redis.publish(CHANNEL, payload)
        bench.redis.publish(CHANNEL, b"after")
        with trio.fail_after(1):
            await bench.handler.wait_for("messages")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {CHANNEL: [payload, b"after"]}
        assert autojump_clock.current_time() == 0


async def test_a_burst_of_many_seconds_is_not_mistaken_for_a_stall(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        bench.redis.holding = True
        bench.link.subscribe(b"another")
        for i in range(100):
            await trio.sleep(0.5)
            bench.redis.publish(CHANNEL, b"%d" % i)
        bench.redis.release()
        await wait_all_tasks_blocked()
        assert bench.handler.count("lost") == 0
        assert bench.handler.heard == {CHANNEL: [b"%d" % i for i in range(100)]}
        assert bench.link._subscriptions[b"another"].active
        assert autojump_clock.current_time() == 50


async def flap(bench: LinkBench, until: float) -> int:
    """End every connection as soon as it is online; return how many there were."""
    with trio.move_on_at(until):
        while True:
            online = bench.link.reconnects
            bench.redis.drop_all()
            await bench.handler.wait_for("online", online + 1)
    return len(bench.redis.attempts)


@pytest.mark.parametrize(("seconds", "least", "most"), [(20, 5, 7), (3600, 120, 240)], ids=["20 s", "an hour"])
async def test_a_link_that_comes_and_goes_backs_off_and_ends_nobody(
    seconds: float, least: int, most: int, autojump_clock: MockClock
) -> None:
    rng = RecordingRandom(3)
    async with open_link(attrs.evolve(POLICY, max_retries=2), rng) as bench:
        assert least <= await flap(bench, seconds) <= most
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(len(rng.drawn))
        assert bench.handler.count("exhausted") == 0
        # Two lines a loss, and no more.
        assert len(bench.logbook.lines) <= 3 * most
        assert autojump_clock.current_time() == seconds


@pytest.mark.parametrize(("online", "calm"), [(CALM - 0.01, False), (CALM, True)])
async def test_the_delays_start_anew_after_ten_seconds_online(
    online: float, calm: bool, autojump_clock: MockClock
) -> None:
    rng = RecordingRandom(6)
    async with open_link(rng=rng) as bench:
        await flap(bench, 60)
        await bench.link.wait_online()
        await trio.sleep(bench.link.describe().since + online - trio.current_time())
        known = len(rng.drawn)
        bench.redis.drop_all()
        await bench.handler.wait_for("lost", bench.handler.count("lost") + 1)
        await wait_all_tasks_blocked()
        ((low, high, _),) = rng.drawn[known:]
        assert (low, high) == ((0, 0.5) if calm else (15, 30))
        assert autojump_clock.current_time() > 60


async def test_failures_count_from_the_last_time_online_however_short_it_was(autojump_clock: MockClock) -> None:
    """The delays go on where they were; the clients are ended for failures in a row, and flaps are none."""
    async with open_link(attrs.evolve(POLICY, max_retries=3)) as bench:
        for _ in range(10):
            bench.redis.unreachable = REFUSED
            online, attempts = bench.link.reconnects, len(bench.redis.attempts)
            bench.redis.drop_all()
            await bench.redis.wait_attempts(attempts + 2)
            await wait_all_tasks_blocked()
            bench.redis.unreachable = None
            await bench.handler.wait_for("online", online + 1)
        assert bench.handler.count("exhausted") == 0
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.handler.wait_for("exhausted")
        failed = [line["attempt"] for line in bench.logbook.said("redis unavailable, retrying")]
        assert failed == [1, 2] * 10 + [1, 2, 3]
        assert autojump_clock.current_time() > 100


async def test_the_count_of_failures_starts_anew_only_after_the_resubscription(autojump_clock: MockClock) -> None:
    rng = RecordingRandom(4)
    async with open_link(rng=rng) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        # Redis takes connections and shakes hands, but ends each of them before it acknowledges.
        bench.redis.answers = hanging_up_after(b"SUBSCRIBE", b"")
        bench.redis.drop_all()
        await trio.sleep(60)
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(len(rng.drawn))
        assert len(rng.drawn) >= 6
        assert bench.handler.count("online") == bench.handler.count("lost") == 1
        assert autojump_clock.current_time() == 60


async def test_every_outage_that_lasts_ends_the_clients_once(autojump_clock: MockClock) -> None:
    async with open_link(attrs.evolve(POLICY, max_retries=2)) as bench:
        for outage in range(1, 4):
            bench.redis.unreachable = REFUSED
            bench.redis.drop_all()
            await trio.sleep(200)
            assert bench.handler.count("exhausted") == outage
            bench.redis.unreachable = None
            await bench.handler.wait_for("online", outage + 1)
        assert autojump_clock.current_time() > 600


# -- in large ---------------------------------------------------------------------------------------------------------


async def test_a_week_without_redis_neither_overflows_nor_drifts(autojump_clock: MockClock) -> None:
    week = 7 * 86_400
    rng = RecordingRandom(5)
    attempts = 0

    async def connect(_host: str, _port: int) -> trio.abc.Stream:
        nonlocal attempts
        attempts += 1
        if attempts > 1 and autojump_clock.current_time() < week:
            raise REFUSED
        return await redis.connect()

    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        handler = RecordingHandler()
        log = make_logger("error", "redis", _Nowhere())
        link = Link(url=URL, client_name="statusd", policy=POLICY, handler=handler, log=log, rng=rng, connect=connect)
        await nursery.start(link.run)
        redis.drop_all()
        await handler.wait_for("online", 2)
        came_back = autojump_clock.current_time()
        # Not one second was lost anywhere: the time that passed is the sum of the delays that were drawn.
        assert came_back == pytest.approx(sum(delay for _, _, delay in rng.drawn))
        assert week <= came_back <= week + 30
        assert week / 30 < attempts < week / 15 + 10
        assert {(low, high) for low, high, _ in rng.drawn[6:]} == {(15, 30)}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("outage", [0.0, 6.0])
async def test_200_links_that_lose_redis_at_one_instant_come_back_spread(
    outage: float, autojump_clock: MockClock
) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        benches: list[LinkBench] = [make_link(redis, rng=random.Random(i)) for i in range(200)]
        for bench in benches:
            await nursery.start(bench.link.run)
        redis.attempts.clear()
        redis.unreachable = REFUSED if outage else None
        lost_at = autojump_clock.current_time()
        redis.drop_all()
        await trio.sleep(outage)
        redis.unreachable = None
        for bench in benches:
            await bench.handler.wait_for("online", 2)
        back = sorted(time for time in redis.attempts if time >= lost_at + outage)
        assert len(back) == 200
        assert max(_in_window(back, 0.1)) < 200 / 3
        assert max(_in_window(sorted(redis.attempts), 0.1)) < 200 / 3
        # SPEC's lower bound: nobody has used up five attempts in six seconds.
        assert all(len(bench.logbook.said("redis unavailable, retrying")) < 5 for bench in benches)
        nursery.cancel_scope.cancel()


def _in_window(times: list[float], width: float) -> list[int]:
    """For each time, how many fall into the window that it opens."""
    return [sum(start <= time < start + width for time in times) for start in times]


def test_the_backoff_that_spreads_them_is_the_one_that_is_specified() -> None:
    backoff = Backoff(POLICY.retry_base, POLICY.retry_max)
    delays = sorted(backoff.first(random.Random(i)) for i in range(200))
    assert max(b - a for a, b in pairwise(delays)) < 0.05


class _Nowhere:
    def write(self, line: str) -> None:
        """A log that goes nowhere."""
