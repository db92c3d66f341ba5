"""A private Redis Cluster for the demo, the bench and the tests: primaries and their replicas, on loopback.

`open_embedded_cluster` owns all of them until its block is left; it needs Redis 7 or Valkey (the ports of the cluster's
bus are chosen as the others are). Nothing is persisted but each node's own view of the cluster, with which it returns.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from common.embedded import EmbeddedRedisError
from common.embedded_group import HOST, NodePlan, ask, fields, information, open_group, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from common.embedded import EmbeddedRedis

SLOTS: Final = 16384
"""How many slots the keys of a cluster are spread over."""

_MIGRATE_TIMEOUT: Final = 5000
"""Milliseconds that a key may take from one node to another."""


@asynccontextmanager
async def open_embedded_cluster(
    *,
    primaries: int = 3,
    replicas: int = 1,
    node_timeout: float = 2.0,
    notify: str = "Kghx",
    password: str | None = None,
    settings: Mapping[str, str] | None = None,
    announced_bus: Callable[[int], int] | None = None,
    program: Path | None = None,
) -> AsyncIterator[EmbeddedCluster]:
    """Start a cluster that is whole when the block is entered: every slot has a primary, which has `replicas`.

    A node that does not answer for `node_timeout` seconds is lost. `settings` are further ones for every node.
    `announced_bus` is told the port on which a node listens to the others, before the node starts, and says the port
    under which they are to look for it: so that somebody may stand in between. Raises `EmbeddedRedisError` when there
    is no server on this machine or the cluster does not form.
    """
    size = primaries * (1 + replicas)
    announced: dict[int, int] = {}

    def configured(ports: Sequence[int], own: int) -> list[tuple[str, ...]]:
        bus = ports[size + own]
        announced[ports[own]] = bus if announced_bus is None else announced_bus(bus)
        lines = [
            ("cluster-enabled", "yes"),
            ("cluster-config-file", "nodes.conf"),
            ("cluster-node-timeout", str(round(node_timeout * 1000))),
            ("cluster-port", str(bus)),
            ("cluster-announce-bus-port", str(announced[ports[own]])),
            # However long a replica was without its primary, it has nothing better than the others would have.
            ("cluster-replica-validity-factor", "0"),
            ("cluster-allow-replica-migration", "no"),
            ("repl-diskless-sync-delay", "0"),
            # Redis lists a replica once it has heard from its primary.
            ("repl-ping-replica-period", "1"),
            *(() if password is None else (("masterauth", password),)),
            *(settings or {}).items(),
        ]
        return list(lines)

    plans = [NodePlan(configured, password, notify)] * size
    async with open_group(plans, program=program, extra_ports=size) as nodes:
        cluster = EmbeddedCluster(nodes, password)
        await cluster.form(primaries, announced)
        yield cluster


@attrs.frozen
class SlotView:
    """What one node says of the slots: `ranges` of (first, last, ids: the primary's, then its replicas')."""

    ranges: tuple[tuple[int, int, tuple[str, ...]], ...]

    @classmethod
    def read(cls, reply: object) -> SlotView:
        """From the answer to CLUSTER SLOTS; raises `EmbeddedRedisError` when it is none."""
        if not isinstance(reply, list):
            raise EmbeddedRedisError(f"no list of slots: {reply!r}")
        return cls(tuple((first, last, tuple(node[2].decode() for node in nodes)) for first, last, *nodes in reply))

    def of(self, slot: int) -> tuple[str, ...]:
        """The ids of the primary that owns `slot` and of its replicas; nobody's when it has no owner."""
        return next((ids for first, last, ids in self.ranges if first <= slot <= last), ())

    def owners(self) -> tuple[tuple[int, int, str], ...]:
        """Which primary's id owns which slots, (first, last, id), in their order: what two nodes agree on, however they
        cut it into ranges."""
        owners: list[tuple[int, int, str]] = []
        for first, last, (owner, *_) in sorted(self.ranges):
            if owners and owners[-1][1:] == (first - 1, owner):
                first = owners.pop()[0]
            owners.append((first, last, owner))
        return tuple(owners)


@attrs.define
class EmbeddedCluster:
    """The cluster; made by `open_embedded_cluster`. Each node is killed, halted, continued, restarted by its own
    methods; `common.embedded_group.ask` asks it."""

    nodes: Sequence[EmbeddedRedis]
    """All nodes, whatever their part is now: first those that began as primaries."""
    password: str | None = attrs.field(repr=False)
    ids: dict[EmbeddedRedis, str] = attrs.field(factory=dict, init=False)
    """What the cluster calls each node."""

    def url(self, *, options: str = "") -> str:
        """The URL of the cluster for the daemons, with all nodes; `options` are `name=value&…`."""
        userinfo = "" if self.password is None else f":{quote(self.password, safe='')}@"
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return f"redis+cluster://{userinfo}{hosts}" + (f"/?{options}" if options else "")

    async def form(self, primaries: int, announced: Mapping[int, int]) -> None:
        """Make the nodes know each other, spread the slots, and give every primary its replicas. `announced` are the
        nodes' ports of the bus."""
        for number, node in enumerate(self.nodes):
            self.ids[node] = str(await ask(node, "CLUSTER", "MYID"), "ascii")  # type: ignore[call-overload]
            await ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes[:primaries]):
            first, end = SLOTS * number // primaries, SLOTS * (number + 1) // primaries
            await ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        # Each is told of each: hearsay takes some seconds more.
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    await ask(node, "CLUSTER", "MEET", HOST, other.port, announced[other.port])

        async def acquainted() -> bool:
            said = [fields(await ask(node, "CLUSTER", "INFO")) for node in self.nodes]
            return all(
                each["cluster_known_nodes"] == str(len(self.nodes)) and each["cluster_state"] == "ok" for each in said
            )

        await settle("the nodes of the cluster know each other", acquainted)
        for number, node in enumerate(self.nodes[primaries:]):
            await ask(node, "CLUSTER", "REPLICATE", self.ids[self.nodes[number % primaries]])
        await self.wait_whole()

    async def ask_all(self, *args: bytes | str | int) -> None:
        """Ask every node that answers; raises as `common.embedded_group.ask` does."""
        for node in self.nodes:
            if node.answering:
                await ask(node, *args)

    async def ranges(self) -> tuple[tuple[int, int, tuple[str, ...]], ...]:
        """See `SlotView`."""
        return (await self._view()).ranges

    async def primaries(self) -> list[EmbeddedRedis]:
        """The nodes that own slots, in the order of `nodes`."""
        owners = {ids[0] for _, _, ids in (await self._view()).ranges}
        return [node for node in self.nodes if self.ids[node] in owners]

    async def replicas(self, slot: int) -> list[EmbeddedRedis]:
        """The replicas of the primary that owns `slot`: those that the cluster thinks well."""
        ids = (await self._view()).of(slot)[1:]
        return [node for node in self.nodes if self.ids[node] in ids]

    async def owner(self, slot: int) -> EmbeddedRedis:
        """The primary that owns `slot`; raises `EmbeddedRedisError` while nobody does."""
        ids = (await self._view()).of(slot)
        if not ids:
            raise EmbeddedRedisError(f"nobody owns slot {slot}")
        return self._node(ids[0])

    async def slot(self, key: str | bytes) -> int:
        """The slot of `key`."""
        slot = await ask(self._anyone(), "CLUSTER", "KEYSLOT", key)
        if not isinstance(slot, int):
            raise EmbeddedRedisError(f"no slot: {slot!r}")
        return slot

    async def failover(self, slot: int) -> EmbeddedRedis:
        """Let a replica take over from the owner of `slot`, as an operator does; return it when all nodes know."""
        old = await self.owner(slot)
        replica = next(node for node in await self.replicas(slot) if node.answering)
        await ask(replica, "CLUSTER", "FAILOVER")
        return await self.wait_moved(slot, old)

    async def wait_moved(self, slot: int, old: EmbeddedRedis) -> EmbeddedRedis:
        """Wait until all nodes that answer name one owner of `slot` that is not `old`, and hold the cluster for well;
        return that owner."""

        async def moved() -> bool:
            return await self._agreed() and (await self.owner(slot)) is not old

        await settle(f"another node owns slot {slot}", moved)
        return await self.owner(slot)

    async def wait_whole(self) -> None:
        """Wait until all nodes that answer agree on the slots and hold the cluster for well, and every replica among
        them has its primary's data and is known to the others."""

        async def whole() -> bool:
            alive = [node for node in self.nodes if node.answering]
            for node in alive:
                said = await information(node, "replication")
                if said["role"] != "master" and said["master_link_status"] != "up":
                    return False
                view = SlotView.read(await ask(node, "CLUSTER", "SLOTS"))
                named = {each for _, _, ids in view.ranges for each in ids}
                if not named >= {self.ids[each] for each in alive}:
                    return False
            return await self._agreed()

        await settle("the cluster is whole", whole)

    async def move_slot(self, slot: int, to: EmbeddedRedis) -> None:
        """Move `slot` with its keys to the primary `to`, key by key."""
        move = await self.begin_move(slot, to)
        while await move.step():
            pass
        await move.finish()

    async def begin_move(self, slot: int, to: EmbeddedRedis) -> SlotMove:
        """Mark `slot` as on its way to the primary `to`; no key has moved yet."""
        source = await self.owner(slot)
        await ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[to])
        return SlotMove(self, slot, source, to)

    async def moves_atomically(self) -> bool:
        """Whether the servers can move a slot as a whole (Valkey 9)."""
        version = (await information(self._anyone(), "server")).get("valkey_version", "0")
        return int(version.split(".")[0]) >= 9

    async def move_slot_atomically(self, slot: int, to: EmbeddedRedis) -> None:
        """Move `slot` with its keys to the primary `to` at one stroke; raises `RefusedError` where
        `moves_atomically` is false."""
        source = await self.owner(slot)
        await ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.ids[to])
        await self.wait_moved(slot, source)

    async def _agreed(self) -> bool:
        """Whether all nodes that answer see the same owners, and a cluster that is well."""
        owners = set()
        for node in self.nodes:
            if node.answering:
                if fields(await ask(node, "CLUSTER", "INFO"))["cluster_state"] != "ok":
                    return False
                owners.add(SlotView.read(await ask(node, "CLUSTER", "SLOTS")).owners())
        return len(owners) == 1

    async def _view(self) -> SlotView:
        return SlotView.read(await ask(self._anyone(), "CLUSTER", "SLOTS"))

    def _anyone(self) -> EmbeddedRedis:
        for node in self.nodes:
            if node.answering:
                return node
        raise EmbeddedRedisError("no node of the cluster runs")

    def _node(self, id_: str) -> EmbeddedRedis:
        return next(node for node, its in self.ids.items() if its == id_)


@attrs.frozen
class SlotMove:
    """A slot on its way from `source` to `target`: until `finish` the keys that have moved are asked for with ASKING
    at the target, the others at the source."""

    _cluster: EmbeddedCluster
    slot: int
    source: EmbeddedRedis
    target: EmbeddedRedis

    async def step(self, count: int = 10) -> bool:
        """Move up to `count` keys; whether there were any."""
        keys = await ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if not isinstance(keys, list) or not keys:
            return False
        password = self._cluster.password
        login = () if password is None else ("AUTH", password)
        await ask(
            self.source, "MIGRATE", HOST, self.target.port, "", 0, _MIGRATE_TIMEOUT, "REPLACE", *login, "KEYS", *keys
        )
        return True

    async def finish(self) -> None:
        """Give the slot to the target, and wait until all nodes know; every key must have moved."""
        for node in (self.target, self.source):
            await ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", self._cluster.ids[self.target])
        await self._cluster.wait_moved(self.slot, self.source)
