"""A link to real clusters, with publishers that number their messages: what is lost, twice, out of order, or stale.

Each test has a cluster of its own, of each server that this machine has. None asks how fast the machine is: a message
may be lost while its channel has a gap that was told, and at no other time.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.embedded_cluster import EmbeddedCluster, open_embedded_cluster
from common.redis.links import RedisLink, make_link
from common.redis.policy import Channels, LinkPolicy
from common.redis.slots import SLOTS, slot_of
from common.redis.url import parse_redis_url
from tests.support.cluster_client import Ledger, UncertainError, open_cluster_client
from tests.support.logbook import Logbook
from tests.support.partition import open_partition
from tests.support.raw import wait_until
from tests.support.recording import RecordingHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from common.embedded import EmbeddedRedis
    from common.redis.url import PubSub

pytestmark = pytest.mark.integration

POLICY: Final = LinkPolicy(
    request_timeout=5.0, connect_timeout=10.0, retry_base=0.1, retry_max=1.0, max_retries=0, role_interval=1.0
)
NODE_TIMEOUT: Final = 5.0
"""Seconds without an answer after which a node is lost: a busy machine does not stand still for as long."""
UNNOTICED: Final = 60.0
"""The same, where none is to be lost."""

PAUSE: Final = 0.004
"""Between two messages of one channel: 250 a second."""


class Listener(RecordingHandler):
    """Keeps a ledger for each channel, and the time of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ledgers: dict[bytes, Ledger] = {}

    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:
        """See `LinkHandler`."""
        del read_at
        for channel, payloads in batch.items():
            self.ledgers[channel].heard += [int(payload) for payload in payloads]

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""
        super().on_active(channel, gap)
        if gap is not None:
            self.ledgers[channel].gaps.append(len(self.ledgers[channel].heard))


@attrs.frozen
class Stage:
    """A cluster, a link to it, and who publishes on its channels."""

    cluster: EmbeddedCluster
    link: RedisLink
    handler: Listener

    async def publish(self, channel: bytes, command: str, stop: trio.Event, port: int | None = None) -> None:
        """Publish numbers until `stop`: on the node at `port`, which is not left, or on the slot's owner."""
        ledger = self.handler.ledgers[channel]
        number = 0
        async with open_cluster_client(self.cluster) as client:
            while not stop.is_set():
                number += 1
                begun = trio.current_time()
                try:
                    if port is None:
                        await client.call(command, channel, number, key=channel)
                    else:
                        await client.ask(port, command, channel, number)
                except UncertainError:
                    ledger.uncertain.add(number)
                else:
                    ledger.sent[number] = (begun, trio.current_time())
                await trio.sleep(PAUSE)

    async def wait_resumed(self, channel: bytes) -> None:
        """Wait until ten more messages were heard."""
        ledger = self.handler.ledgers[channel]
        already = len(ledger.heard)
        await wait_until(lambda: len(ledger.heard) >= already + 10, f"messages on {channel!r} again")

    async def another(self, owner: EmbeddedRedis) -> EmbeddedRedis:
        """A primary that is not `owner`."""
        return next(node for node in await self.cluster.primaries() if node is not owner)


@asynccontextmanager
async def open_link(
    cluster: EmbeddedCluster,
    handler: RecordingHandler,
    channels: Channels,
    pubsub: PubSub = "classic",
    username: str | None = None,
) -> AsyncIterator[RedisLink]:
    """A link that is online."""
    url = parse_redis_url(cluster.url(options=f"pubsub={pubsub}"), 0)
    link = make_link(
        url=url if username is None else attrs.evolve(url, username=username, password="word"),
        client_name="test",
        policy=POLICY,
        handler=handler,
        log=Logbook().log,
        rng=random.Random(0),
        channels=channels,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_stage(
    redis_program: Path, pubsub: PubSub, channels: list[bytes], node_timeout: float = NODE_TIMEOUT
) -> AsyncIterator[Stage]:
    """A cluster, and a link that hears `channels`."""
    handler = Listener()
    async with (
        open_embedded_cluster(program=redis_program, node_timeout=node_timeout) as cluster,
        open_link(cluster, handler, Channels.MESSAGES, pubsub) as link,
    ):
        for channel in channels:
            handler.ledgers[channel] = Ledger()
            await link.wait_active(link.subscribe(channel))
        yield Stage(cluster, link, handler)


def one_of_each(count: int) -> list[bytes]:
    """Channels whose slots lie in each of three equal parts, `count` of each, in their order."""
    names = [b"run-%d:log" % number for number in range(1000)]
    parts = [[name for name in names if slot_of(name) * 3 // SLOTS == part][:count] for part in range(3)]
    return [name for part in parts for name in part]


async def wait_all_heard(stage: Stage) -> None:
    """Wait until what was published last was heard on each channel."""
    for channel, ledger in stage.handler.ledgers.items():
        await wait_until(lambda ledger=ledger: max(ledger.heard, default=0) >= max(ledger.sent), f"{channel!r} ends")  # type: ignore[misc]


async def test_classic_channels_lose_nothing_by_a_failover_and_a_resharding(redis_program: Path) -> None:
    channels = one_of_each(1)
    async with open_stage(redis_program, "classic", channels, UNNOTICED) as stage:
        stop = trio.Event()
        anchor = stage.link.describe().nodes[0].address
        ports = [node.port for node in stage.cluster.nodes]
        async with trio.open_nursery() as nursery:
            for number, channel in enumerate(channels):
                nursery.start_soon(stage.publish, channel, "PUBLISH", stop, ports[number])
            for channel in channels:
                await stage.wait_resumed(channel)
            for channel in channels:
                slot = slot_of(channel)
                owner = await stage.cluster.failover(slot)
                await stage.cluster.move_slot(slot, await stage.another(owner))
            stop.set()
        await wait_all_heard(stage)
        for channel, ledger in stage.handler.ledgers.items():
            ledger.check_order()
            assert (channel, ledger.lost, ledger.uncertain, ledger.gaps) == (channel, [], set(), [])
        assert stage.link.describe().nodes[0].address == anchor


async def test_classic_channels_resume_at_once_when_their_node_is_killed(redis_program: Path) -> None:
    channels = one_of_each(1)
    async with open_stage(redis_program, "classic", channels) as stage:
        stop = trio.Event()
        port = int(stage.link.describe().nodes[0].address.rpartition(":")[2])
        killed = next(node for node in stage.cluster.nodes if node.port == port)
        others = [node.port for node in stage.cluster.nodes if node is not killed]
        async with trio.open_nursery() as nursery:
            for number, channel in enumerate(channels):
                nursery.start_soon(stage.publish, channel, "PUBLISH", stop, others[number])
                await stage.wait_resumed(channel)
            await killed.kill()
            for channel in channels:
                await stage.wait_resumed(channel)
            stop.set()
        await wait_all_heard(stage)
        for ledger in stage.handler.ledgers.values():
            ledger.check_order()
            ledger.check_lost_in_gaps()
        assert stage.link.reconnects == 2


@pytest.mark.parametrize("pubsub", ["sharded", "both"])
async def test_shard_channels_come_once_and_in_order_whatever_moves_them(redis_program: Path, pubsub: PubSub) -> None:
    [staying, moving, *_] = channels = [*one_of_each(1)[:2], *one_of_each(4)[5:8]]
    async with open_stage(redis_program, pubsub, channels) as stage:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(stage.publish, channel, "SPUBLISH", stop)
            for channel in channels:
                await stage.wait_resumed(channel)
            slot = slot_of(moving)
            for _ in range(2):
                owner = await stage.cluster.failover(slot)
                await stage.wait_resumed(moving)
                await stage.cluster.wait_whole()
            # There and back, and to a primary that was in no failover: Redis 7.0 counts the votes of an election again
            # that a replica won a few seconds ago, and the others believe the result as little as they should.
            [*_, away] = [node for node in await stage.cluster.primaries() if node is not owner]
            for to in (away, owner, away):
                await stage.cluster.move_slot(slot, to)
                await stage.wait_resumed(moving)
            if await stage.cluster.moves_atomically():
                for to in (owner, away):
                    await stage.cluster.move_slot_atomically(slot, to)
                    await stage.wait_resumed(moving)
            # Nothing of the first node's slots has moved until now.
            assert (pubsub, stage.handler.ledgers[staying].gaps) == (pubsub, [])
            await wait_until(lambda: not stage.handler.ledgers[staying].lost, "all of it was heard")
            await stage.cluster.wait_whole()
            await away.kill()
            await stage.cluster.wait_moved(slot, away)
            await stage.wait_resumed(moving)
            stop.set()
        await wait_all_heard(stage)
        for ledger in stage.handler.ledgers.values():
            ledger.check_order()
            ledger.check_lost_in_gaps()


async def test_a_minority_is_left_and_messages_go_on(redis_program: Path) -> None:
    handler = Listener()
    [channel, *_] = one_of_each(1)
    handler.ledgers[channel] = Ledger()
    async with (
        open_partition() as partition,
        open_embedded_cluster(program=redis_program, announced_bus=partition.relay) as cluster,
        open_link(cluster, handler, Channels.MESSAGES, "both") as link,
    ):
        await link.wait_active(link.subscribe(channel))
        stage = Stage(cluster, link, handler)
        # The first node that the URL names has the first slots, and is the anchor unless it was slow: a majority stays.
        alone = await cluster.owner(slot_of(channel))
        partition.isolate(cluster.ids[alone])

        def left() -> bool:
            nodes = link.describe().nodes
            places = {int(node.address.rpartition(":")[2]) for node in nodes if node.subscriptions}
            return link.online and bool(places) and alone.port not in places

        await wait_until(left, "the minority was left")
        await wait_until(lambda: link.subscribe(channel).active, "the channel is heard elsewhere")
        stop = trio.Event()
        outside = next(node for node in cluster.nodes if node is not alone)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.publish, channel, "PUBLISH", stop, outside.port)
            await stage.wait_resumed(channel)
            stop.set()
        partition.heal()
        await cluster.wait_whole()
        assert handler.count("exhausted") == 0


# -- notifications ----------------------------------------------------------------------------------------------------


class Watchers(RecordingHandler):
    """Reads a hash again whenever it is told that it may have changed, and writes down what it was."""

    def __init__(self, runs: list[bytes]) -> None:
        super().__init__()
        self.seen: dict[bytes, object] = {}
        self.noted: dict[bytes, trio.Event] = {run: trio.Event() for run in runs}

    def _note_run(self, channel: bytes) -> None:
        self.noted[channel.partition(b"__:")[2]].set()

    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:
        """See `LinkHandler`."""
        del read_at
        for channel in batch:
            self._note_run(channel)

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """See `LinkHandler`."""
        super().on_active(channel, gap)
        self._note_run(channel)

    async def watch(self, link: RedisLink, run: bytes) -> None:
        """Keep `seen` true, as a topic does."""
        while True:
            await self.noted[run].wait()

            def sending() -> None:
                self.noted[run] = trio.Event()

            try:
                self.seen[run] = await link.read("HGETALL", run, sending=sending)
            except Exception as error:
                if type(error).__module__.partition(".")[0] != "redis":
                    raise
                await trio.sleep(0.05)
                self.noted[run].set()


async def write_always(cluster: EmbeddedCluster, runs: list[bytes], stop: trio.Event) -> None:
    """Write all runs in turn until `stop`."""
    number = 0
    async with open_cluster_client(cluster) as client:
        while not stop.is_set():
            number += 1
            run = runs[number % len(runs)]
            try:
                await client.call("HSET", run, "number", number, key=run)
            except UncertainError:
                continue
            await trio.sleep(0.001)


async def check_true(cluster: EmbeddedCluster, watchers: Watchers, runs: list[bytes], what: str) -> None:
    """Wait until what was seen of every run is what the cluster has: nobody writes meanwhile, and nothing is polled."""
    async with open_cluster_client(cluster) as client:
        for run in runs:
            reply = await client.call("HGETALL", run, key=run)
            assert isinstance(reply, list)
            truth = dict(zip(reply[::2], reply[1::2], strict=True))
            await wait_until(lambda run=run, truth=truth: watchers.seen.get(run) == truth, f"{run!r} is true {what}")  # type: ignore[misc]


def spread_runs(count: int) -> list[bytes]:
    """Runs whose slots are spread over all of them."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < count:
        run = b"run-%d" % number
        found.setdefault(slot_of(run) * count // SLOTS, run)
        number += 1
    return [found[part] for part in sorted(found)]


@pytest.mark.parametrize("may_ssubscribe", [True, False], ids=["with canaries", "by polling"])
async def test_two_hundred_hashes_are_never_stale_whatever_moves(redis_program: Path, may_ssubscribe: bool) -> None:
    runs = spread_runs(200)
    watchers = Watchers(runs)
    async with open_embedded_cluster(program=redis_program, node_timeout=NODE_TIMEOUT) as cluster:
        await cluster.ask_all("ACL", "SETUSER", "watcher", "on", ">word", "~*", "&*", "+@all")
        if not may_ssubscribe:
            await cluster.ask_all("ACL", "SETUSER", "watcher", "-ssubscribe")
        async with (
            open_link(cluster, watchers, Channels.KEYSPACE, username="watcher") as link,
            trio.open_nursery() as nursery,
        ):
            for run in runs:
                nursery.start_soon(watchers.watch, link, run)
                link.subscribe(b"__keyspace@0__:" + run)
            await wait_until(lambda: watchers.count("active") >= len(runs), "all are heard")

            async def meanwhile(what: str, fault: object) -> None:
                stop = trio.Event()
                async with trio.open_nursery() as writers:
                    writers.start_soon(write_always, cluster, runs, stop)
                    await fault()  # type: ignore[operator]
                    # Once more each, after it.
                    await trio.sleep(0.5)
                    stop.set()
                await check_true(cluster, watchers, runs, what)

            slots = [slot_of(run) for run in runs]

            async def fail_over() -> None:
                await cluster.failover(slots[0])

            async def reshard() -> None:
                for slot in slots[::40]:
                    owner = await cluster.owner(slot)
                    other = next(node for node in await cluster.primaries() if node is not owner)
                    await cluster.move_slot(slot, other)

            async def kill() -> None:
                owner = await cluster.owner(slots[100])
                await owner.kill()
                await cluster.wait_moved(slots[100], owner)

            await meanwhile("after a failover", fail_over)
            await cluster.wait_whole()
            await meanwhile("after a resharding", reshard)
            if may_ssubscribe:
                # In the middle of a move a key is where it is.
                owner = await cluster.owner(slots[1])
                other = next(node for node in await cluster.primaries() if node is not owner)
                move = await cluster.begin_move(slots[1], other)
                await move.step(1)
                await check_true(cluster, watchers, runs, "in the middle of a move")
                async with open_cluster_client(cluster) as client:
                    await client.call("HSET", runs[1], "number", "at the target", key=runs[1])
                await check_true(cluster, watchers, runs, "written in the middle of a move")
                await move.finish()
                await check_true(cluster, watchers, runs, "after that move")
                if await cluster.moves_atomically():
                    await cluster.move_slot_atomically(slots[1], owner)
                    await check_true(cluster, watchers, runs, "after a move at one stroke")
            await cluster.wait_whole()
            await meanwhile("after a SIGKILL", kill)
            assert watchers.count("refused") == 0
            assert link.online
            nursery.cancel_scope.cancel()
