"""preflightd's reads against a real redis-server: on connections of their own, apart from the listening one."""

from __future__ import annotations

import random
import re
import socket
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.fanout import LINGER
from common.redis.errors import ReplyTooLargeError
from common.redis.link import Link, LinkPolicy
from common.redis.reads import CONNECTIONS
from common.redis.url import RedisURL
from tests.support.client import HANGUP_PAYLOAD
from tests.support.daemon import open_daemon
from tests.support.logbook import Logbook
from tests.support.preflight import check_no_repeats, gather, wait_true
from tests.support.raw import HOST, PATIENCE, connect, open_redis, wait_until
from tests.support.recording import RecordingHandler

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RawClient, RedisConnection

pytestmark = pytest.mark.integration

LOST: Final = "redis stream interrupted"
ENDED: Final = "connection ended with error"
TOO_BIG: Final = "run hash too big"

QUICK: Final = {
    "redis_retry_base": "50ms",
    "redis_retry_max": "100ms",
    "redis_max_retries": "0",
    "resync_interval": "0",
}
KB: Final = 1 << 10


async def reads(redis: RedisConnection) -> int:
    """How many HGETALLs Redis has answered since its figures were last reset."""
    info = await redis.call("INFO", "commandstats")
    assert isinstance(info, bytes)
    found = re.search(rb"^cmdstat_hgetall:calls=(\d+)", info, re.MULTILINE)
    return int(found[1]) if found else 0


async def names(redis: RedisConnection) -> list[str]:
    """The names of the daemon's connections."""
    clients = await redis.call("CLIENT", "LIST")
    assert isinstance(clients, bytes)
    return sorted(re.findall(r" name=(preflightd\S*)", clients.decode()))


async def test_after_a_reconnect_each_large_hash_is_read_once_over_other_connections(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    """Together they are more than Redis lets wait for a subscriber (32 MB): on its connection they would end it."""
    runs = [f"run-{number}" for number in range(200)]
    async with (
        open_daemon(redis_server, QUICK, expect={LOST}, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        for run_id in runs:
            await redis.call("HSET", run_id, "timestamps:build_channels", 1, "note", "x" * (256 * KB))
        clients = await gather(nursery, daemon.port, runs, len(runs))
        await redis.call("CONFIG", "SET", "notify-keyspace-events", "")
        for run_id in runs:
            await redis.call("HSET", run_id, "attrs:has_sbs", "true")
        await redis.call("CONFIG", "SET", "notify-keyspace-events", "Kh")
        await redis.call("CONFIG", "RESETSTAT")
        await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        for client in clients:
            await client.receive(2, within=2 * PATIENCE)
        assert await reads(redis) == len(runs)
        assert len(await daemon.wait_said("redis online", 2)) == 2
        assert set(await names(redis)) == {"preflightd", "preflightd-reads"}
        assert (await names(redis)).count("preflightd-reads") <= CONNECTIONS
        # `wait_true` reads every hash itself.
        await wait_true(redis, {run_id: [client] for run_id, client in zip(runs, clients, strict=True)})
        check_no_repeats(clients)


async def test_a_hash_over_the_limit_ends_its_own_clients_and_nobody_else_notices(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = QUICK | {"max_hash": "64KB", "metrics_enabled": "true"}
    async with (
        open_daemon(redis_server, settings, expect={TOO_BIG, ENDED}, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        others = await gather(nursery, daemon.port, ["one", "two"], 6)
        await redis.call("HSET", "giant", "timestamps:build_channels", 1, "note", "x" * (60 * KB))
        first = await connect(nursery, daemon.port, "/giant")
        await first.receive(1)
        await redis.call("HSET", "giant", "more", "x" * (40 << 20))
        followed = trio.current_time()
        await check_too_big(first, frames=1)
        await redis.call("CONFIG", "RESETSTAT")
        # Those who come back are told the same, and Redis is not asked again, unless the run was forgotten meanwhile.
        forgotten = 0
        for _ in range(5):
            since, followed = followed, trio.current_time()
            client = await connect(nursery, daemon.port, "/giant")
            forgotten += trio.current_time() - since >= LINGER
            await check_too_big(client, frames=0)
        assert await reads(redis) <= forgotten
        line, *more = await daemon.wait_said(TOO_BIG)
        assert (line["run_id"], line["limit"]) == ("giant", 64 * KB)
        assert len(more) <= forgotten
        assert await daemon.metric("preflight2_disconnects_total", 'reason="run_too_big"') == 6
        for run_id in ("one", "two"):
            await redis.call("HSET", run_id, "timestamps:run_rhem", 2)
        await wait_true(redis, {"one": others[0::2], "two": others[1::2]})
        assert await daemon.health() == 200
        assert len(daemon.said("redis online")) == 1
        assert await daemon.metric("preflight2_redis_timeouts_total") == 0


async def check_too_big(client: RawClient, *, frames: int) -> None:
    """The client has had so many frames, and is told that its run is too big."""
    await client.wait_ended(within=PATIENCE)
    assert len(client.messages) == frames + 1
    assert client.messages[-1] == HANGUP_PAYLOAD
    assert client.close_code == 1009


async def test_reading_connections_that_redis_closes_are_replaced_without_a_word(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with (
        open_daemon(redis_server, QUICK, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        clients = await gather(nursery, daemon.port, ["run"], 2)
        for number in range(5):
            assert "preflightd-reads" in await names(redis)
            # Ours is spared: SKIPME.
            assert await redis.call("CLIENT", "KILL", "TYPE", "normal") != 0
            await redis.call("HSET", "run", "timestamps:run_rhem", number)
            await wait_true(redis, {"run": clients})
        assert len(daemon.said("redis online")) == 1
        check_no_repeats(clients)


async def test_a_redis_that_lets_us_listen_and_not_read_is_an_outage_until_it_does(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    expected = {"redis reads unavailable, retrying", LOST, "redis unavailable, retrying"}
    async with (
        open_daemon(redis_server, QUICK, expect=expected, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        # The connection that subscribes has shaken hands, and keeps its rights; there is none yet that reads.
        await redis.call("CONFIG", "SET", "requirepass", "another")
        try:
            client = await connect(nursery, daemon.port, "/run")

            async def unready() -> bool:
                return await daemon.health() == 503

            await wait_until(unready, "unready")
            (line, *_) = await daemon.wait_said(LOST)
            assert line["error"].startswith("no connection for reads: NOAUTH")
        finally:
            await redis.call("CONFIG", "SET", "requirepass", "")
        (first,) = await client.receive(1)
        assert first.startswith(b'{"type":"preflight"')
        assert await daemon.health() == 200


async def test_a_name_that_moves_meanwhile_does_not_lead_the_reads_elsewhere(redis_server: EmbeddedRedis) -> None:
    """It moves as soon as the link is connected, to an address where nobody listens."""
    asked: list[object] = []

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override]
            self, host: bytes | None, port: int, *_: int
        ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
            asked.append(host)
            name = HOST if len(asked) == 1 else "127.0.0.2"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port))]

        async def getnameinfo(
            self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
        ) -> tuple[str, str]:
            raise NotImplementedError

    policy = LinkPolicy(
        request_timeout=PATIENCE,
        connect_timeout=PATIENCE,
        retry_base=0.1,
        retry_max=1.0,
        max_retries=1,
        read_limit=KB,
    )
    url = RedisURL(host="redis.test", port=redis_server.port, db=0)
    link = Link(
        url=url,
        client_name="test",
        policy=policy,
        handler=RecordingHandler(),
        log=Logbook().log,
        rng=random.Random(),
    )
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(link.run)
            await link.request("HSET", "run", "a", "b")
            assert await link.read("HGETALL", "run") == {b"a": b"b"}
            await link.request("HSET", "run", "large", "x" * KB)
            with pytest.raises(ReplyTooLargeError):
                await link.read("HGETALL", "run")
            await link.request("HDEL", "run", "large")
            assert await link.read("HGETALL", "run") == {b"a": b"b"}
        nursery.cancel_scope.cancel()
    assert asked == [b"redis.test"]


async def test_a_limit_that_is_large_lets_a_large_hash_through(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    """A read is not bounded by Redis's limit for a subscriber."""
    settings = QUICK | {"max_hash": "64MB"}
    async with (
        open_daemon(redis_server, settings, module="preflightd") as daemon,
        open_redis(redis_server) as redis,
    ):
        for number in range(40):
            await redis.call("HSET", "giant", f"field-{number}", "x" * (1 << 20))
        await redis.call("HSET", "giant", "attrs:has_sbs", "true")
        await redis.call("CONFIG", "RESETSTAT")
        client = await connect(nursery, daemon.port, "/giant")
        await client.receive(1)
        assert await reads(redis) == 1
        assert len(daemon.said("redis online")) == 1
        assert not client.ended
