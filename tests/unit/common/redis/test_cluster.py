"""The link to a cluster as a whole: its anchor, what makes it online, and questions. See test_cluster_moves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.redis.errors import (
    NoPermissionError,
    OutageError,
    RedisConnectionError,
    RedisRefused,
    RedisTimeoutError,
    RedisUnavailable,
    ResponseError,
)
from common.redis.policy import Channels
from common.redis.slots import slot_of
from tests.support.scripted_cluster import POLICY, A, B, C, ClusterBench, ScriptedCluster, named, open_cluster

if TYPE_CHECKING:
    from common.redis.url import PubSub
    from tests.support.scripted_redis import Command, Peer

LOG = b"run-1:log"


def anchor_of(bench: ClusterBench) -> tuple[str, int]:
    """Where the anchor is."""
    host, _, port = bench.link.describe().nodes[0].address.rpartition(":")
    return host, int(port)


async def test_a_classic_channel_is_heard_on_one_node_whoever_owns_its_slot() -> None:
    async with open_cluster() as bench:
        subscription = bench.link.subscribe(LOG)
        assert bench.link.subscribe(LOG) is subscription
        await bench.link.wait_active(subscription)
        assert bench.cluster.publish(LOG, b"1") == 1
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {LOG: [b"1"]}
        assert bench.handler.events[:2] == [("online", None), ("active", LOG, None)]
        assert not any(node.asked(b"SSUBSCRIBE") for node in bench.cluster.nodes.values())


async def test_a_lost_node_is_replaced_at_once_without_a_delay() -> None:
    async with open_cluster() as bench:
        await bench.link.wait_active(bench.link.subscribe(LOG))
        await trio.sleep(20)
        first = anchor_of(bench)
        bench.cluster[first].redis.unreachable = ConnectionRefusedError(111, "refused")
        lost = trio.current_time()
        bench.cluster[first].redis.drop_all()
        await bench.handler.wait_for("online", 2)
        assert trio.current_time() == lost
        assert anchor_of(bench) != first
        assert (bench.handler.count("lost"), bench.link.reconnects) == (1, 2)
        # At most a probe's interval ago the old node was heard of.
        [(channel, gap)] = bench.gaps
        assert channel == LOG
        assert gap <= POLICY.probe_interval
        assert bench.cluster.publish(LOG, b"2") == 1


async def test_nodes_that_all_hang_up_at_once_are_not_asked_all_the_time() -> None:
    async with open_cluster() as bench:
        for node in bench.cluster.nodes.values():
            node.redis.drop_all()
        for _ in range(30):
            await bench.handler.wait_for("online", bench.handler.count("online") + 1)
            for node in bench.cluster.nodes.values():
                node.redis.drop_all()
        assert trio.current_time() > 30


async def test_a_node_in_the_minority_is_left_within_the_interval_of_the_question() -> None:
    async with open_cluster() as bench:
        await bench.link.wait_active(bench.link.subscribe(LOG))
        first = anchor_of(bench)
        await trio.sleep(20)
        bench.cluster[first].cut_off = True
        cut_off = trio.current_time()
        await bench.handler.wait_for("online", 2)
        assert trio.current_time() - cut_off <= POLICY.role_interval
        assert anchor_of(bench) != first
        [line] = bench.logbook.said("redis stream interrupted")
        assert "cut off from the majority" in line["error"]


async def test_a_cluster_that_is_cut_off_everywhere_is_an_outage_until_one_node_is_not() -> None:
    async with open_cluster() as bench:
        await trio.sleep(20)
        for node in bench.cluster.nodes.values():
            node.cut_off = True
        await bench.handler.wait_for("lost")
        await trio.sleep(60)
        assert not bench.link.online
        assert bench.link.obstacle == "redis is unavailable"
        with pytest.raises(OutageError):
            await bench.link.wait_active(bench.link.subscribe(LOG))
        bench.cluster[B].cut_off = False
        await bench.handler.wait_for("online", 2)
        assert anchor_of(bench) == B


async def test_slots_that_have_failed_are_no_reason_to_leave_a_node() -> None:
    async with open_cluster() as bench:
        for node in bench.cluster.nodes.values():
            node.failed = 5461
        await trio.sleep(60)
        assert bench.link.online
        assert bench.handler.count("lost") == 0


async def test_a_node_that_does_not_answer_holds_nobody_up() -> None:
    def hang(cluster: ScriptedCluster) -> None:
        cluster[A].hanging = True
        cluster[B].redis.unreachable = ConnectionRefusedError(111, "refused")

    async with open_cluster(prepare=hang) as bench:
        assert anchor_of(bench) == C
        assert trio.current_time() < 1


async def test_one_seed_of_many_is_enough_and_the_others_are_found() -> None:
    async with open_cluster(seeds=(("gone.test", 1), B)) as bench:
        assert anchor_of(bench) == B
        await trio.sleep(20)
        bench.cluster[B].redis.unreachable = ConnectionRefusedError(111, "refused")
        bench.cluster[B].redis.drop_all()
        await bench.handler.wait_for("online", 2)
        assert anchor_of(bench) in (A, C)


async def test_at_start_the_attempts_are_counted_by_rounds() -> None:
    policy = attrs.evolve(POLICY, max_retries=3)
    async with open_cluster(policy=policy, run=False) as bench:
        for node in bench.cluster.nodes.values():
            node.redis.unreachable = ConnectionRefusedError(111, "refused")
        with pytest.raises(RedisUnavailable, match=r"after 3 attempts: .*connection refused"):
            await bench.link.run()
        assert {len(node.redis.attempts) for node in bench.cluster.nodes.values()} == {3}


async def test_at_start_wrong_credentials_are_the_end() -> None:
    async with open_cluster(run=False) as bench:
        bench.cluster[B].redis.unreachable = ConnectionRefusedError(111, "refused")
        for node in bench.cluster.nodes.values():
            node.redis.password = b"secret"
        with pytest.raises(RedisRefused, match="NOAUTH"):
            await bench.link.run()


@pytest.mark.parametrize("command", [b"CLUSTER INFO", b"CLUSTER SLOTS"])
async def test_a_user_who_may_not_ask_for_the_map_is_told_what_is_missing(command: bytes) -> None:
    policy = attrs.evolve(POLICY, max_retries=1)
    async with open_cluster(policy=policy, run=False) as bench:
        for node in bench.cluster.nodes.values():
            node.forbidden.add(command)
        with pytest.raises(RedisUnavailable, match=f"NOPERM .* asked {command.decode()}: ") as caught:
            await bench.link.run()
        assert isinstance(caught.value.__cause__, NoPermissionError)


async def test_a_server_that_is_no_cluster_says_so() -> None:
    policy = attrs.evolve(POLICY, max_retries=1)
    async with open_cluster(policy=policy, run=False, seeds=(A,)) as bench:
        bench.cluster[A].redis.answers = lambda _, command: (
            b"-ERR This instance has cluster support disabled\r\n" if command[0] == b"CLUSTER" else None
        )
        with pytest.raises(RedisUnavailable, match="This instance has cluster support disabled, asked CLUSTER INFO"):
            await bench.link.run()


async def test_without_an_answer_waiting_has_an_end() -> None:
    async with open_cluster() as bench:
        for node in bench.cluster.nodes.values():
            node.redis.holding = True
        with pytest.raises(RedisTimeoutError, match="no answer to SUBSCRIBE"):
            await bench.link.wait_active(bench.link.subscribe(LOG))
        assert bench.link.timeouts == 1


async def test_a_refusal_is_told_to_each_who_waits() -> None:
    async with open_cluster() as bench:
        for node in bench.cluster.nodes.values():
            node.redis.denied.add(LOG)
        subscription = bench.link.subscribe(LOG)
        for _ in range(2):
            with pytest.raises(NoPermissionError):
                await bench.link.wait_active(subscription)
        assert bench.handler.count("refused") == 1


async def test_an_unsubscribed_channel_is_not_heard_and_redis_is_told() -> None:
    async with open_cluster(pubsub="both") as bench:
        subscription = bench.link.subscribe(LOG)
        await bench.link.wait_active(subscription)
        owner = bench.cluster.owners[slot_of(LOG)]
        assert owner is not None
        bench.link.unsubscribe(LOG)
        bench.link.unsubscribe(LOG)
        bench.cluster.publish(LOG, b"1")
        bench.cluster.spublish(LOG, b"2")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {}
        assert bench.cluster[owner].subscribed(LOG) == 0
        assert bench.cluster.publish(LOG, b"3") == 0
        with pytest.raises(RedisConnectionError, match="unsubscribed"):
            await bench.link.wait_active(subscription)


async def test_all_subscriptions_are_given_back_on_every_node() -> None:
    async with open_cluster(pubsub="both") as bench:
        channels = [named(owner)[0] for owner in (A, B, C)]
        for channel in channels:
            await bench.link.wait_active(bench.link.subscribe(channel))
        await bench.link.unsubscribe_all()
        assert [bench.cluster[A].subscribed(channel) for channel in channels] == [0, 0, 0]
        assert [bench.cluster.publish(channel, b"") for channel in channels] == [0, 0, 0]
        assert bench.link.describe().subscriptions == 0


# -- questions --------------------------------------------------------------------------------------------------------


async def test_a_question_about_a_key_goes_to_the_node_that_has_it() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        for owner in (A, B, C):
            assert await bench.link.request("XADD", named(owner)[0], "*", "f", "v", key=named(owner)[0]) == b"OK"
            assert [command[1] for command in bench.cluster[owner].asked(b"XADD")] == [named(owner)[0]]
        assert await bench.link.request("PING") == b"PONG"


async def test_a_question_follows_moved_and_the_next_one_need_not() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        [key] = named(A)
        bench.cluster.move([slot_of(key)], C, silently=True)
        for _ in range(2):
            assert await bench.link.request("XADD", key, "*", "f", "v", key=key) == b"OK"
        assert (len(bench.cluster[A].asked(b"XADD")), len(bench.cluster[C].asked(b"XADD"))) == (1, 2)
        assert bench.link.redirections == 1


async def test_a_question_says_asking_in_one_write_with_it() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        [key] = named(A)
        bench.cluster[A].migrating[slot_of(key)] = B
        assert await bench.link.request("XADD", key, "*", "f", "v", key=key) == b"OK"
        commands = bench.cluster[B].redis.commands
        place = commands.index([b"ASKING"])
        assert commands[place + 1][0] == b"XADD"
        # The slot is still A's.
        assert await bench.link.request("XADD", key, "*", "f", "v", key=key) == b"OK"
        assert len(bench.cluster[A].asked(b"XADD")) == 2


async def test_a_question_that_is_sent_on_for_ever_has_an_end() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        [key] = named(A)
        slot = slot_of(key)
        bench.cluster[A].says[slot] = f"-MOVED {slot} b.test:7002"
        bench.cluster[B].says[slot] = f"-MOVED {slot} a.test:7001"
        with pytest.raises(RedisConnectionError, match="sent on from node to node"):
            await bench.link.request("XADD", key, "*", "f", "v", key=key)
        assert len(bench.cluster[A].asked(b"XADD")) + len(bench.cluster[B].asked(b"XADD")) == 5


@pytest.mark.parametrize("said", ["-CLUSTERDOWN The cluster is down", "-TRYAGAIN later", "-MASTERDOWN no"])
async def test_what_a_node_can_not_do_now_is_no_refusal(said: str) -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        [key] = named(A)
        bench.cluster[A].says[slot_of(key)] = said
        with pytest.raises(RedisConnectionError) as caught:
            await bench.link.read("HGETALL", key)
        assert not isinstance(caught.value, ResponseError)


async def test_a_question_whose_node_is_gone_waits_for_a_time() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        [key] = named(A)
        bench.cluster[A].redis.unreachable = ConnectionRefusedError(111, "refused")
        begun = trio.current_time()
        with pytest.raises(RedisConnectionError, match=r"no connection to a\.test:7001"):
            await bench.link.request("XADD", key, "*", "f", "v", key=key)
        assert trio.current_time() - begun == pytest.approx(POLICY.request_timeout)


async def test_a_connection_for_questions_is_not_kept_for_ever() -> None:
    async with open_cluster(channels=Channels.NONE) as bench:
        [key] = named(A)
        await bench.link.request("XADD", key, "*", "f", "v", key=key)
        assert [node.address for node in bench.link.describe().nodes[1:]] == ["a.test:7001"]
        await trio.sleep(200)
        assert bench.link.describe().nodes[1:] == ()


async def test_nobody_is_asked_before_it_runs() -> None:
    async with open_cluster(channels=Channels.NONE, run=False) as bench:
        for key in (None, b"k"):
            with pytest.raises(RedisConnectionError):
                await bench.link.request("XADD", "k", key=key)
        assert (bench.link.online, bench.link.describe().state) == (False, "idle")


# -- what is said of it -----------------------------------------------------------------------------------------------


async def test_the_nodes_are_described_with_role_and_slots() -> None:
    def replicate(cluster: ScriptedCluster) -> None:
        cluster.spread(A, B)
        cluster.replicas = {C: A}

    async with open_cluster(pubsub="sharded", prepare=replicate, seeds=(C,)) as bench:
        await bench.link.wait_active(bench.link.subscribe(b"run-1"))
        state = bench.link.describe()
        found = {node.address: (node.role, node.slots, node.state) for node in state.nodes}
        assert found == {
            "c.test:7003": ("replica", "", "online"),
            "a.test:7001": ("master", "0-8191", "online"),
            "b.test:7002": ("master", "8192-16383", "online"),
        }
        assert state.remarks == ()
        assert sum(node.subscriptions for node in state.nodes) == 1
        assert state.url.startswith("redis+cluster://")


async def test_what_has_no_node_is_remarked_on_and_the_link_stays_online() -> None:
    async with open_cluster(channels=Channels.KEYSPACE) as bench:
        [run] = named(A)
        await bench.link.wait_active(bench.link.subscribe(b"__keyspace@0__:" + run))
        anchor = anchor_of(bench)
        bench.cluster[A].redis.unreachable = ConnectionRefusedError(111, "refused")
        bench.cluster[A].redis.drop_all()
        await trio.sleep(3)
        state = bench.link.describe()
        assert state.state == "online"
        assert state.remarks == ("no connection to a.test:7001: 1 subscriptions wait",)
        bench.cluster.owners = [None if owner == A else owner for owner in bench.cluster.owners]
        await trio.sleep(3)
        assert "5462 slots of the cluster have no node" in bench.link.describe().remarks
        assert bench.handler.count("lost") == (anchor == A)


async def test_the_map_is_read_now_and_then_though_nothing_happens() -> None:
    async with open_cluster() as bench:
        await trio.sleep(300)
        assert 8 <= bench.link.refreshes <= 10
        assert math.isclose(sum(len(node.asked(b"PING")) for node in bench.cluster.nodes.values()), 60, abs_tol=150)


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (b"*0\r\n+more\r\n", "an answer to nothing that was asked"),
        (b"+OK\r\n", "CLUSTER SLOTS"),
        (b"", "closed by Redis: a.test:7001"),
    ],
    ids=["one too many", "no list", "closed instead"],
)
async def test_a_node_that_answers_nonsense_is_not_taken(slots: bytes, reason: str) -> None:
    policy = attrs.evolve(POLICY, max_retries=1)
    async with open_cluster(policy=policy, run=False, seeds=(A,)) as bench:
        redis = bench.cluster[A].redis
        usual = redis.answers

        def answers(peer: Peer, command: Command) -> bytes | None:
            if command != [b"CLUSTER", b"SLOTS"]:
                return usual(peer, command)
            if not slots:
                peer.drop()
            return slots

        redis.answers = answers
        with pytest.raises(RedisUnavailable, match=reason):
            await bench.link.run()
        assert all(peer.closed for peer in redis.peers)


@pytest.mark.parametrize("pubsub", ["classic", "sharded", "both"])
async def test_what_was_wanted_before_it_runs_is_heard_when_it_does(pubsub: PubSub) -> None:
    async with open_cluster(pubsub=pubsub, run=False) as bench, trio.open_nursery() as nursery:
        subscription = bench.link.subscribe(LOG)
        await nursery.start(bench.link.run)
        await bench.link.wait_active(subscription)
        assert bench.handler.count("active") == 1
        nursery.cancel_scope.cancel()
