"""statusd while its redis-server dies, stands still, is busy or throws it out: what clients and operators see."""

from __future__ import annotations

import random
import re
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.web.frames import text_frame
from tests.support.client import handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.load import Follower, Gap, Tape, Traffic, open_tape, open_traffic
from tests.support.raw import PATIENCE, ask, connect, fetch, open_redis, start_client, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.embedded import EmbeddedRedis

pytestmark = [pytest.mark.integration, pytest.mark.sensitive]

CHANNELS: Final = ("batch;;hill-7;;_base:wepp", "run-1:log", "run-1:wepp", "run-2:log", "run_3:soils.log")

LOST: Final = "redis stream interrupted"
RETRY: Final = "redis unavailable, retrying"
TIMED_OUT: Final = "redis request timed out"
ENDED: Final = "connection ended with error"
EXHAUSTED: Final = "redis unavailable, clients ended"

REQUEST_TIMEOUT: Final = 3.0
NOTICED: Final = {"redis_request_timeout": f"{REQUEST_TIMEOUT:g}s", "redis_connect_timeout": "5s"}
"""For tests in which Redis must be missed: a handshake is refused, a stall is noticed. The others have patience."""

ROUNDING: Final = 0.002
"""Seconds, of what a gap frame says."""

METRICS: Final = {"metrics_enabled": "true"}
QUICK: Final = {"redis_retry_base": "50ms", "redis_retry_max": "200ms", "redis_max_retries": "0"}


async def check_resumed(
    daemon: DaemonProcess, traffic: Traffic, followers: list[Follower], *, forgiven: int = 0
) -> list[Gap]:
    """End the traffic; every client still has its socket and was given what it was owed. Returns all gaps."""
    await traffic.stop(followers)
    gaps: list[Gap] = []
    for follower in followers:
        gaps += traffic.check(follower, forgiven=forgiven)
        assert follower.undisturbed
    assert await daemon.metric("status2_connections_active") == len(followers)
    assert await daemon.metric("status2_connections_total") == len(followers)
    assert await daemon.metric("status2_redis_up") == 1
    assert await daemon.health() == 200
    return gaps


def check_gaps(gaps: list[Gap], wanting: int, gone: float, still_gone: float) -> None:
    """Each of the `wanting` clients was told once of the outage, how long it was: from `gone` to `still_gone` at least.

    `gone` is when Redis certainly said nothing more, `still_gone` when it was not back.
    """
    assert [gap.era for gap in gaps] == [0] * wanting
    # The daemon had read what it read last before any client had it, and after it was sent; but for what Redis may have
    # answered to the daemon's own questions when nobody published any more.
    last_read = max(gone, *(gap.last_came for gap in gaps))
    for gap in gaps:
        assert still_gone - last_read - ROUNDING <= gap.seconds <= gap.came - gap.heard_until + ROUNDING


async def check_refused(daemon: DaemonProcess) -> None:
    """Ask for a WebSocket that is refused for want of Redis."""
    answer = await ask(daemon.port, handshake("/run-1:other"))
    assert (answer.status, answer.headers["retry-after"].isdecimal()) == (503, True)


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    """The time between two lines of a log."""
    return (datetime.fromisoformat(later["time"]) - datetime.fromisoformat(earlier["time"])).total_seconds()


# -- the server dies --------------------------------------------------------------------------------------------------


async def test_killed_and_back_at_once(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    expect = {LOST, RETRY}
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS | {"redis_max_retries": "0"}, expect=expect) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        await redis_server.kill()
        gone = trio.current_time()
        await trio.sleep(0.3)
        still_gone = trio.current_time()
        await redis_server.start()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers, forgiven=1)
        check_gaps(gaps, 50, gone, still_gone)
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert await daemon.metric("status2_redis_reconnects_total") == 2
        assert await daemon.metric("status2_redis_recoveries_total") == 1
        assert len(daemon.said(LOST)) == 1


async def test_killed_and_back_after_several_attempts(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = METRICS | NOTICED | {"redis_retry_base": f"{BASE:g}s", "redis_max_retries": "0"}
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, settings, expect={LOST, RETRY}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        await redis_server.kill()
        gone = trio.current_time()
        await daemon.wait_said(LOST)
        answer = await fetch(daemon.port, "/health")
        assert (answer.status, answer.body) == (503, b"redis is unavailable\n")
        assert (await fetch(daemon.port, "/health/live")).status == 200
        assert await daemon.metric("status2_redis_up") == 0
        await check_refused(daemon)
        await daemon.wait_said(RETRY, 3)
        still_gone = trio.current_time()
        await redis_server.start()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers, forgiven=1)
        check_gaps(gaps, 50, gone, still_gone)
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert await daemon.metric("status2_redis_reconnects_total") == 2
        check_retries(daemon)
        assert not daemon.said(EXHAUSTED)


BASE: Final = 0.2
"""Seconds before the second attempt, at most."""


def check_retries(daemon: DaemonProcess) -> None:
    """The log counts the attempts, and says how long it waits: as long as the settings allow, and then it does."""
    (lost,) = daemon.said(LOST)
    (_, online) = daemon.said("redis online")
    retries = daemon.said(RETRY)
    assert [line["attempt"] for line in retries] == list(range(1, len(retries) + 1))
    assert len(retries) >= 3
    assert online["attempt"] == len(retries) + 1
    assert lost["time"] <= retries[0]["time"]
    for line, after in zip(retries, [*retries[1:], online], strict=True):
        longest = BASE * 2.0 ** (line["attempt"] - 1)
        assert longest / 2 - 0.001 <= line["backoff"] <= longest + 0.001
        assert line["backoff"] - 0.01 <= seconds_between(line, after)
        assert "connection refused" in line["error"]


async def test_clients_are_sent_away_when_the_retries_are_exhausted(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = METRICS | NOTICED | {"redis_max_retries": "2", "redis_retry_base": "100ms", "redis_retry_max": "200ms"}
    expect = {LOST, RETRY, EXHAUSTED, ENDED}
    async with open_daemon(redis_server, settings, expect=expect) as daemon:
        clients = [await connect(nursery, daemon.port, f"/run-{number % 3}:log") for number in range(9)]
        await redis_server.kill()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert client.messages == []
            assert client.close_code == 1013
        assert await daemon.metric("status2_disconnects_total", 'reason="redis_unavailable"') == 9
        assert len(await daemon.wait_said(ENDED, 9, reason="redis_unavailable")) == 9
        await check_refused(daemon)
        assert await daemon.health() == 503

        await daemon.wait_said(RETRY, 1, attempt=4)
        assert len(daemon.said(EXHAUSTED)) == 1
        await redis_server.start()
        await daemon.wait_said("redis online", 2)
        assert await daemon.health() == 200
        client = await connect(nursery, daemon.port, "/run-1:log")
        async with open_redis(redis_server) as redis:
            assert await redis.publish("run-1:log", ["again"]) == [1]
        assert await client.receive(1) == [b'{"type":"status","data":"again"}']

        # The next outage counts from one again.
        await redis_server.kill()
        await client.wait_ended(within=PATIENCE)
        assert client.close_code == 1013
        await daemon.wait_said(EXHAUSTED, 2)
        assert len(daemon.said(RETRY, attempt=1)) == 2


async def test_a_handshake_that_meets_the_end_of_an_outage_is_accepted(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_daemon(redis_server, QUICK, expect={LOST, RETRY}) as daemon:
        # It asks before anybody knows of an outage: who comes after the first failed attempt is refused at once.
        redis_server.stop()
        client = await start_client(nursery, daemon.port, handshake("/run-1:log?gap=1"))
        await wait_until(lambda: daemon.clients() == 1, "it was let in")
        await redis_server.kill()
        await daemon.wait_said(LOST)
        await daemon.wait_said(RETRY)
        assert client.status is None
        await redis_server.start()
        await client.wait(lambda client: client.status is not None)
        async with open_redis(redis_server) as redis:
            assert await redis.publish("run-1:log", ["first"]) == [1]
        # It was not open when Redis went: it missed nothing, and is not told so.
        assert await client.receive(1) == [b'{"type":"status","data":"first"}']


@pytest.mark.parametrize("trouble", ["killed", "halted"])
async def test_a_drain_does_not_wait_for_a_redis_that_is_away(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, trouble: str
) -> None:
    # The one has nobody to ask; the other gives up its last question.
    settings = {"redis_max_retries": "0"} | ({"redis_request_timeout": "1h"} if trouble == "killed" else NOTICED)
    async with open_daemon(redis_server, settings, expect={LOST, RETRY, TIMED_OUT}) as daemon:
        clients = [await connect(nursery, daemon.port, f"/run-{number}:log") for number in range(5)]
        if trouble == "killed":
            await redis_server.kill()
            await daemon.wait_said(LOST)
        else:
            redis_server.stop()
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert (client.messages, client.close_code) == ([], 1001)
        assert await daemon.wait_exit() == 0


# -- the server stands still ------------------------------------------------------------------------------------------


async def test_halted_until_it_is_noticed_and_longer(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = METRICS | NOTICED | QUICK
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, settings, expect={LOST, RETRY, TIMED_OUT}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        await traffic.halt()
        gone = trio.current_time()
        # No client asks for anything meanwhile: it is the probe that notices, or the question for the server's role.
        (lost,) = await daemon.wait_said(LOST)
        assert await daemon.health() == 503
        asked = next(
            command
            for command in ("PING", "HELLO")
            if f"no answer to {command} for {REQUEST_TIMEOUT:g}s" in lost["error"]
        )
        assert daemon.said(TIMED_OUT, command=asked, seconds=REQUEST_TIMEOUT)
        assert await daemon.metric("status2_redis_up") == 0
        assert await daemon.metric("status2_redis_timeouts_total") >= 1
        await check_refused(daemon)
        await daemon.wait_said(RETRY)
        still_gone = trio.current_time()
        redis_server.cont()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers)
        check_gaps(gaps, 50, gone, still_gone)
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert len(daemon.said(LOST)) == 1
        retries = daemon.said(RETRY)
        assert [line["attempt"] for line in retries] == list(range(1, len(retries) + 1))


async def test_a_handshake_during_a_stall_is_refused_and_ends_the_stalled_link(redis_server: EmbeddedRedis) -> None:
    settings = METRICS | QUICK | {"redis_request_timeout": "1s"}
    async with open_daemon(redis_server, settings, expect={LOST, RETRY, TIMED_OUT}) as daemon:
        redis_server.stop()
        await check_refused(daemon)
        await daemon.wait_said(LOST)
        assert await daemon.health() == 503
        redis_server.cont()
        await daemon.wait_said("redis online", 2)
        assert await daemon.metric("status2_handshakes_rejected_total", 'reason="redis_unavailable"') == 1


async def test_a_pause_below_the_timeout_is_no_outage(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 10)
        await traffic.wait_heard()

        async def go_on() -> None:
            await trio.sleep(0.5)
            redis_server.cont()

        redis_server.stop()
        async with trio.open_nursery() as pausing:
            pausing.start_soon(go_on)
            followers += [await traffic.follow(nursery, daemon.port, f"{CHANNELS[0]}") for _ in range(3)]
        await traffic.wait_heard()
        assert await check_resumed(daemon, traffic, followers) == []
        assert await daemon.metric("status2_redis_reconnects_total") == 1
        assert await daemon.metric("status2_redis_recoveries_total") == 0
        assert await daemon.metric("status2_redis_timeouts_total") == 0


# -- the server is busy -----------------------------------------------------------------------------------------------

PUBLISHERS: Final = 4
CHUNK: Final = 5_000
HOT: Final = "run-1:log"
NEW: Final = tuple(f"new-{number}:log" for number in range(16))
STATUS: Final = re.compile(rb'\x81.\{"type":"status","data":"(\d)-(\d+)-x{30}"\}', re.DOTALL)


def burst_channel(number: int) -> str:
    """Every fourth message goes to one of the channels that get their first client in the midst of the burst."""
    return NEW[number % len(NEW)] if number % 4 == 3 else HOT


PUBLISH: Final = """
for number = ARGV[2], ARGV[2] + ARGV[3] - 1 do
  local channel = ARGV[4]
  if number % 4 == 3 then channel = ARGV[5 + number % (#ARGV - 4)] end
  redis.call('PUBLISH', channel, ARGV[1] .. '-' .. number .. '-' .. string.rep('x', 30))
end
"""
"""What a publisher has the server do, in one turn: so the server is quicker than whoever must read it."""


async def publish_burst(redis: EmbeddedRedis, publisher: int, enough: Callable[[], bool], progress: list[int]) -> None:
    """Publish as fast as Redis can; `progress` says how many messages were published, or are about to be."""
    async with open_redis(redis) as connection:
        while not enough():
            start = progress[publisher]
            progress[publisher] += CHUNK
            await connection.call("EVAL", PUBLISH, 0, publisher, start, CHUNK, HOT, *NEW)


def check_burst(tape: Tape, channel: str, owed_from: list[int], progress: list[int]) -> None:
    """The client saw of each publisher's messages an unbroken end, which begins with what it was owed or earlier."""
    end = text_frame(b'{"type":"status","data":"end"}')
    data = tape.data
    assert data.endswith(end)
    seen: list[list[int]] = [[] for _ in range(PUBLISHERS)]
    size = len(end)
    for match in STATUS.finditer(data):
        seen[int(match[1])].append(int(match[2]))
        size += len(match[0])
    assert size == len(data), "something else than these messages, or half of one"
    for numbers, first, total in zip(seen, owed_from, progress, strict=True):
        published = [number for number in range(total) if burst_channel(number) == channel]
        assert numbers == published[len(published) - len(numbers) :]
        assert len(numbers) >= sum(number >= first for number in published)


async def test_a_burst_that_keeps_the_link_busy_is_not_a_stall(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    timeout = 1.0
    settings = METRICS | {"ping_interval": "1h", "pong_timeout": "3h", "max_backlog": "1024MB"}
    settings |= {"redis_request_timeout": f"{timeout:g}s"}
    progress = [0] * PUBLISHERS
    opened: list[tuple[Tape, str, list[int]]] = []
    async with (
        # A handshake whose subscription queues behind the burst for longer than that is refused, and says so.
        open_daemon(redis_server, settings, expect={TIMED_OUT}) as daemon,
        open_redis(redis_server) as redis,
    ):
        # What Redis has queued for the link is what keeps it busy: by default Redis would end it at 32 MB.
        await redis.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")

        async def join(channel: str) -> None:
            with trio.fail_after(PATIENCE):
                tape = await open_tape(nursery, daemon.port, f"/{channel}")
                while tape.status == 503:
                    tape = await open_tape(nursery, daemon.port, f"/{channel}")
            assert tape.status == 101
            opened.append((tape, channel, progress.copy()))

        def outlasted() -> bool:
            return bool(daemon.said(TIMED_OUT))

        async def visit(number: int) -> None:
            tape = await open_tape(nursery, daemon.port, f"/visit-{number}:log")
            await tape.aclose()

        for _ in range(2):
            await join(HOT)
        # However fast or slow everybody is, it lasts until an answer has queued behind it for longer than it may take.
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as burst:
                for publisher in range(PUBLISHERS):
                    burst.start_soon(publish_burst, redis_server, publisher, outlasted, progress)
                for channel in NEW:
                    burst.start_soon(join, channel)
                for number in count():
                    if outlasted():
                        break
                    burst.start_soon(visit, number)
                    await trio.sleep(0.1)
        for channel in {channel for _, channel, _ in opened}:
            assert await redis.publish(channel, ["end"]) == [1]
        for tape, _, _ in opened:
            await tape.wait_end(b'"end"}')
        assert not daemon.said(LOST)
        assert await daemon.metric("status2_redis_reconnects_total") == 1
        await wait_until(lambda: daemon.clients() == len(opened), "only those who stay are there")
        for tape, channel, owed_from in opened:
            check_burst(tape, channel, owed_from, progress)
            await tape.aclose()


# -- the server throws us out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
async def test_thrown_out_at_random_moments(redis_server: EmbeddedRedis, nursery: trio.Nursery, seed: int) -> None:
    rng = random.Random(seed)
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS | QUICK, expect={LOST, RETRY}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        killed = 0
        for _ in range(12):
            thrown_out = await traffic.disturb("CLIENT", "KILL", "TYPE", "pubsub")
            killed += thrown_out == 1
            await trio.sleep(rng.choice([0.0, 0.01, 0.05, 0.3]) * rng.random())
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers)
        assert len(gaps) <= 50 * killed
        assert await daemon.metric("status2_gaps_total") * 10 == len(gaps)
        assert all(gap.seconds <= gap.came - gap.heard_until + ROUNDING for gap in gaps)
        assert 1 <= len(await daemon.wait_said(LOST)) <= killed
