"""A cluster of scripted servers, and a link to it: who owns which slot, and what each node says, is in a test's hands.

Each node is a `ScriptedRedis`. `ScriptedCluster.move` gives slots to another node as a real cluster does: whoever had
them ends the shard channels of those slots. A node hands on shard channels of slots that it owns, and of its primary's.
"""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.cluster import ClusterLink
from common.redis.policy import Channels, LinkPolicy
from common.redis.slots import SLOTS, Address, slot_of
from common.redis.url import PubSub, RedisURL
from tests.support.logbook import Logbook
from tests.support.recording import RecordingHandler
from tests.support.scripted_redis import Command, Peer, ScriptedRedis, bulk, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

A: Final = ("a.test", 7001)
B: Final = ("b.test", 7002)
C: Final = ("c.test", 7003)
POLICY: Final = LinkPolicy(
    request_timeout=1.0, connect_timeout=1.0, retry_base=1.0, retry_max=30.0, max_retries=0, role_interval=5.0
)


@attrs.define(eq=False)
class ScriptedNode:
    """One node. `cut_off` and `failed` make its CLUSTER INFO; `forbidden` commands are refused; `migrating` slots are
    answered with ASK, `says` replaces what it redirects to; `hanging` ones don't shake hands."""

    address: Address
    redis: ScriptedRedis
    shard: dict[Peer, set[bytes]] = attrs.Factory(dict)
    cut_off: bool = False
    failed: int = 0
    down: bool = False
    hanging: bool = False
    forbidden: set[bytes] = attrs.Factory(set)
    migrating: dict[int, Address] = attrs.Factory(dict)
    says: dict[int, str] = attrs.Factory(dict)
    asking: set[Peer] = attrs.Factory(set)

    def subscribed(self, channel: bytes) -> int:
        """How many live connections hear the shard channel."""
        return sum(channel in channels and not peer.closed for peer, channels in self.shard.items())

    def send_shard(self, channel: bytes, payload: bytes) -> None:
        """What the node's own subscribers of a shard channel get."""
        for peer, channels in self.shard.items():
            if channel in channels:
                peer.send(push(b"smessage", channel, payload))

    def end_shard(self, channels: Iterable[bytes]) -> None:
        """End shard channels without having been asked."""
        ended = set(channels)
        for peer, heard in self.shard.items():
            gone = sorted(heard & ended)
            heard -= ended
            peer.send(b"".join(push(b"sunsubscribe", channel, len(heard)) for channel in gone))

    def asked(self, name: bytes) -> list[Command]:
        """All commands of that name so far."""
        return self.redis.asked(name)


class ScriptedCluster:
    """See the module. `owners` is what every node says, `views` what single nodes say instead."""

    def __init__(self, nursery: trio.Nursery, addresses: Iterable[Address]) -> None:
        self.nodes = {address: ScriptedNode(address, ScriptedRedis(nursery)) for address in addresses}
        self.owners: list[Address | None] = [None] * SLOTS
        self.replicas: dict[Address, Address] = {}
        self.views: dict[Address, list[Address | None]] = {}
        for node in self.nodes.values():
            node.redis.answers = self._answers(node)

    def __getitem__(self, address: Address) -> ScriptedNode:
        return self.nodes[address]

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """What a link is given as its `connect`."""
        node = self.nodes.get((host, port))
        if node is None:
            raise OSError(f"nobody is at {host}:{port}")
        if node.hanging:
            await trio.sleep_forever()
        return await node.redis.connect()

    def spread(self, *primaries: Address) -> None:
        """Give each of `primaries` its part of the slots."""
        for slot in range(SLOTS):
            self.owners[slot] = primaries[slot * len(primaries) // SLOTS]

    def move(self, slots: Iterable[int], to: Address, *, silently: bool = False) -> None:
        """Give `slots` to another node; who had them ends the channels of them unless it happens `silently`."""
        moved = set(slots)
        for slot in moved:
            self.owners[slot] = to
        for node in self.nodes.values():
            if not silently and node.address != to:
                node.end_shard(
                    channel for heard in node.shard.values() for channel in heard if slot_of(channel) in moved
                )

    def publish(self, channel: bytes, payload: bytes) -> int:
        """PUBLISH: every node hands it on."""
        return sum(node.redis.publish(channel, payload) for node in self.nodes.values())

    def spublish(self, channel: bytes, payload: bytes) -> None:
        """SPUBLISH at the slot's owner, which hands it on to its replicas."""
        owner = self.owners[slot_of(channel)]
        for node in self.nodes.values():
            if node.address == owner or self.replicas.get(node.address) == owner:
                node.send_shard(channel, payload)

    def refreshes(self) -> int:
        """How often any node was asked for its map."""
        return sum(command == [b"CLUSTER", b"SLOTS"] for node in self.nodes.values() for command in node.redis.commands)

    def _answers(self, node: ScriptedNode) -> Callable[[Peer, Command], bytes | None]:
        def answers(peer: Peer, command: Command) -> bytes | None:
            name = command[0].upper()
            if name in node.forbidden or b" ".join(command[:2]).upper() in node.forbidden:
                return b"-NOPERM this user has no permissions to run the '%b' command\r\n" % name.lower()
            asking = peer in node.asking
            node.asking.discard(peer)
            match [name, *command[1:]]:
                case [b"CLUSTER", b"INFO"]:
                    return bulk(self._info(node))
                case [b"CLUSTER", b"SLOTS"]:
                    return self._slots(node)
                case [b"ASKING"]:
                    node.asking.add(peer)
                    return b"+OK\r\n"
                case [b"SSUBSCRIBE", channel]:
                    return self._elsewhere(node, slot_of(channel), shard=True) or self._ssubscribe(node, peer, channel)
                case [b"SUNSUBSCRIBE", channel]:
                    heard = node.shard.setdefault(peer, set())
                    heard.discard(channel)
                    elsewhere = self._elsewhere(node, slot_of(channel), shard=True)
                    return elsewhere or push(b"sunsubscribe", channel, len(heard))
                case [b"HGETALL" | b"XADD", key, *_]:
                    if node.down:
                        return b"-CLUSTERDOWN The cluster is down\r\n"
                    elsewhere = None if asking else self._elsewhere(node, slot_of(key))
                    return elsewhere or (b"+OK\r\n" if name == b"XADD" else None)
            return None

        return answers

    def _ssubscribe(self, node: ScriptedNode, peer: Peer, channel: bytes) -> bytes:
        if channel in node.redis.denied:
            return b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
        heard = node.shard.setdefault(peer, set())
        heard.add(channel)
        return push(b"ssubscribe", channel, len(heard))

    def _elsewhere(self, node: ScriptedNode, slot: int, *, shard: bool = False) -> bytes | None:
        """A redirection, unless the node serves `slot`. A replica hands on its primary's shard channels."""
        if slot in node.says:
            return node.says[slot].encode() + b"\r\n"
        if slot in node.migrating and not shard:
            host, port = node.migrating[slot]
            return b"-ASK %d %b:%d\r\n" % (slot, host.encode(), port)
        owner = self._view(node)[slot]
        if owner == node.address or (shard and self.replicas.get(node.address) == owner):
            return None
        if owner is None:
            return b"-CLUSTERDOWN Hash slot not served\r\n"
        return b"-MOVED %d %b:%d\r\n" % (slot, owner[0].encode(), owner[1])

    def _view(self, node: ScriptedNode) -> list[Address | None]:
        return self.views.get(node.address, self.owners)

    def _info(self, node: ScriptedNode) -> bytes:
        state = b"fail" if node.cut_off or node.failed else b"ok"
        unheard = 10922 if node.cut_off else 0
        fields = (state, unheard, node.failed)
        return b"cluster_state:%b\r\ncluster_slots_pfail:%d\r\ncluster_slots_fail:%d\r\n" % fields

    def _slots(self, node: ScriptedNode) -> bytes:
        view = self._view(node)
        ranges: list[bytes] = []
        start = 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or view[slot] != view[start]:
                if (owner := view[start]) is not None:
                    replicas = [address for address, primary in self.replicas.items() if primary == owner]
                    nodes = [b"*2\r\n" + bulk(host.encode()) + b":%d\r\n" % port for host, port in [owner, *replicas]]
                    ranges.append(b"*%d\r\n:%d\r\n:%d\r\n" % (2 + len(nodes), start, slot - 1) + b"".join(nodes))
                start = slot
        return b"*%d\r\n" % len(ranges) + b"".join(ranges)


@attrs.frozen
class ClusterBench:
    """A cluster with a link to it and everything around it."""

    link: ClusterLink
    cluster: ScriptedCluster
    handler: RecordingHandler
    logbook: Logbook

    @property
    def gaps(self) -> list[tuple[bytes, float]]:
        """What was acknowledged anew, and after which gap."""
        return [event[1:] for event in self.handler.events if event[0] == "active" and event[2] is not None]


@asynccontextmanager
async def open_cluster(
    *,
    channels: Channels = Channels.MESSAGES,
    pubsub: PubSub = "classic",
    policy: LinkPolicy = POLICY,
    seeds: tuple[Address, ...] = (A, B, C),
    run: bool = True,
    prepare: Callable[[ScriptedCluster], None] = lambda _: None,
) -> AsyncIterator[ClusterBench]:
    """Three primaries, and a link that is online unless it shall not `run`; `prepare` comes before it."""
    async with trio.open_nursery() as nursery:
        cluster = ScriptedCluster(nursery, (A, B, C))
        cluster.spread(A, B, C)
        prepare(cluster)
        handler, logbook = RecordingHandler(), Logbook()
        (host, port), *further = seeds
        link = ClusterLink(
            url=RedisURL(topology="cluster", host=host, port=port, further=tuple(further), db=0, pubsub=pubsub),
            client_name="statusd",
            policy=policy,
            handler=handler,
            log=logbook.log,
            rng=random.Random(0),
            channels=channels,
            connect=cluster.connect,
        )
        if run:
            await nursery.start(link.run)
        yield ClusterBench(link, cluster, handler, logbook)
        nursery.cancel_scope.cancel()


def named(owner: Address, *, count: int = 1, start: int = 0) -> list[bytes]:
    """Names of runs whose slots belong to `owner` while the slots are spread over A, B and C."""
    part = (A, B, C).index(owner)
    names = (b"run-%d" % number for number in range(start, start + 100 * count + 100))
    return [name for name in names if math.floor(slot_of(name) * 3 / SLOTS) == part][:count]
