"""Which server a link follows under sentinels, and what becomes of it when they name another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.redis.errors import RedisRefused, RedisUnavailable
from common.redis.policy import Replica
from common.redis.sentinel import ASK_INTERVAL
from common.redis.state import NodeState
from common.secret import Secret
from tests.support.scripted_group import (
    CHANNEL,
    LISTENING,
    READING,
    SENTINELS,
    URL,
    A,
    B,
    make_watched,
    open_watched_link,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.scripted_redis import Command, Peer

SOON = 0.01
"""Seconds in which what waits for nothing has happened."""


# -- at the start


async def test_the_primary_that_they_name_is_followed_and_no_sentinel_has_databases(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert bench.link.describe().nodes[0].role == "master"
        assert bench.group.a.asked(b"SELECT") == [[b"SELECT", b"2"]]
        assert not any(sentinel.asked(b"SELECT") for sentinel in bench.group.sentinels)
        assert (bench.link.describe().remarks, bench.link.role_changes) == ((), 0)
        assert autojump_clock.current_time() < SOON


async def test_at_the_start_one_answer_is_enough(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery)
        bench.group.vanish(("s1", 26379))
        bench.group.sentinels[1].unreachable = OSError("gone")
        await nursery.start(bench.link.run)
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert bench.link.describe().remarks == ("2 of 3 sentinels say nothing",)
        assert bench.link.describe().details == (
            "sentinel s1:26379: connection refused: s1:26379",
            "sentinel s2:26379: gone: s2:26379",
            "sentinel s3:26379: names 10.0.0.1:6379, epoch 0",
        )
        assert autojump_clock.current_time() < SOON
        nursery.cancel_scope.cancel()


async def test_one_that_never_answers_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery)
        bench.group.sentinels[0].holding = True
        await nursery.start(bench.link.run)
        assert autojump_clock.current_time() < 1.0
        nursery.cancel_scope.cancel()


async def test_without_an_answer_the_start_fails_like_any_other(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery, attrs.evolve(LISTENING, max_retries=2))
        bench.group.silence()
        with pytest.raises(RedisUnavailable, match=r"no sentinel names a primary for mymaster: .*s1:26379; .*s3:26379"):
            await bench.link.run()
        assert bench.group.tried == []
        assert autojump_clock.current_time() < 3
        nursery.cancel_scope.cancel()


async def test_a_name_that_no_sentinel_knows_is_told_as_that(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery, attrs.evolve(LISTENING, max_retries=1), url=URL.replace("mymaster", "another"))
        with pytest.raises(RedisUnavailable, match=r"for another: it knows no master of that name$"):
            await bench.link.run()
        assert autojump_clock.current_time() < 1
        nursery.cancel_scope.cancel()


async def test_sentinels_have_a_login_of_their_own(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(
            nursery,
            url=URL.replace("//", "//:servers@") + "?sentinel_username=watcher",
            sentinel_password=Secret.literal("theirs", "SENTINEL_PASSWORD"),
        )
        bench.group.a.password = b"servers"
        for sentinel in bench.group.sentinels:
            sentinel.password = b"theirs"
        await nursery.start(bench.link.run)
        assert bench.group.sentinels[0].asked(b"HELLO")[0][2:5] == [b"AUTH", b"watcher", b"theirs"]
        assert autojump_clock.current_time() < SOON
        nursery.cancel_scope.cancel()


async def test_wrong_credentials_at_every_sentinel_end_the_start_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery, sentinel_password=Secret.literal("wrong", "SENTINEL_PASSWORD"))
        for sentinel in bench.group.sentinels:
            sentinel.password = b"theirs"
        with pytest.raises(RedisRefused, match=r"WRONGPASS.*\(sentinels have a login of their own\)") as raised:
            await bench.link.run()
        assert "theirs" not in str(raised.value)
        assert autojump_clock.current_time() < 1
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_no_primary_is_not_the_one_they_mean(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery, attrs.evolve(LISTENING, max_retries=1))
        bench.group.a.role = b"replica"
        with pytest.raises(RedisUnavailable, match=r"a replica, and a primary is needed: 10\.0\.0\.1:6379"):
            await bench.link.run()
        assert bench.group.a.peer.closed
        assert autojump_clock.current_time() < 1
        nursery.cancel_scope.cancel()


# -- another primary, while the link lives


async def test_another_primary_is_followed_without_an_outage_and_the_old_one_read_on(
    autojump_clock: MockClock,
) -> None:
    async with open_watched_link() as bench:
        a, b = bench.group.a, bench.group.b
        a.publish(CHANNEL, b"1")
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert bench.followed() == [("10.0.0.2:6379", "online"), ("10.0.0.1:6379", "leaving")]
        assert (bench.link.online, bench.link.role_changes) == (True, 1)
        (line,) = bench.logbook.said("redis followed elsewhere")
        assert (line["before"], line["now"], line["subscriptions"]) == ("10.0.0.1:6379", "10.0.0.2:6379", 1)
        told = bench.link.describe()
        assert (told.state, told.attempt) == ("online", 1)
        assert told.since == pytest.approx(ASK_INTERVAL)
        assert told.nodes == (
            NodeState("10.0.0.2:6379", "master", "", "online", 1),
            NodeState("10.0.0.1:6379", None, "", "leaving", 1),
        )
        for number in (b"2", b"3", b"4"):
            assert a.publish(CHANNEL, b"old" + number) == b.publish(CHANNEL, b"new" + number) == 1
            await wait_all_tasks_blocked()
        assert bench.heard() == [b"1", b"old2", b"new2", b"old3", b"new3", b"old4", b"new4"]
        # The old one becomes a replica, and closes.
        a.drop_all()
        await wait_all_tasks_blocked()
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        (line,) = bench.logbook.said("redis former server let go")
        assert (line["address"], line["reason"]) == ("10.0.0.1:6379", "closed by Redis")
        b.publish(CHANNEL, b"5")
        await wait_all_tasks_blocked()
        assert bench.heard()[-1] == b"5"
        assert bench.handler.count("lost") == 0
        assert ("online", 0.0) in bench.handler.events, "whoever reads reads anew"
        assert bench.handler.count("active") == 1, "nobody is told of a gap"
        assert autojump_clock.current_time() < 2
        # Whatever becomes of the new one is told by its own name.
        b.role = b"replica"
        await trio.sleep(LISTENING.role_interval + SOON)
        assert [line["address"] for line in bench.logbook.said("redis is a replica")] == ["10.0.0.2:6379"]


async def test_the_old_one_is_read_for_thirty_seconds_at_most(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + 29)
        assert bench.group.a.publish(CHANNEL, b"late") == 1
        await trio.sleep(2)
        assert bench.heard() == [b"late"]
        assert bench.group.a.subscribers(CHANNEL) == 0
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert autojump_clock.current_time() > 30


async def test_back_and_forth_nothing_comes_twice(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        a, b = bench.group.a, bench.group.b
        told: list[bytes] = []
        for epoch, place in enumerate([B, A, B, A], start=1):
            bench.group.promote(place, epoch=epoch)
            await trio.sleep(ASK_INTERVAL + SOON)
            assert bench.followed()[0][1] == "online"
            assert len(bench.followed()) == 2
            for server in (a, b):
                told.append(b"%d" % len(told))
                assert server.publish(CHANNEL, told[-1]) == 1
                await wait_all_tasks_blocked()
        assert bench.heard() == told
        assert (bench.link.role_changes, bench.handler.count("lost")) == (4, 0)
        await trio.sleep(40)
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert autojump_clock.current_time() < 50


async def test_an_old_one_that_begins_to_repeat_is_let_go(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        bench.group.a.role = b"replica"
        await trio.sleep(LISTENING.role_interval + SOON)
        assert bench.group.a.subscribers(CHANNEL) == 0
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert autojump_clock.current_time() < 10


async def test_a_stalled_old_one_is_let_go_before_it_can_speak_again(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        bench.group.a.holding = True
        await trio.sleep(LISTENING.probe_interval + LISTENING.request_timeout + 1)
        bench.group.a.publish(CHANNEL, b"of another time")
        bench.group.a.release()
        await trio.sleep(1)
        assert bench.heard() == []
        assert autojump_clock.current_time() < 10


async def test_who_reads_drops_the_old_one_at_once(autojump_clock: MockClock) -> None:
    async with open_watched_link(READING) as bench:
        bench.group.a.hashes[b"run"] = {b"of": b"a"}
        bench.group.b.hashes[b"run"] = {b"of": b"b"}
        assert await bench.link.read("HGETALL", b"run") == {b"of": b"a"}
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert all(peer.closed for peer in bench.group.a.peers)
        assert await bench.link.read("HGETALL", b"run") == {b"of": b"b"}
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert bench.handler.events[-1] == ("online", 0.0)
        assert bench.handler.count("lost") == 0
        assert autojump_clock.current_time() < 2


async def test_who_writes_writes_to_the_primary_that_they_name(autojump_clock: MockClock) -> None:
    async with open_watched_link(attrs.evolve(READING, replica=Replica.REFUSE)) as bench:
        for server, name in ((bench.group.a, b"a"), (bench.group.b, b"b")):
            server.answers = _naming(name)
        assert await bench.link.request("XADD", "k") == b"a"
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert await bench.link.request("XADD", "k") == b"b"
        # An operator makes a replica of it, and tells nobody: what is refused there is an outage.
        bench.group.b.role = b"replica"
        await trio.sleep(30)
        assert not bench.link.online
        bench.group.promote(A, epoch=2)
        await bench.handler.wait_for("online", 3)
        assert await bench.link.request("XADD", "k") == b"a"
        assert bench.link.role_changes >= 2
        assert autojump_clock.current_time() < 65


@pytest.mark.parametrize("hint", [b"+switch-master", b"+promoted-slave"])
async def test_a_sentinel_that_tells_of_a_failover_is_asked_at_once(hint: bytes, autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        await trio.sleep(0.3)
        bench.group.promote(by=1)
        bench.group.sentinels[1].publish(hint, b"mymaster 10.0.0.1 6379 10.0.0.2 6379")
        await trio.sleep(SOON)
        assert bench.followed()[0] == ("10.0.0.2:6379", "online")
        assert autojump_clock.current_time() < 0.4


async def test_the_successor_is_asked_for_everything_also_for_what_is_wanted_meanwhile(
    autojump_clock: MockClock,
) -> None:
    async with open_watched_link() as bench:
        bench.group.b.answers = _late_subscriptions
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert bench.followed()[0] == ("10.0.0.1:6379", "online")
        meanwhile = bench.link.subscribe(b"meanwhile")
        given_back = bench.link.subscribe(b"given back")
        await bench.link.wait_active(meanwhile)
        await bench.link.wait_active(given_back)
        bench.link.unsubscribe(b"given back")
        bench.group.b.answers = lambda _peer, _command: None
        bench.group.b.release()
        await trio.sleep(SOON)
        assert bench.followed()[0] == ("10.0.0.2:6379", "online")
        assert bench.group.b.publish(b"meanwhile", b"x") == 1
        assert bench.group.b.publish(b"given back", b"x") == 0
        bench.link.unsubscribe(CHANNEL)
        await wait_all_tasks_blocked()
        assert bench.group.a.publish(CHANNEL, b"x") == bench.group.b.publish(CHANNEL, b"x") == 0
        await wait_all_tasks_blocked()
        assert (bench.handler.heard.get(b"meanwhile"), bench.heard()) == ([b"x"], [])
        assert autojump_clock.current_time() < 2


async def test_a_channel_that_the_successor_refuses_is_refused_when_it_takes_over(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        other = bench.link.subscribe(b"other")
        await bench.link.wait_active(other)
        bench.group.b.denied = {CHANNEL}
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert [event[:2] for event in bench.handler.events if event[0] == "refused"] == [("refused", CHANNEL)]
        assert bench.link.subscribe(CHANNEL).refused is not None
        assert other.active
        assert autojump_clock.current_time() < 2


@pytest.mark.parametrize("trouble", ["nobody", "replica", "hangs up", "mute"])
async def test_a_successor_that_is_no_use_leaves_the_connection_alone(trouble: str, autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        group = bench.group
        match trouble:
            case "nobody":
                group.promote(by=0)
                group.vanish(B)
            case "replica":
                group.promote(by=0)
                group.b.role = b"replica"
            case "hangs up":
                group.promote(by=0)
                group.b.answers = _hanging_up
            case "mute":
                group.promote(by=0)
                group.b.answers = _late_subscriptions
        for number in range(60):
            group.a.publish(CHANNEL, b"%d" % number)
            await trio.sleep(1)
        assert bench.heard() == [b"%d" % number for number in range(60)]
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert (bench.handler.count("lost"), bench.link.role_changes) == (0, 0)
        assert len(bench.logbook.said("redis successor unusable, the connection is kept")) == 1
        assert 5 < sum(place == B for place, _ in group.tried) < 80
        # It comes to its senses.
        group.places[B] = group.b
        group.b.answers = lambda _peer, _command: None
        group.b.role = b"master"
        await trio.sleep(40)
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert autojump_clock.current_time() < 101


# -- an outage


async def test_after_a_loss_they_are_asked_anew_and_the_new_primary_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with open_watched_link() as bench:
        group = bench.group
        group.vanish(A)
        await trio.sleep(20)
        assert {place for place, _ in group.tried} == {A}
        group.promote()
        before = trio.current_time()
        await bench.handler.wait_for("online", 2)
        assert trio.current_time() - before < ASK_INTERVAL + SOON, "whatever the delay before the next attempt was"
        assert bench.link.role_changes == 1
        assert autojump_clock.current_time() < 23


async def test_a_remembered_primary_that_came_back_is_not_gone_back_to(autojump_clock: MockClock) -> None:
    async with open_watched_link(READING) as bench:
        group = bench.group
        tried = len(group.tried)
        # It is back at once, empty, and says that it is a primary; by then they name another.
        group.promote()
        group.a.hashes.clear()
        group.a.drop_all()
        await bench.handler.wait_for("online", 2)
        assert [place for place, _ in group.tried[tried:]] == [B]
        assert autojump_clock.current_time() < 2


async def test_a_primary_that_is_replaced_between_connecting_and_reading_is_left_unread(
    autojump_clock: MockClock,
) -> None:
    async with open_watched_link(READING) as bench:
        group = bench.group

        def replaced(_peer: Peer, command: Command) -> bytes | None:
            if command[0] == b"HELLO":
                group.promote()
            return None

        group.a.drop_all()
        group.a.answers = replaced
        await bench.handler.wait_for("online", 2)
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert len(group.a.asked(b"SUBSCRIBE")) == 1, "not over the second connection"
        (line,) = bench.logbook.said("redis unavailable, retrying")
        assert line["error"] == "the sentinels name 10.0.0.2:6379 by now"
        assert autojump_clock.current_time() < 3


@pytest.mark.parametrize("flags", [b"s_down,o_down,master", b"master,failover_in_progress"])
async def test_a_primary_that_they_are_about_to_replace_is_not_connected_to(
    flags: bytes, autojump_clock: MockClock
) -> None:
    async with open_watched_link() as bench:
        group = bench.group
        group.sentinels[0].flags = flags
        await trio.sleep(5)
        assert bench.link.online, "a connection that lives is kept"
        tried = len(group.tried)
        group.a.drop_all()
        await trio.sleep(5)
        assert len(group.tried) == tried
        assert bench.logbook.said("redis unavailable, retrying")[0]["error"].startswith(
            "the sentinels take the primary"
        )
        # Promoted, and the others not told to follow it yet: its details are still the old one's.
        group.promote(by=0)
        group.sentinels[0].describes = A
        await bench.handler.wait_for("online", 2)
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert autojump_clock.current_time() < 12


async def test_a_server_that_hangs_is_given_up_when_they_name_another(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        group = bench.group
        group.a.holding = True
        await trio.sleep(5)
        assert bench.handler.count("lost") == 1
        await group.a.wait_attempts(2)
        before = trio.current_time()
        group.promote()
        await bench.handler.wait_for("online", 2)
        assert trio.current_time() - before < ASK_INTERVAL + SOON
        # It wakes up, and says what was on its way: nobody listens.
        group.a.publish(CHANNEL, b"of another time")
        group.a.release()
        await trio.sleep(60)
        assert bench.heard() == []
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert autojump_clock.current_time() < 75


async def test_clients_are_not_ended_while_a_primary_is_being_replaced(autojump_clock: MockClock) -> None:
    async with open_watched_link(attrs.evolve(LISTENING, max_retries=3)) as bench:
        bench.group.vanish(A)
        lost = trio.current_time()
        await bench.handler.wait_for("exhausted")
        # Their own time-out, 5 s, and ten more.
        assert trio.current_time() - lost > 15
        bench.group.promote()
        await bench.handler.wait_for("online", 2)
        assert bench.handler.count("exhausted") == 1
        assert autojump_clock.current_time() < 60


# -- sentinels that are gone, or lie


async def test_without_any_sentinel_the_connection_is_kept_and_one_line_says_so(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        group = bench.group
        group.silence()
        for number in range(300):
            group.a.publish(CHANNEL, b"%d" % number)
            await trio.sleep(1)
        assert bench.heard() == [b"%d" % number for number in range(300)]
        assert (bench.link.online, bench.handler.count("lost")) == (True, 0)
        (line,) = bench.logbook.said("no sentinel answers")
        assert line["level"] == "warn"
        assert bench.link.describe().remarks == ("no sentinel answers: the connection is kept",)
        assert len(bench.link.describe().details) == len(SENTINELS)
        # Lost now, there is nobody to ask: not a remembered address.
        tried = len(group.tried)
        group.a.drop_all()
        await trio.sleep(60)
        assert (bench.link.online, len(group.tried)) == (False, tried)
        group.promote()
        group.places["s2", 26379] = group.sentinels[1]
        await bench.handler.wait_for("online", 2)
        assert bench.followed() == [("10.0.0.2:6379", "online")]
        assert len(bench.logbook.said("sentinel answers again")) == 1
        assert autojump_clock.current_time() < 400


async def test_one_that_lags_or_lies_is_outvoted_and_told_of(autojump_clock: MockClock) -> None:
    async with open_watched_link() as bench:
        bench.group.b.role = b"master"
        bench.group.sentinels[2].names = B
        await trio.sleep(60)
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert bench.link.describe().remarks == ("1 of 3 sentinels name another primary",)
        assert bench.link.describe().details[2] == "sentinel s3:26379: names 10.0.0.2:6379, epoch 0"
        assert autojump_clock.current_time() == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    ("answer", "remark"),
    [
        (b"-NOPERM User w has no permissions to run the 'sentinel|master' command\r\n", "NOPERM User w has"),
        (b"-ERR unknown command 'SENTINEL'\r\n", "ERR unknown command"),
        (b"+OK\r\n", "it names no address"),
        (b"*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "it names no usable host"),
        (b"*2\r\n$1\r\n?\r\n$4\r\n6379\r\n", "it names no usable host"),
        (b"*2\r\n$1\r\na\r\n$5\r\n65536\r\n", "its port is no number from 1 to 65535"),
    ],
)
async def test_one_that_answers_nonsense_is_told_of_once_and_the_others_believed(
    answer: bytes, remark: str, autojump_clock: MockClock
) -> None:
    async with open_watched_link() as bench:
        bench.group.sentinels[0].refusal = answer
        await trio.sleep(60)
        assert bench.followed() == [("10.0.0.1:6379", "online")]
        assert bench.link.describe().remarks == ("1 of 3 sentinels say nothing",)
        assert bench.link.describe().details[0].startswith(f"sentinel s1:26379: {remark}")
        (line,) = bench.logbook.said("sentinel says nothing")
        assert (line["sentinel"], line["error"].startswith(remark)) == ("s1:26379", True)
        assert autojump_clock.current_time() == pytest.approx(60, abs=0.1)


async def test_one_that_may_not_tell_of_failovers_is_asked_all_the_same(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery)
        for sentinel in bench.group.sentinels:
            sentinel.denied = {b"+switch-master", b"+promoted-slave"}
        await nursery.start(bench.link.run)
        assert len(bench.logbook.said("sentinel does not tell of failovers, and is asked every second")) == 6
        bench.group.promote()
        await trio.sleep(ASK_INTERVAL + SOON)
        assert bench.followed()[0] == ("10.0.0.2:6379", "online")
        assert autojump_clock.current_time() < 2
        nursery.cancel_scope.cancel()


def _late_subscriptions(peer: Peer, command: Command) -> bytes | None:
    """A script: SUBSCRIBE and what follows it wait for `release`, the handshake does not."""
    if command[0] in (b"HELLO", b"SELECT") or (command == [b"PING"] and not peer.held):
        return None
    peer.held.append(command)
    return b""


def _naming(name: bytes) -> Callable[[Peer, Command], bytes | None]:
    """A script: XADD is answered with the server's name."""
    return lambda _peer, command: b"+" + name + b"\r\n" if command[0] == b"XADD" else None


def _hanging_up(peer: Peer, command: Command) -> bytes | None:
    if command[0] == b"SUBSCRIBE":
        peer.drop()
        return b""
    return None
