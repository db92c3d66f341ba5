"""What a link makes of a server that is a replica, or becomes one (common/redis/role.py, policy.Replica)."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.redis.link import LinkPolicy, Replica
from tests.support.links import POLICY, make_link, open_link
from tests.support.recording import RecordingRandom, delays_of_an_outage
from tests.support.scripted_redis import message, open_scripted_redis

CHANNEL: Final = b"run:status"
WATCHFUL: Final = attrs.evolve(POLICY, role_interval=5.0)
HELLO: Final = [b"HELLO", b"3"]


HELLO_OF_A_REPLICA: Final = b"%2\r\n+proto\r\n:3\r\n+role\r\n+replica\r\n"

STAY, FOLLOW, LEAVE, REFUSE = (attrs.evolve(WATCHFUL, replica=replica, duck=30.0) for replica in Replica)


async def test_the_role_is_asked_for_at_a_fixed_interval_whatever_else_goes_on(autojump_clock: MockClock) -> None:
    async with open_link(STAY) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        for _ in range(600):
            await trio.sleep(0.1)
            bench.redis.publish(CHANNEL, b"x")
        await trio.sleep(0.1)
        assert bench.redis.asked(b"HELLO")[1:] == [HELLO] * 12
        assert bench.handler.count("lost") == 0
        assert autojump_clock.current_time() > 60


@pytest.mark.parametrize("words", [b"replica", b"slave"])
async def test_a_primary_that_becomes_a_replica_is_left_and_its_name_resolved_anew(
    words: bytes, autojump_clock: MockClock
) -> None:
    async with open_link(LEAVE) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        await trio.sleep(12)
        # The name leads to the new primary by now; the old one keeps its connections open.
        old = bench.redis.peer
        bench.redis.answers = lambda peer, command: (
            b"%2\r\n+proto\r\n:3\r\n+role\r\n+" + words + b"\r\n" if peer is old and command == HELLO else None
        )
        await bench.handler.wait_for("online", 2)
        assert old.closed
        assert len(bench.redis.attempts) == 2
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == "the primary has become a replica: redis.test:6379"
        assert bench.logbook.said("redis is a replica") == []
        assert ("lost", 15.0) in bench.handler.events
        assert autojump_clock.current_time() < 16


async def test_where_there_is_nothing_but_the_replica_it_is_put_up_with_and_told_once(
    autojump_clock: MockClock,
) -> None:
    async with open_link(LEAVE) as bench:
        await trio.sleep(12)
        bench.redis.role = b"replica"
        await trio.sleep(600)
        assert bench.link.online
        assert (bench.link.reconnects, bench.handler.count("lost")) == (2, 1)
        (line,) = bench.logbook.said("redis is a replica")
        assert (line["level"], line["address"]) == ("warn", "redis.test:6379")
        # It is promoted, and later demoted again: a new story.
        bench.redis.role = b"master"
        await trio.sleep(10)
        assert len(bench.logbook.said("redis is a primary again")) == 1
        bench.redis.role = b"replica"
        await trio.sleep(10)
        assert (bench.link.reconnects, len(bench.logbook.said("redis is a replica"))) == (3, 2)
        assert autojump_clock.current_time() == 632


@pytest.mark.parametrize("how", [STAY, FOLLOW, LEAVE], ids=["stay", "follow", "leave"])
async def test_a_replica_from_the_start_is_served_from_with_one_warning(
    how: LinkPolicy, autojump_clock: MockClock
) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        redis.role = b"replica"
        bench = make_link(redis, policy=how)
        await nursery.start(bench.link.run)
        await trio.sleep(300)
        redis.drop_all()
        await bench.handler.wait_for("online", 2)
        assert len(bench.logbook.said("redis is a replica")) == 1
        assert bench.handler.count("lost") == 1
        assert autojump_clock.current_time() < 301
        nursery.cancel_scope.cancel()


async def test_who_follows_goes_on_listening_until_the_name_leads_to_a_primary(autojump_clock: MockClock) -> None:
    async with open_link(FOLLOW) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        redis, old = bench.redis, bench.redis.peer
        await trio.sleep(7)
        # Demoted; for a minute the name still leads there. Whatever is published comes once.
        redis.role = b"replica"
        for number in range(60):
            redis.publish(CHANNEL, b"%d" % number)
            await trio.sleep(1)
        assert [len(bench.handler.heard[CHANNEL]), bench.handler.count("lost"), old.closed] == [60, 0, False]
        assert len(bench.logbook.said("redis is a replica")) == 1
        assert len(bench.logbook.said("redis successor unusable, the connection is kept")) == 1
        assert redis.subscribers(CHANNEL) == 1
        assert 10 < len(redis.attempts) < 30
        # The name has moved.
        redis.answers = lambda peer, command: HELLO_OF_A_REPLICA if peer is old and command == HELLO else None
        redis.role = b"master"
        await trio.sleep(6)
        assert redis.subscribers(CHANNEL) == 2
        assert [node.state for node in bench.link.describe().nodes] == ["online", "leaving"]
        for number in range(60, 120):
            # The old one repeats what the new one says, and has something of its own.
            redis.publish(CHANNEL, b"%d" % number)
            old.send(message(CHANNEL, b"own"))
            await trio.sleep(0.1)
        assert bench.handler.heard[CHANNEL] == [
            *(b"%d" % number for number in range(60)),
            *(text for number in range(60, 120) for text in (b"%d" % number, b"own")),
        ]
        await trio.sleep(30)
        assert (old.closed, redis.subscribers(CHANNEL)) == (True, 1)
        redis.publish(CHANNEL, b"again")
        redis.publish(CHANNEL, b"again")
        await wait_all_tasks_blocked()
        assert bench.handler.heard[CHANNEL][-2:] == [b"again", b"again"]
        assert (bench.link.reconnects, bench.handler.count("lost"), bench.link.role_changes) == (1, 0, 2)
        assert autojump_clock.current_time() < 120


async def test_of_two_that_were_left_in_a_row_only_the_last_is_still_read(autojump_clock: MockClock) -> None:
    async with open_link(FOLLOW) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        redis = bench.redis
        demoted: list[object] = []
        redis.answers = lambda peer, command: HELLO_OF_A_REPLICA if peer in demoted and command == HELLO else None
        for _ in range(3):
            demoted.append(redis.peer)
            await trio.sleep(6)
            redis.publish(CHANNEL, b"x")
            await wait_all_tasks_blocked()
        assert redis.subscribers(CHANNEL) == 2
        assert bench.handler.heard[CHANNEL] == [b"x"] * 3
        assert [node.state for node in bench.link.describe().nodes] == ["online", "leaving"]
        assert (bench.link.reconnects, bench.handler.count("lost")) == (1, 0)
        assert autojump_clock.current_time() < 20


async def test_who_follows_does_not_leave_a_server_for_itself(autojump_clock: MockClock) -> None:
    async with open_link(FOLLOW) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        bench.redis.role = b"replica"
        await trio.sleep(6)
        # A primary again before anybody has asked.
        bench.redis.role = b"master"
        await trio.sleep(60)
        assert bench.redis.subscribers(CHANNEL) == 1
        assert bench.link.describe().nodes[0].role == "master"
        assert len(bench.logbook.said("redis is a primary again")) == 1
        assert (bench.handler.count("lost"), len(bench.link.describe().nodes)) == (0, 1)
        attempts = len(bench.redis.attempts)
        await trio.sleep(60)
        assert len(bench.redis.attempts) == attempts
        assert autojump_clock.current_time() < 130


async def test_who_stays_notes_the_change_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_link(STAY) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        for number in range(100):
            if number == 50:
                bench.redis.role = b"replica"
            bench.redis.publish(CHANNEL, b"%d" % number)
            await trio.sleep(1)
        assert bench.handler.heard[CHANNEL] == [b"%d" % number for number in range(100)]
        assert (bench.link.reconnects, len(bench.logbook.said("redis is a replica"))) == (1, 1)
        assert autojump_clock.current_time() == 100


async def test_who_writes_takes_a_replica_for_a_failed_attempt_until_there_is_a_primary(
    autojump_clock: MockClock,
) -> None:
    rng = RecordingRandom(8)
    async with open_link(REFUSE, rng) as bench:
        await trio.sleep(12)
        bench.redis.role = b"replica"
        await trio.sleep(300)
        assert not bench.link.online
        assert [(low, high) for low, high, _ in rng.drawn] == delays_of_an_outage(len(rng.drawn))
        errors = {line["error"] for line in bench.logbook.said("redis unavailable, retrying")}
        assert errors == {"a replica, and a primary is needed: redis.test:6379"}
        assert all(peer.closed for peer in bench.redis.peers)
        bench.redis.role = b"master"
        await bench.handler.wait_for("online", 2)
        assert autojump_clock.current_time() < 343


@pytest.mark.parametrize(
    "answer", [b"-NOPERM no\r\n", b"-ERR unknown command\r\n", b"+OK\r\n", b"%1\r\n+proto\r\n:3\r\n"], ids=repr
)
async def test_a_server_that_does_not_tell_is_taken_as_it_is(answer: bytes, autojump_clock: MockClock) -> None:
    async with open_link(LEAVE) as bench:
        bench.redis.answers = lambda _peer, command: answer if command == HELLO else None
        await trio.sleep(100)
        assert bench.handler.count("lost") == 0
        assert bench.logbook.at_least("warn", "error") == []
        assert autojump_clock.current_time() == 100


async def test_a_role_that_is_not_answered_is_a_stall_like_any_other(autojump_clock: MockClock) -> None:
    async with open_link(attrs.evolve(LEAVE, probe_interval=60.0)) as bench:
        await trio.sleep(4)
        bench.redis.holding = True
        await bench.handler.wait_for("lost")
        await wait_all_tasks_blocked()
        assert ("lost", 6.0) in bench.handler.events
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == "no answer to HELLO for 1s"
        assert autojump_clock.current_time() >= 6


async def test_the_role_is_checked_on_reading_connections_by_their_address_alone(autojump_clock: MockClock) -> None:
    """They lead to the same server as the subscribing one, whose role is watched, and end with it."""
    async with open_link(LEAVE) as bench:
        assert await bench.link.read("HGETALL", "run") == {}
        await trio.sleep(12)
        assert len(bench.redis.peers) == 2
        assert bench.redis.asked(b"HELLO").count(HELLO) == 2
        bench.redis.role = b"replica"
        await bench.handler.wait_for("online", 2)
        assert [peer.closed for peer in bench.redis.peers[:2]] == [True, True]
        assert autojump_clock.current_time() < 16
