"""What the demo's daemons and its run have for a Redis: one server, a primary under sentinels, or a cluster.

`open_backend` owns it. In the last two a primary's part is handed over to a replica while the demo runs.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import redis
import trio
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from common.embedded import open_embedded_redis
from common.embedded_cluster import open_embedded_cluster
from common.embedded_group import HOST, ask, settle
from common.embedded_sentinel import MASTER, open_embedded_sentinel
from deploy.demo.shell import redis_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis
    from common.embedded_cluster import EmbeddedCluster
    from common.embedded_sentinel import EmbeddedSentinel

Client = redis.Redis | RedisCluster

REDIS_TIMEOUT: Final = 60.0
"""Seconds for one request."""

HANDOVER_TIMEOUT: Final = 70.0
"""Seconds in which a handover that has begun is gone through with, also when the demo is told to end: nobody is left
between two primaries."""


class Topology(Enum):
    """What there can be."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@attrs.frozen
class Handover:
    """One that has happened: where the primary was, where it is, and the seconds that it took."""

    old: str
    new: str
    seconds: float


class Backend(Protocol):
    """What the stage knows of it."""

    @property
    def successor(self) -> Successor | None:
        """Who hands a primary's part over; None where there is nobody to hand it to."""

    def url(self, database: int) -> str:
        """For a daemon whose database that is, where there is a choice of one."""

    def command(self, database: int, name: str, *arguments: str) -> str:
        """What a shell says for a Redis command, now."""

    def open_client(self, database: int) -> Client:
        """What the run writes with. The caller closes it."""

    async def introduce(self) -> str:
        """What it is, in a line; empty where that goes without saying."""


class Successor(Protocol):
    """What the stage knows of a group that can hand a part over."""

    @property
    def holds(self) -> bool:
        """Whether nobody may write meanwhile: what the old primary takes in then the new one has not."""

    async def primary(self, key: str) -> str:
        """Where the primary of `key` is, now."""

    async def hand_over(self, key: str, channel: str) -> None:
        """Let a replica take over the part of the primary of `key`; done when everybody goes to the new one, those who
        listen to `channel` too. Raises `EmbeddedRedisError` when that does not come about."""


@attrs.frozen
class _Single:
    server: EmbeddedRedis
    successor: Successor | None = None

    def url(self, database: int) -> str:
        return self.server.url(database)

    def command(self, database: int, name: str, *arguments: str) -> str:
        return _command(self.server, database, name, *arguments)

    def open_client(self, database: int) -> Client:
        return redis.Redis.from_url(self.server.url(database), socket_timeout=REDIS_TIMEOUT, retry=_no_retries())

    async def introduce(self) -> str:
        return ""


@attrs.frozen
class _UnderSentinels:
    group: EmbeddedSentinel
    holds: bool = True

    @property
    def successor(self) -> Successor | None:
        return self

    def url(self, database: int) -> str:
        return self.group.url(database)

    def command(self, database: int, name: str, *arguments: str) -> str:
        return _command(self.group.nodes[0], database, name, *arguments)

    def open_client(self, database: int) -> Client:
        hosts = [(HOST, each.port) for each in self.group.sentinels]
        sentinels = Sentinel(hosts, socket_timeout=REDIS_TIMEOUT)  # type: ignore[no-untyped-call]
        client: redis.Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
            MASTER, db=database, socket_timeout=REDIS_TIMEOUT, retry=_no_retries()
        )
        return client

    async def introduce(self) -> str:
        nodes = " and ".join(map(_address, self.group.nodes))
        return f"Redis is a primary and its replica, {nodes}, under {len(self.group.sentinels)} sentinels."

    async def primary(self, key: str) -> str:
        del key
        return _address(await self.group.primary())

    async def hand_over(self, key: str, channel: str) -> None:
        del key
        new = await self.group.failover()

        async def followed() -> bool:
            reply = await ask(new, "PUBSUB", "NUMSUB", channel)
            return isinstance(reply, list) and int(reply[1]) > 0

        await settle("who listens has followed the primary", followed)


@attrs.frozen
class _Cluster:
    cluster: EmbeddedCluster
    holds: bool = False

    @property
    def successor(self) -> Successor | None:
        return self

    def url(self, database: int) -> str:
        del database
        return self.cluster.url()

    def command(self, database: int, name: str, *arguments: str) -> str:
        del database
        port = self.cluster.nodes[0].port
        return redis_command(f"-c -p {port}", f"redis.RedisCluster(host='{HOST}', port={port})", name, *arguments)

    def open_client(self, database: int) -> Client:
        del database
        nodes = [ClusterNode(HOST, node.port) for node in self.cluster.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, socket_timeout=REDIS_TIMEOUT)

    async def introduce(self) -> str:
        primaries = await self.cluster.primaries()
        replicas = len(self.cluster.nodes) - len(primaries)
        return f"Redis is a cluster of {len(primaries)} primaries and {replicas} replicas."

    async def primary(self, key: str) -> str:
        return _address(await self.cluster.owner(await self.cluster.slot(key)))

    async def hand_over(self, key: str, channel: str) -> None:
        del channel
        await self.cluster.wait_whole()
        await self.cluster.failover(await self.cluster.slot(key))


@asynccontextmanager
async def open_backend(topology: Topology) -> AsyncIterator[Backend]:
    """Start it; it answers when the block is entered, and ends with it. Raises `EmbeddedRedisError`."""
    match topology:
        case Topology.SINGLE:
            async with open_embedded_redis() as server:
                yield _Single(server)
        case Topology.SENTINEL:
            async with open_embedded_sentinel() as group:
                yield _UnderSentinels(group)
        case Topology.CLUSTER:
            async with open_embedded_cluster() as cluster:
                yield _Cluster(cluster)


async def hand_over(successor: Successor, client: Client, key: str, channel: str) -> Handover | None:
    """Have the part of the primary of `key` handed over, and `client` go to the new one; None when there was no time.

    It is gone through with when it is cancelled, for HANDOVER_TIMEOUT at most.
    """
    began = trio.current_time()
    with trio.move_on_after(HANDOVER_TIMEOUT, shield=True):
        old = await successor.primary(key)
        await successor.hand_over(key, channel)
        if isinstance(client, redis.Redis):
            # Its next command asks the sentinels where the primary is.
            client.connection_pool.disconnect()
        return Handover(old, await successor.primary(key), trio.current_time() - began)
    return None


def _no_retries() -> Retry:
    # This server is our own, and when it is gone the demo is over.
    return Retry(NoBackoff(), 0)


def _command(node: EmbeddedRedis, database: int, name: str, *arguments: str) -> str:
    return redis_command(
        f"-p {node.port} -n {database}", f"redis.Redis(port={node.port}, db={database})", name, *arguments
    )


def _address(node: EmbeddedRedis) -> str:
    return f"{HOST}:{node.port}"
