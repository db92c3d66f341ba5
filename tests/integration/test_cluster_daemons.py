"""The daemons as processes on a real cluster, through a failover, a moved slot and a kill: no client ends."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.embedded_cluster import open_embedded_cluster
from common.redis.slots import slot_of
from tests.support.cluster_client import ClusterClient, UncertainError, open_cluster_client
from tests.support.daemon import open_daemon
from tests.support.preflight import frame_of
from tests.support.raw import PATIENCE, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from common.embedded_cluster import EmbeddedCluster
    from tests.support.raw import RawClient

pytestmark = pytest.mark.integration

RUN: Final = "batch;;hill-7;;_base"
EXPECTED: Final = frozenset(
    {"redis stream interrupted", "redis cluster's node unavailable, retrying", "redis request timed out", "read failed"}
)
"""What a kill makes them say."""


async def again(redis: ClusterClient, *args: bytes | str | int) -> object:
    """The answer to something that may be asked twice: a connection may have ended with its node."""
    while True:
        try:
            return await redis.call(*args, key=RUN)
        except UncertainError:
            continue


async def wait_frame(client: RawClient, redis: ClusterClient) -> None:
    """Wait until the last frame is that of the hash, which nobody writes meanwhile."""
    reply = await again(redis, "HGETALL", RUN)
    assert isinstance(reply, list)
    expected = frame_of(dict(zip(reply[::2], reply[1::2], strict=True)))
    await client.wait(lambda client: client.messages[-1:] == [expected], within=PATIENCE)


async def test_preflightd_follows_a_run_to_whichever_node_has_it(redis_program: Path, nursery: trio.Nursery) -> None:
    async with (
        open_embedded_cluster(program=redis_program, node_timeout=5.0) as cluster,
        open_cluster_client(cluster) as redis,
    ):
        settings = {"resync_interval": "0", "redis_request_timeout": "5s"}
        async with open_daemon(cluster.url(), settings, expect=EXPECTED, module="preflightd") as daemon:
            client = await connect(nursery, daemon.port, f"/{RUN}")
            await client.receive(1)
            number = 0
            async for _ in faults(cluster, slot_of(RUN)):
                number += 1
                await again(redis, "HSET", RUN, "timestamps:build_channels", number, "locked:x", "true")
                await wait_frame(client, redis)
            assert number == 4
            assert not client.ended


async def test_what_no_server_tells_in_the_middle_of_a_move_is_found_by_a_resync(
    redis_program: Path, nursery: trio.Nursery
) -> None:
    """With `Kh` neither the source nor the target notifies of a key that moves."""
    slot = slot_of(RUN)
    async with (
        open_embedded_cluster(program=redis_program, notify="Kh", node_timeout=60.0) as cluster,
        open_cluster_client(cluster) as redis,
        open_daemon(cluster.url(), {"resync_interval": "1s"}, module="preflightd") as daemon,
    ):
        client = await connect(nursery, daemon.port, f"/{RUN}")
        await client.receive(1)
        await redis.call("HSET", RUN, "timestamps:build_channels", 1, key=RUN)
        await wait_frame(client, redis)
        owner = await cluster.owner(slot)
        move = await cluster.begin_move(slot, next(node for node in await cluster.primaries() if node is not owner))
        assert await move.step(), "the key has moved, and its slot has not"
        await redis.call("HSET", RUN, "locked:x", "true", key=RUN)
        await wait_frame(client, redis)
        await move.finish()
        await redis.call("HSET", RUN, "timestamps:abstract_watershed", 2, key=RUN)
        await wait_frame(client, redis)
        assert not client.ended


@pytest.mark.parametrize("pubsub", ["classic", "sharded"])
async def test_statusd_forwards_wherever_it_is_published(
    redis_program: Path, nursery: trio.Nursery, pubsub: str
) -> None:
    channel = f"{RUN}:log"
    command = "PUBLISH" if pubsub == "classic" else "SPUBLISH"
    async with (
        open_embedded_cluster(program=redis_program, node_timeout=5.0) as cluster,
        open_cluster_client(cluster) as redis,
    ):
        settings = {"redis_request_timeout": "5s", "metrics_enabled": "true"}
        url = cluster.url(options=f"pubsub={pubsub}")
        async with open_daemon(url, settings, expect=EXPECTED) as daemon:
            client = await connect(nursery, daemon.port, f"/{channel}")
            number = 0
            async for _ in faults(cluster, slot_of(channel)):
                heard = len(client.messages)
                # What is published while the channel moves may be gone.
                with trio.fail_after(PATIENCE):
                    while len(client.messages) == heard:
                        number += 1
                        # Never twice, though nobody may have got it.
                        with suppress(UncertainError):
                            await redis.call(command, channel, number, key=channel)
                        await trio.sleep(0.05)
            numbers = [int(message[len(b'{"type":"status","data":"') : -2]) for message in client.messages]
            assert numbers == sorted(set(numbers))
            assert not client.ended


async def faults(cluster: EmbeddedCluster, slot: int) -> AsyncIterator[None]:
    """One after the other, each over when its step is entered; the first is none."""
    yield
    await cluster.failover(slot)
    yield
    owner = await cluster.owner(slot)
    await cluster.move_slot(slot, next(node for node in await cluster.primaries() if node is not owner))
    yield
    await cluster.wait_whole()
    owner = await cluster.owner(slot)
    await owner.kill()
    await cluster.wait_moved(slot, owner)
    yield
