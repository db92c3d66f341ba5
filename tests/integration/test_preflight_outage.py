"""preflightd while its redis-server dies, changes, stands still or throws it out: afterwards nobody is stale.

Resyncs are off unless the test is about them, so that nothing but the reconnection itself mends what was missed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.client import HANGUP_PAYLOAD
from tests.support.daemon import open_daemon
from tests.support.preflight import WEPP, check_no_repeats, frame_of, gather, wait_true
from tests.support.raw import PATIENCE, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.embedded import EmbeddedRedis
    from tests.support.daemon import DaemonProcess
    from tests.support.raw import RawClient, RedisConnection

pytestmark = pytest.mark.integration

RUNS: Final = ("run-1", "run-2", "batch;;hill-7;;_base", "run_4.x")

LOST: Final = "redis stream interrupted"
RETRY: Final = "redis unavailable, retrying"
TIMED_OUT: Final = "redis request timed out"
ENDED: Final = "connection ended with error"
EXHAUSTED: Final = "redis unavailable, clients ended"
REPLICA: Final = "redis is a replica"
NOTIFICATIONS: Final = "keyspace notifications"

QUICK: Final = {
    "redis_retry_base": "50ms",
    "redis_retry_max": "100ms",
    "redis_max_retries": "0",
    "resync_interval": "0",
}


async def write(redis: RedisConnection, rng: random.Random, number: int) -> None:
    """One step of one run, with a number that no step had before."""
    run_id, step = rng.choice(RUNS), rng.choice(WEPP)
    await redis.call("HSET", run_id, b"timestamps:" + step, number, b"locked:" + step, rng.choice(["true", "false"]))


def by_run(clients: list[RawClient]) -> dict[str, list[RawClient]]:
    """What `gather` has made, by run."""
    return {run_id: clients[number :: len(RUNS)] for number, run_id in enumerate(RUNS)}


def kept_out(daemon: DaemonProcess) -> int:
    """How many attempts Redis has refused for want of the password."""
    return sum("NOAUTH" in line["error"] for line in daemon.said(RETRY))


def check_stayed(clients: Iterable[RawClient]) -> None:
    """Every conversation goes on, and nobody was told the same twice in a row."""
    for client in clients:
        assert not client.ended
        assert client.close_code is None
    check_no_repeats(clients)


@pytest.mark.parametrize(("attempts", "resync"), [(1, "0"), (30, "200ms")], ids=["short", "with failing resyncs"])
async def test_a_restart_in_which_the_hash_changed_while_no_one_was_connected(
    redis_server: EmbeddedRedis, nursery: trio.Nursery, attempts: int, resync: str
) -> None:
    settings = QUICK | {"resync_interval": resync}
    async with open_daemon(redis_server, settings, expect={LOST, RETRY}, module="preflightd") as daemon:
        async with open_redis(redis_server) as redis:
            for run_id in RUNS:
                await redis.call("HSET", run_id, "timestamps:build_channels", 1, "attrs:has_sbs", "true")
            clients = await gather(nursery, daemon.port, RUNS, 20)
            await wait_true(redis, by_run(clients))
        # A password keeps the daemon out until the hashes are what they will be.
        redis_server.password = "unknown-to-the-daemon"
        await redis_server.restart()
        async with open_redis(redis_server) as redis:
            for run_id in RUNS[1:]:
                await redis.call("HSET", run_id, "timestamps:run_rhem", 2)
            # By the pauses between them alone, 30 attempts last for several resyncs.
            kept_out = f"{attempts} attempts kept out"
            await wait_until(
                lambda: sum("NOAUTH" in line["error"] for line in daemon.said(RETRY)) >= attempts, kept_out
            )
            assert all(len(client.messages) == 1 for client in clients)
            await redis.call("CONFIG", "SET", "requirepass", "")
            redis_server.password = None
            await wait_true(redis, by_run(clients))
        assert clients[0].messages[-1] == frame_of({}), "its hash is gone"
        check_stayed(clients)
        assert all(len(client.messages) == 2 for client in clients)


async def test_connections_killed_at_any_moment(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    rng = random.Random(20)
    expect = {LOST, RETRY}
    async with (
        open_daemon(redis_server, QUICK, expect=expect, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        clients = await gather(nursery, daemon.port, RUNS, 40)
        number = hits = 0
        for kill in range(1, 16):
            for _ in range(rng.randrange(1, 40)):
                number += 1
                await write(redis, rng, number)
                await trio.sleep(rng.choice([0, 0, 0.002, 0.01]))
            killed = await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
            hits += killed == 1
            for _ in range(rng.choice([0, 1, 5])):
                number += 1
                await write(redis, rng, number)
                await trio.sleep(rng.choice([0, 0.002]))
            if kill % 3 == 0:
                # Only now and then: mostly the next kill may meet a connection that is being made.
                await wait_until(lambda: is_subscribed(redis), "subscribed again")
                await wait_true(redis, by_run(clients))
        await wait_true(redis, by_run(clients))
        check_stayed(clients)
        assert hits >= 5


@pytest.mark.sensitive
async def test_a_server_that_stands_still_and_goes_on(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    """Reads time out, the link is given up; what was written in the meantime is known afterwards."""
    expect = {LOST, RETRY, TIMED_OUT, NOTIFICATIONS}
    async with (
        open_daemon(
            redis_server, QUICK | {"redis_request_timeout": "2s"}, expect=expect, module="preflightd"
        ) as daemon,
        open_redis(redis_server) as redis,
    ):
        clients = await gather(nursery, daemon.port, RUNS, 20)
        redis_server.stop()
        try:
            for run_id in RUNS:
                await redis.send("HSET", run_id, "timestamps:run_rhem", 2)
            await daemon.wait_said(LOST)
            assert await daemon.health() == 503
        finally:
            redis_server.cont()
        for _ in RUNS:
            await redis.next()
        await wait_true(redis, by_run(clients))
        check_stayed(clients)


async def test_a_server_that_comes_back_without_notifications_is_told_of(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = QUICK | {"resync_interval": "1s"}
    async with (
        open_daemon(redis_server, settings, expect={LOST, RETRY, NOTIFICATIONS}, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        clients = await gather(nursery, daemon.port, RUNS, 4)
        assert not daemon.said(NOTIFICATIONS)
        await redis.call("CONFIG", "SET", "notify-keyspace-events", "")
        await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        (line,) = await daemon.wait_said(NOTIFICATIONS)
        assert "redis-cli config set notify-keyspace-events" in line["warning"]
        for run_id in RUNS:
            await redis.call("HSET", run_id, "timestamps:run_rhem", 2)
        await wait_true(redis, by_run(clients))
        check_stayed(clients)


async def test_a_primary_that_becomes_a_replica_is_left_once_and_then_read_from(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    """Its name leads nowhere else: what the replica has is better than nothing. Promoted again, it is as before."""
    # Without resyncs no replica is good enough.
    settings = QUICK | {"resync_interval": "1h"}
    async with (
        open_daemon(redis_server, settings, expect={LOST, REPLICA}, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        clients = await gather(nursery, daemon.port, RUNS, 8)
        # Of a primary that is not there: a replica keeps what it has, and serves it.
        await redis.call("REPLICAOF", "127.0.0.1", 1)
        (lost,) = await daemon.wait_said(LOST)
        assert "the primary has become a replica" in lost["error"]
        await daemon.wait_said("redis online", 2)
        assert len(await daemon.wait_said(REPLICA)) == 1
        assert await daemon.health() == 200
        await redis.call("REPLICAOF", "NO", "ONE")
        await daemon.wait_said("redis is a primary again")
        for run_id in RUNS:
            await redis.call("HSET", run_id, "timestamps:run_rhem", 2)
        await wait_true(redis, by_run(clients))
        check_stayed(clients)
        assert len(daemon.said("redis online")) == 2


async def test_a_server_that_stays_away_ends_the_clients(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = QUICK | {"redis_max_retries": "2"}
    expect = {LOST, RETRY, ENDED, EXHAUSTED}
    async with open_daemon(redis_server, settings, expect=expect, module="preflightd") as daemon:
        clients = await gather(nursery, daemon.port, RUNS, 8)
        await redis_server.kill()
        for client in clients:
            await client.wait_ended(within=PATIENCE)
            assert client.messages == [frame_of({}), HANGUP_PAYLOAD]
            assert client.close_code == 1013
        await redis_server.start()
        await wait_until(lambda: is_healthy(daemon), "healthy again")
        async with open_redis(redis_server) as redis:
            await redis.call("HSET", RUNS[0], "timestamps:run_rhem", 2)
            await wait_true(redis, {RUNS[0]: await gather(nursery, daemon.port, RUNS[:1], 2)})


async def is_subscribed(redis: RedisConnection) -> bool:
    """Whether Redis has a subscriber for every run."""
    return all([await redis.subscribers(f"__keyspace@0__:{run_id}") == 1 for run_id in RUNS])


async def is_healthy(daemon: DaemonProcess) -> bool:
    """Whether `/health` says so."""
    return await daemon.health() == 200
