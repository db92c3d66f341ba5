"""statusd while its redis-server dies, stands still, is busy or throws it out: what clients and operators see."""

from __future__ import annotations

import random
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.web.frames import text_frame
from tests.support.client import HANGUP_PAYLOAD, handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.load import Follower, Gap, Tape, Traffic, open_tape, open_traffic, pack
from tests.support.raw import PATIENCE, ask, connect, fetch, open_redis, open_stream, start_client, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

CHANNELS: Final = ("batch;;hill-7;;_base:wepp", "run-1:log", "run-1:wepp", "run-2:log", "run_3:soils.log")

LOST: Final = "redis stream interrupted"
RETRY: Final = "redis unavailable, retrying"
TIMED_OUT: Final = "redis request timed out"
ENDED: Final = "connection ended with error"
EXHAUSTED: Final = "redis unavailable, clients ended"

REQUEST_TIMEOUT: Final = 1.0
PROBE_INTERVAL: Final = 2.0
"""Seconds of quiet after which a link is probed."""

SLACK: Final = 2.0
"""Seconds by which a busy machine may be late."""

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


def check_gaps(gaps: list[Gap], wanting: int, outages: list[tuple[float, float]]) -> None:
    """Each of the `wanting` clients was told once of each outage (surely gone, still gone), and how long it was."""
    assert sorted(gap.era for gap in gaps) == sorted(era for era in range(len(outages)) for _ in range(wanting))
    for gap in gaps:
        gone, still_gone = outages[gap.era]
        # What the daemon read last it may have read a little after the server's end.
        assert still_gone - gone - 0.1 <= gap.seconds <= gap.came - gap.heard_until + 0.002


async def refused_handshake(daemon: DaemonProcess) -> float:
    """Ask for a WebSocket that is refused for want of Redis; return after how many seconds."""
    start = trio.current_time()
    answer = await ask(daemon.port, handshake("/run-1:other"))
    assert (answer.status, answer.headers["retry-after"].isdecimal()) == (503, True)
    return trio.current_time() - start


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    """The time between two lines of a log."""
    return (datetime.fromisoformat(later["time"]) - datetime.fromisoformat(earlier["time"])).total_seconds()


# -- the server dies --------------------------------------------------------------------------------------------------


async def test_killed_and_back_at_once(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    expect = {LOST, RETRY}
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS, expect=expect) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        await redis_server.kill()
        gone = trio.current_time()
        await trio.sleep(0.3)
        outage = (gone, trio.current_time())
        await redis_server.start()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers, forgiven=1)
        check_gaps(gaps, 50, [outage])
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert await daemon.metric("status2_redis_reconnects_total") == 2
        assert len(daemon.said(LOST)) == 1


async def test_killed_and_back_after_six_seconds(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    expect = {LOST, RETRY}
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS, expect=expect) as daemon,
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
        assert await refused_handshake(daemon) < REQUEST_TIMEOUT + SLACK
        await trio.sleep_until(gone + 6)
        outage = (gone, trio.current_time())
        await redis_server.start()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers, forgiven=1)
        check_gaps(gaps, 50, [outage])
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert await daemon.metric("status2_redis_reconnects_total") == 2
        check_retries(daemon)
        assert not daemon.said(EXHAUSTED)


def check_retries(daemon: DaemonProcess) -> None:
    """The log counts the attempts, and says how long it waits: as long as the defaults allow, and then it does."""
    (lost,) = daemon.said(LOST)
    (_, online) = daemon.said("redis online")
    retries = daemon.said(RETRY)
    assert [line["attempt"] for line in retries] == list(range(1, len(retries) + 1))
    assert len(retries) >= 3
    assert online["attempt"] == len(retries) + 1
    assert 0 <= seconds_between(lost, retries[0]) <= 0.5 + SLACK
    for line, after in zip(retries, [*retries[1:], online], strict=True):
        longest = 2.0 ** (line["attempt"] - 1)
        assert longest / 2 <= line["backoff"] <= longest
        assert line["backoff"] - 0.01 <= seconds_between(line, after) <= line["backoff"] + SLACK
        assert "connection refused" in line["error"]


async def test_clients_are_sent_away_when_the_retries_are_exhausted(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = METRICS | {"redis_max_retries": "2", "redis_retry_base": "100ms", "redis_retry_max": "200ms"}
    expect = {LOST, RETRY, EXHAUSTED, ENDED}
    async with open_daemon(redis_server, settings, expect=expect) as daemon:
        clients = [await connect(nursery, daemon.port, f"/run-{number % 3}:log") for number in range(9)]
        await redis_server.kill()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert client.messages == [HANGUP_PAYLOAD]
            assert client.close_code == 1013
        assert await daemon.metric("status2_disconnects_total", 'reason="redis_unavailable"') == 9
        assert len(await daemon.wait_said(ENDED, 9, reason="redis_unavailable")) == 9
        assert await refused_handshake(daemon) < REQUEST_TIMEOUT + SLACK
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
    expect = {LOST, RETRY}
    async with open_daemon(redis_server, QUICK | {"redis_request_timeout": f"{PATIENCE:g}s"}, expect=expect) as daemon:
        await redis_server.kill()
        await daemon.wait_said(LOST)
        client = await start_client(nursery, daemon.port, handshake("/run-1:log?gap=1"))
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
    expect = {LOST, RETRY, TIMED_OUT}
    async with open_daemon(redis_server, {"redis_max_retries": "0"}, expect=expect) as daemon:
        clients = [await connect(nursery, daemon.port, f"/run-{number}:log") for number in range(5)]
        if trouble == "killed":
            await redis_server.kill()
            await daemon.wait_said(LOST)
        else:
            redis_server.stop()
        daemon.signal()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert (client.messages, client.close_code) == ([HANGUP_PAYLOAD], 1001)
        assert await daemon.wait_exit() == 0
        (draining,), (stopped,) = daemon.said("draining"), daemon.said("stopped")
        assert seconds_between(draining, stopped) < REQUEST_TIMEOUT + SLACK


# -- the server stands still ------------------------------------------------------------------------------------------


async def test_halted_for_ten_seconds(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = METRICS | {"redis_retry_max": "1s", "redis_max_retries": "0"}
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, settings, expect={LOST, RETRY, TIMED_OUT}) as daemon,
    ):
        followers = await traffic.gather(nursery, daemon.port, 100)
        await traffic.wait_heard()
        await traffic.halt()
        halted = trio.current_time()
        # Nothing is asked meanwhile: it is the probe that notices.
        await wait_until(
            lambda: bool(daemon.said(LOST)), "the stall noticed", within=PROBE_INTERVAL + REQUEST_TIMEOUT + SLACK
        )
        assert await daemon.health() == 503
        (lost,) = daemon.said(LOST)
        assert "no answer to PING for 1s" in lost["error"]
        assert daemon.said(TIMED_OUT, command="PING", seconds=REQUEST_TIMEOUT)
        assert await daemon.metric("status2_redis_up") == 0
        assert await daemon.metric("status2_redis_timeouts_total") >= 1
        assert await refused_handshake(daemon) < REQUEST_TIMEOUT + SLACK
        await trio.sleep_until(halted + 10)
        outage = (halted, trio.current_time())
        redis_server.cont()
        await daemon.wait_said("redis online", 2)
        await traffic.wait_heard()

        gaps = await check_resumed(daemon, traffic, followers)
        check_gaps(gaps, 50, [outage])
        assert await daemon.metric("status2_gaps_total") == len(CHANNELS)
        assert len(daemon.said(LOST)) == 1
        retries = daemon.said(RETRY)
        assert [line["attempt"] for line in retries] == list(range(1, len(retries) + 1))
        assert len(retries) >= 3


async def test_a_handshake_during_a_stall_is_refused_and_ends_the_stalled_link(redis_server: EmbeddedRedis) -> None:
    settings = METRICS | QUICK | {"redis_request_timeout": "300ms"}
    async with open_daemon(redis_server, settings, expect={LOST, RETRY, TIMED_OUT}) as daemon:
        redis_server.stop()
        assert await refused_handshake(daemon) < 0.3 + SLACK
        await daemon.wait_said(LOST)
        assert await daemon.health() == 503
        redis_server.cont()
        await daemon.wait_said("redis online", 2)
        assert await daemon.metric("status2_handshakes_rejected_total", 'reason="redis_unavailable"') == 1


async def test_a_pause_below_the_timeout_is_no_outage(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    async with (
        open_traffic(redis_server, CHANNELS) as traffic,
        open_daemon(redis_server, METRICS) as daemon,
        open_redis(redis_server) as redis,
    ):
        followers = await traffic.gather(nursery, daemon.port, 10)
        await traffic.wait_heard()
        async with trio.open_nursery() as pausing:
            pausing.start_soon(redis.call, "DEBUG", "SLEEP", "0.5")
            followers += [await traffic.follow(nursery, daemon.port, f"{CHANNELS[0]}") for _ in range(3)]
        await traffic.wait_heard()
        assert await check_resumed(daemon, traffic, followers) == []
        assert await daemon.metric("status2_redis_reconnects_total") == 1
        assert await daemon.metric("status2_redis_timeouts_total") == 0


# -- the server is busy -----------------------------------------------------------------------------------------------

PUBLISHERS: Final = 4
BURST: Final = 100_000
"""Messages of one publisher."""

CHUNK: Final = 1_000
HOT: Final = "run-1:log"
NEW: Final = tuple(f"new-{number}:log" for number in range(16))
STATUS: Final = re.compile(rb'\x81.\{"type":"status","data":"(\d)-(\d+)-x{30}"\}', re.DOTALL)


def burst_channel(number: int) -> str:
    """Every fourth message goes to one of the channels that get their first client in the midst of the burst."""
    return NEW[number % len(NEW)] if number % 4 == 3 else HOT


async def publish_burst(redis: EmbeddedRedis, publisher: int, chunks: list[bytes], progress: list[int]) -> None:
    """Send everything as fast as Redis takes it; `progress` says how much was sent, or is about to be."""
    async with await open_stream(redis.port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(read_exactly, stream, BURST * len(b":1\r\n"))
        for chunk in chunks:
            progress[publisher] += CHUNK
            await stream.send_all(chunk)


async def read_exactly(stream: trio.SocketStream, size: int) -> None:
    """Read so many bytes, whatever they are."""
    while size > 0:
        data = await stream.receive_some(size)
        assert data
        size -= len(data)


def check_burst(tape: Tape, channel: str, owed_from: list[int]) -> None:
    """The client saw of each publisher's messages an unbroken end, which begins with what it was owed or earlier."""
    end = text_frame(b'{"type":"status","data":"end"}')
    published = [number for number in range(BURST) if burst_channel(number) == channel]
    data = tape.data
    assert data.endswith(end)
    seen: list[list[int]] = [[] for _ in range(PUBLISHERS)]
    size = len(end)
    for match in STATUS.finditer(data):
        seen[int(match[1])].append(int(match[2]))
        size += len(match[0])
    assert size == len(data), "something else than these messages, or half of one"
    for numbers, first in zip(seen, owed_from, strict=True):
        assert numbers == published[len(published) - len(numbers) :]
        assert len(numbers) >= sum(number >= first for number in published)


async def test_a_burst_that_keeps_the_link_busy_is_not_a_stall(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    timeout = 0.3
    settings = METRICS | {"ping_interval": "1h", "pong_timeout": "3h", "max_backlog": "256MB", "write_timeout": "20s"}
    settings |= {"redis_request_timeout": f"{timeout}s"}
    chunks = [
        [
            b"".join(
                pack(("PUBLISH", burst_channel(number), f"{publisher}-{number}-{'x' * 30}"))
                for number in range(start, start + CHUNK)
            )
            for start in range(0, BURST, CHUNK)
        ]
        for publisher in range(PUBLISHERS)
    ]
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
                tape = await answered(channel)
                while tape.status == 503:
                    tape = await answered(channel)
            assert tape.status == 101
            opened.append((tape, channel, progress.copy()))

        async def answered(channel: str) -> Tape:
            start = trio.current_time()
            tape = await open_tape(nursery, daemon.port, f"/{channel}")
            assert trio.current_time() - start < timeout + SLACK
            return tape

        for _ in range(2):
            await join(HOT)
        start = trio.current_time()
        async with trio.open_nursery() as burst:
            for publisher in range(PUBLISHERS):
                burst.start_soon(publish_burst, redis_server, publisher, chunks[publisher], progress)
            for channel in NEW:
                burst.start_soon(join, channel)
                await trio.sleep(0.05)
        for channel in {channel for _, channel, _ in opened}:
            assert await redis.publish(channel, ["end"]) == [1]
        for tape, _, _ in opened:
            await tape.wait_end(b'"end"}')
        assert trio.current_time() - start > 3 * timeout
        assert not daemon.said(LOST)
        assert await daemon.metric("status2_redis_reconnects_total") == 1
        assert await daemon.metric("status2_connections_active") == len(opened)
        for tape, channel, owed_from in opened:
            check_burst(tape, channel, owed_from)
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
        assert all(gap.seconds <= gap.came - gap.heard_until + 0.002 for gap in gaps)
        assert 1 <= len(daemon.said(LOST)) <= killed
