"""What moves between the nodes of a cluster: shard channels and notifications, whatever makes them move."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.redis.cluster import POLLING
from common.redis.errors import NoPermissionError
from common.redis.homes import MOST_HOPS
from common.redis.policy import Channels
from common.redis.slots import SLOTS, Address, slot_of
from common.redis.survey import GAP, JITTER
from tests.support.scripted_cluster import POLICY, A, B, C, ClusterBench, ScriptedCluster, named, open_cluster

[ON_A, ALSO_ON_A] = named(A, count=2)
[ON_B] = named(B)


def channel_of(run: bytes) -> bytes:
    """The channel of notifications of a run's hash."""
    return b"__keyspace@0__:" + run


def canary_of(run: bytes) -> bytes:
    """The shard channel beside it."""
    return b"__keyspace@0__:{" + run + b"}"


async def hear(bench: ClusterBench, *channels: bytes) -> None:
    """Subscribe, and wait until all are active."""
    for channel in channels:
        await bench.link.wait_active(bench.link.subscribe(channel))


# -- shard channels ---------------------------------------------------------------------------------------------------


async def test_a_shard_channel_is_heard_at_its_slots_primary() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A, ON_B)
        assert [bench.cluster[A].subscribed(ON_A), bench.cluster[B].subscribed(ON_B)] == [1, 1]
        bench.cluster.spublish(ON_A, b"1")
        bench.cluster.spublish(ON_B, b"2")
        bench.cluster.publish(ON_A, b"nobody's")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {ON_A: [b"1"], ON_B: [b"2"]}


async def test_a_resharded_channel_moves_and_only_its_topic_sees_a_gap() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A, ALSO_ON_A, ON_B)
        await trio.sleep(20)
        begun = trio.current_time()
        bench.cluster.move([slot_of(ON_A)], C)
        await bench.handler.wait_for("active", 4)
        # No delay of any kind: each primary has a connection already. The gap is since the old one was last heard of.
        [(channel, gap)] = bench.gaps
        assert channel == ON_A
        assert gap <= POLICY.probe_interval
        assert trio.current_time() == begun
        bench.cluster.spublish(ON_A, b"1")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {ON_A: [b"1"]}
        assert [bench.cluster[node].subscribed(ON_A) for node in (A, C)] == [0, 1]
        assert bench.handler.count("lost") == 0


def fail_over(cluster: ScriptedCluster, old: Address, new: Address) -> None:
    """`new` takes over all slots of `old`, which becomes its replica."""
    cluster.replicas = {old: new}
    cluster.move([slot for slot, owner in enumerate(cluster.owners) if owner == old], new)
    cluster[old].redis.role = b"replica"


@pytest.mark.parametrize("published_at_both", [False, True])
async def test_in_a_failover_each_message_comes_once_and_in_order(published_at_both: bool) -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A, ON_B)
        fail_over(bench.cluster, A, C)
        for number in range(200):
            # The new primary hands on to its replica, where the channel may still be heard.
            bench.cluster.spublish(ON_A, b"%d" % number)
            if published_at_both:
                await wait_all_tasks_blocked()
            await trio.sleep(0.002)
        heard = [int(payload) for payload in bench.handler.heard[ON_A]]
        assert heard == sorted(set(heard))
        # What the round trips of two moves hold: here they take no time, so at most the first one.
        assert len(heard) >= 199
        assert [bench.cluster[node].subscribed(ON_A) for node in (A, C)] == [0, 1]
        assert {channel for channel, _ in bench.gaps} == {ON_A}


async def test_what_an_old_primary_is_told_after_its_time_comes_once() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A)
        fail_over(bench.cluster, A, C)
        # What was held back while it handed over: it hands that on as a replica, and the new primary does so later.
        bench.cluster[A].send_shard(ON_A, b"1")
        await bench.handler.wait_for("active", 2)
        bench.cluster[A].send_shard(ON_A, b"1")
        bench.cluster[C].send_shard(ON_A, b"1")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {ON_A: [b"1"]}
        assert len(bench.cluster[A].asked(b"SSUBSCRIBE")) == 1


async def test_nothing_of_the_old_home_is_handed_on_once_the_new_one_is_asked() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A)
        # The old home does not know yet, and goes on; another node's word moves the channel.
        bench.cluster.views[A] = list(bench.cluster.owners)
        bench.cluster.move([slot_of(ON_A)], C, silently=True)
        bench.cluster[C].redis.holding = True
        [other] = [name for name in named(A, count=3) if name not in (ON_A, ALSO_ON_A)]
        bench.cluster[A].says[slot_of(other)] = f"-MOVED {slot_of(ON_A)} c.test:7003"
        bench.link.subscribe(other)
        await wait_all_tasks_blocked()
        assert bench.cluster[C].asked(b"SSUBSCRIBE")[-1] == [b"SSUBSCRIBE", ON_A]
        bench.cluster[A].send_shard(ON_A, b"late")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {}
        bench.cluster[C].redis.release()
        await wait_all_tasks_blocked()
        bench.cluster.spublish(ON_A, b"new")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {ON_A: [b"new"]}


async def test_messages_of_two_nodes_are_handed_on_one_read_at_a_time() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A, ON_B)
        under_way: list[bytes] = []
        order: list[bytes] = []

        async def slowly(batch: dict[bytes, list[bytes]], read_at: float) -> None:
            del read_at
            under_way.extend(batch)
            assert len(under_way) == 1
            await trio.sleep(1)
            order.extend(under_way)
            under_way.clear()

        bench.handler.on_messages = slowly  # type: ignore[method-assign]
        bench.cluster.spublish(ON_A, b"1")
        await wait_all_tasks_blocked()
        bench.cluster.spublish(ON_B, b"2")
        await trio.sleep(3)
        assert order == [ON_A, ON_B]


async def test_what_has_moved_while_others_were_handed_on_is_not_handed_on_late() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        await hear(bench, ON_A, ON_B)
        handed_on: list[bytes] = []

        async def slowly(batch: dict[bytes, list[bytes]], read_at: float) -> None:
            del read_at
            handed_on.extend(payload for payloads in batch.values() for payload in payloads)
            await trio.sleep(1)

        bench.handler.on_messages = slowly  # type: ignore[method-assign]
        bench.cluster.spublish(ON_B, b"first")
        await wait_all_tasks_blocked()
        bench.cluster.spublish(ON_A, b"old home's")
        await wait_all_tasks_blocked()
        bench.link.unsubscribe(ON_A)
        await trio.sleep(3)
        assert handed_on == [b"first"]


@pytest.mark.parametrize(
    ("said", "home"),
    [("-MOVED {slot} :7002", ("a.test", 7002)), ("-MOVED {slot} ::1:7002", ("::1", 7002))],
)
async def test_moved_to_a_host_in_any_form_is_followed(said: str, home: Address) -> None:
    def prepare(cluster: ScriptedCluster) -> None:
        cluster.nodes[home] = cluster.nodes.pop(C)
        cluster.spread(A, B)
        cluster.move([slot_of(ON_A)], home, silently=True)
        cluster.views = dict.fromkeys((A, B), [A] * SLOTS)
        cluster[A].says[slot_of(ON_A)] = said.format(slot=slot_of(ON_A))
        cluster[home].address = home

    async with open_cluster(pubsub="sharded", prepare=prepare, seeds=(A,)) as bench:
        await hear(bench, ON_A)
        assert bench.cluster[home].subscribed(ON_A) == 1
        assert bench.link.redirections == 1


async def test_moved_to_nobody_knows_where_waits_for_the_map() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        slot = slot_of(ON_A)
        bench.cluster[A].says[slot] = f"-MOVED {slot} ?:7002"
        bench.link.subscribe(ON_A)
        await trio.sleep(10)
        asked = len(bench.cluster[A].asked(b"SSUBSCRIBE"))
        # With each map that is read anew, no oftener.
        assert 2 <= asked <= 10 / GAP + 1
        bench.cluster.move([slot], B, silently=True)
        await bench.handler.wait_for("active")
        assert bench.cluster[B].subscribed(ON_A) == 1


async def test_ten_thousand_redirections_make_one_refresh_and_no_delay() -> None:
    channels = [b"run-%d" % number for number in range(40_000)]
    on_a = [channel for channel in channels if slot_of(channel) < SLOTS // 3][:10_000]
    assert len(on_a) == 10_000
    async with open_cluster(pubsub="sharded") as bench:
        before, begun = bench.link.refreshes, trio.current_time()
        bench.cluster.move(range(SLOTS // 3 + 1), C, silently=True)
        for channel in on_a:
            bench.link.subscribe(channel)
        await bench.handler.wait_for("active", 10_000)
        assert trio.current_time() == begun
        # Each was redirected; the first of each slot took the others with it.
        assert len(bench.cluster[A].asked(b"SSUBSCRIBE")) == 10_000
        assert bench.link.redirections == len({slot_of(channel) for channel in on_a})
        assert sum(bench.cluster[C].subscribed(channel) for channel in on_a) == 10_000
        await trio.sleep(JITTER)
        await wait_all_tasks_blocked()
        assert bench.link.refreshes == before + 1
        await trio.sleep(20)
        assert bench.link.refreshes == before + 1


async def test_two_nodes_that_send_to_each_other_are_not_followed_without_an_end() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        slot = slot_of(ON_A)
        bench.cluster[A].says[slot] = f"-MOVED {slot} b.test:7002"
        bench.cluster[B].says[slot] = f"-MOVED {slot} a.test:7001"
        bench.link.subscribe(ON_A)
        await trio.sleep(10)
        asked = len(bench.cluster[A].asked(b"SSUBSCRIBE")) + len(bench.cluster[B].asked(b"SSUBSCRIBE"))
        assert asked <= (10 / GAP + 1) * (MOST_HOPS + 1)
        bench.cluster[A].says.clear()
        await bench.handler.wait_for("active")


async def test_a_lost_primary_interrupts_its_topics_only_until_the_map_names_another() -> None:
    async with open_cluster(pubsub="sharded", seeds=(B,)) as bench:
        await hear(bench, ON_A, ON_B)
        await trio.sleep(20)
        bench.cluster[A].redis.unreachable = ConnectionRefusedError(111, "refused")
        bench.cluster[A].redis.drop_all()
        await trio.sleep(30)
        subscription = bench.link.subscribe(ON_A)
        assert not subscription.active
        assert bench.link.subscribe(ON_B).active
        bench.cluster.move(range(SLOTS // 3 + 1), C, silently=True)
        moved = trio.current_time()
        await bench.link.wait_active(subscription)
        assert trio.current_time() - moved <= GAP + 2 * JITTER + 0.5
        assert [channel for channel, _ in bench.gaps] == [ON_A]
        assert 30 <= bench.gaps[0][1] <= 35


async def test_a_primary_that_comes_back_soon_is_heard_again() -> None:
    async with open_cluster(pubsub="sharded", seeds=(B,)) as bench:
        await hear(bench, ON_A)
        bench.cluster[A].redis.drop_all()
        await bench.handler.wait_for("active", 2)
        assert bench.cluster[A].subscribed(ON_A) == 1
        assert trio.current_time() < 1


async def test_a_home_in_the_minority_is_left_and_the_majoritys_owner_taken() -> None:
    async with open_cluster(pubsub="sharded", seeds=(B,)) as bench:
        await hear(bench, ON_A)
        await trio.sleep(20)
        bench.cluster[A].cut_off = True
        bench.cluster.views[A] = list(bench.cluster.owners)
        bench.cluster.move(range(SLOTS // 3 + 1), C, silently=True)
        cut_off = trio.current_time()
        await bench.handler.wait_for("active", 2)
        assert bench.cluster[C].subscribed(ON_A) == 1
        assert trio.current_time() - cut_off <= 5 + GAP + 2 * JITTER


async def test_a_map_that_names_a_replica_is_not_believed() -> None:
    async with open_cluster(pubsub="sharded", seeds=(B,)) as bench:
        bench.cluster[A].redis.role = b"replica"
        bench.cluster[A].redis.drop_all()
        bench.link.subscribe(ON_A)
        await trio.sleep(5)
        assert bench.handler.count("active") == 0
        bench.cluster[A].redis.role = b"master"
        await bench.handler.wait_for("active")


async def test_a_slot_without_an_owner_waits_for_one() -> None:
    def unassign(cluster: ScriptedCluster) -> None:
        cluster.owners[slot_of(ON_A)] = None

    async with open_cluster(pubsub="sharded", prepare=unassign) as bench:
        bench.link.subscribe(ON_A)
        await trio.sleep(10)
        assert bench.handler.count("active") == 0
        bench.cluster.owners[slot_of(ON_A)] = B
        await bench.handler.wait_for("active")
        assert bench.cluster[B].subscribed(ON_A) == 1


async def test_a_user_who_may_not_hear_a_shard_channel_is_refused_it() -> None:
    async with open_cluster(pubsub="sharded") as bench:
        bench.cluster[A].redis.denied.add(ON_A)
        with pytest.raises(NoPermissionError):
            await hear(bench, ON_A)
        await hear(bench, ALSO_ON_A)
        assert bench.handler.count("refused") == 1


async def test_with_both_a_channel_is_active_when_both_are_and_each_is_heard() -> None:
    async with open_cluster(pubsub="both") as bench:
        bench.cluster[A].redis.holding = True
        subscription = bench.link.subscribe(ON_A)
        await wait_all_tasks_blocked()
        assert not subscription.active
        bench.cluster[A].redis.release()
        await bench.link.wait_active(subscription)
        bench.cluster.publish(ON_A, b"1")
        bench.cluster.spublish(ON_A, b"2")
        await wait_all_tasks_blocked()
        assert sorted(bench.handler.heard[ON_A]) == [b"1", b"2"]
        bench.cluster.move([slot_of(ON_A)], C)
        await bench.handler.wait_for("active", 2)
        assert bench.gaps == [(ON_A, 0.0)]


# -- notifications ----------------------------------------------------------------------------------------------------


async def test_notifications_are_heard_at_the_keys_primary_with_a_canary_beside() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        subscription = bench.link.subscribe(channel_of(ON_A))
        bench.cluster[A].redis.holding = True
        await wait_all_tasks_blocked()
        assert not subscription.active
        bench.cluster[A].redis.release()
        await bench.link.wait_active(subscription)
        assert slot_of(canary_of(ON_A)) == slot_of(ON_A)
        assert bench.cluster[A].subscribed(canary_of(ON_A)) == 1
        assert bench.cluster[A].redis.publish(channel_of(ON_A), b"hset") == 1
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {channel_of(ON_A): [b"hset"]}


async def test_a_key_that_has_moved_is_heard_and_read_at_its_new_node() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        await hear(bench, channel_of(ON_A), channel_of(ON_B))
        bench.cluster[C].redis.hashes[ON_A] = {b"f": b"new"}
        bench.cluster.move([slot_of(ON_A)], C)
        await bench.handler.wait_for("active", 3)
        assert [channel for channel, _ in bench.gaps] == [channel_of(ON_A)]
        assert await bench.link.read("HGETALL", ON_A.decode()) == {b"f": b"new"}
        assert bench.cluster[A].redis.publish(channel_of(ON_A), b"del") == 0
        assert bench.cluster[C].redis.publish(channel_of(ON_A), b"hset") == 1


async def test_a_read_that_is_moved_moves_the_channel_too() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        await hear(bench, channel_of(ON_A))
        bench.cluster.move([slot_of(ON_A)], C, silently=True)
        bench.cluster[C].redis.hashes[ON_A] = {b"f": b"new"}
        assert await bench.link.read("HGETALL", ON_A) == {b"f": b"new"}
        await bench.handler.wait_for("active", 2)
        assert bench.cluster[C].redis.publish(channel_of(ON_A), b"hset") == 1


async def test_a_key_on_its_way_is_heard_at_the_target_before_it_is_read_there() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        await hear(bench, channel_of(ON_A))
        bench.cluster[A].migrating[slot_of(ON_A)] = B
        bench.cluster[B].redis.hashes[ON_A] = {b"f": b"moved"}
        assert await bench.link.read("HGETALL", ON_A) == {b"f": b"moved"}
        commands = [command for command in bench.cluster[B].redis.commands if command[0] not in (b"PING", b"HELLO")]
        place = commands.index([b"SUBSCRIBE", channel_of(ON_A)])
        assert commands[place + 1 :] == [[b"ASKING"], [b"HGETALL", ON_A]]
        # Both ends tell of it; nothing was interrupted.
        for node in (A, B):
            assert bench.cluster[node].redis.publish(channel_of(ON_A), b"hset") == 1
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {channel_of(ON_A): [b"hset", b"hset"]}
        assert bench.gaps == []
        # The guest becomes the channel's own, without another SUBSCRIBE.
        bench.cluster[A].migrating.clear()
        bench.cluster.move([slot_of(ON_A)], B)
        await bench.handler.wait_for("active", 2)
        assert bench.cluster[B].asked(b"SUBSCRIBE") == [[b"SUBSCRIBE", channel_of(ON_A)]]
        assert bench.cluster[A].redis.publish(channel_of(ON_A), b"x") == 0
        bench.link.unsubscribe(channel_of(ON_A))
        await wait_all_tasks_blocked()
        assert bench.cluster[B].redis.publish(channel_of(ON_A), b"x") == 0


async def test_a_guest_goes_with_its_node_or_its_wish() -> None:
    async with open_cluster(channels=Channels.KEYSPACE, seeds=(C,)) as bench:
        await hear(bench, channel_of(ON_A))
        bench.cluster[A].migrating[slot_of(ON_A)] = B
        await bench.link.read("HGETALL", ON_A)
        bench.cluster[B].redis.drop_all()
        await trio.sleep(5)
        assert bench.gaps == []
        await bench.link.read("HGETALL", ON_A)
        assert bench.cluster[B].redis.publish(channel_of(ON_A), b"x") == 1
        bench.link.unsubscribe(channel_of(ON_A))
        await wait_all_tasks_blocked()
        assert bench.cluster[B].redis.publish(channel_of(ON_A), b"x") == 0


async def test_a_user_who_may_not_ssubscribe_finds_what_has_moved_by_asking() -> None:
    def forbid(cluster: ScriptedCluster) -> None:
        for node in cluster.nodes.values():
            node.forbidden.add(b"SSUBSCRIBE")

    async with open_cluster(channels=Channels.KEYSPACE, prepare=forbid) as bench:
        await hear(bench, channel_of(ON_A), channel_of(ALSO_ON_A), channel_of(ON_B))
        assert len(bench.logbook.said("redis cluster's map is polled")) == 2
        assert any("may not SSUBSCRIBE" in remark for remark in bench.link.describe().remarks)
        await trio.sleep(20)
        bench.cluster.move([slot_of(ON_A)], C, silently=True)
        moved = trio.current_time()
        await bench.handler.wait_for("active", 4)
        assert trio.current_time() - moved <= POLLING + JITTER
        assert bench.cluster[C].redis.publish(channel_of(ON_A), b"hset") == 1
        assert bench.handler.count("refused") == 0


async def test_a_user_who_may_not_hear_a_key_is_refused_it() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        bench.cluster[A].redis.denied.add(channel_of(ON_A))
        with pytest.raises(NoPermissionError):
            await hear(bench, channel_of(ON_A))
