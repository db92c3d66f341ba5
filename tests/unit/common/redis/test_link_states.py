"""What a link tells of itself through its life: its state, its log, its counters, and what its handler hears."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.redis.errors import OutageError, RedisConnectionError, RedisTimeoutError
from common.redis.link import RedisUnavailable
from common.redis.opening import Opened, Opener
from tests.support.links import POLICY, make_link, open_link
from tests.support.recording import RecordingRandom
from tests.support.scripted_redis import open_scripted_redis, silent_from_subscribe_on

if TYPE_CHECKING:
    from common.redis.link import Link
    from common.redis.url import RedisURL

CHANNEL = b"run:status"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def state(link: Link) -> tuple[str, int, float]:
    told = link.describe()
    return told.state, told.attempt, told.since


async def test_a_link_that_does_not_run_is_idle() -> None:
    async with open_scripted_redis() as redis:
        link = make_link(redis).link
        assert state(link) == ("idle", 0, 0.0)
        assert (link.reconnects, link.timeouts, link.redirections, sum(link.round_trips.counts)) == (0, 0, 0, 0)
        assert (link.obstacle, link.online, link.db) == (None, False, 2)
        assert repr(link) == "<Link redis://redis.test:6379/2 idle, 0 subscriptions>"


async def test_its_name_has_its_state_and_how_much_it_is_subscribed_to() -> None:
    async with open_link() as bench:
        bench.link.subscribe(b"a")
        bench.link.subscribe(b"b")
        assert repr(bench.link) == "<Link redis://redis.test:6379/2 online, 2 subscriptions>"
        assert bench.link.describe().subscriptions == 2
        bench.link.unsubscribe(b"a")
        assert bench.link.describe().subscriptions == 1


async def test_each_state_is_told_with_its_attempt_and_since_when(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        rng = RecordingRandom(1)
        bench = make_link(redis, rng=rng)
        redis.unreachable = REFUSED
        await trio.sleep(5)
        nursery.start_soon(bench.link.run)
        await wait_all_tasks_blocked()
        assert state(bench.link) == ("waiting", 2, 5.0)
        redis.unreachable, redis.holding = None, True
        await redis.wait_attempts(2)
        await wait_all_tasks_blocked()
        begun = 5 + rng.drawn[0][2]
        assert state(bench.link) == ("connecting", 2, begun)
        await trio.sleep(0.5)
        redis.release()
        await bench.handler.wait_for("online")
        assert state(bench.link) == ("online", 2, begun + 0.5)
        await trio.sleep(50)
        redis.drop_all()
        await bench.handler.wait_for("lost")
        await wait_all_tasks_blocked()
        assert state(bench.link) == ("waiting", 1, begun + 50.5)
        await bench.handler.wait_for("online", 2)
        assert state(bench.link)[:2] == ("online", 1)
        nursery.cancel_scope.cancel()
    assert state(bench.link)[:2] == ("stopped", 0)


async def test_only_the_first_attempt_of_an_outage_is_news(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis)
        redis.unreachable = REFUSED
        nursery.start_soon(bench.link.run)
        await redis.wait_attempts(3)
        lines = bench.logbook.said("redis connecting")
        assert [(line["level"], line["attempt"], line["address"]) for line in lines] == [
            ("info", 1, "redis.test:6379"),
            ("debug", 2, "redis.test:6379"),
            ("debug", 3, "redis.test:6379"),
        ]
        nursery.cancel_scope.cancel()


async def test_an_outage_is_told_when_it_begins_and_when_it_is_over(autojump_clock: MockClock) -> None:
    rng = RecordingRandom(5)
    async with open_link(rng=rng) as bench:
        (first,) = bench.logbook.said("redis online")
        assert (first["level"], first["attempt"], first["subscriptions"], first["outage"]) == ("info", 1, 0, None)
        bench.link.subscribe(CHANNEL)
        await trio.sleep(20.12345)
        bench.redis.drop_all()
        await bench.handler.wait_for("online", 2)
        (lost,) = bench.logbook.said("redis stream interrupted")
        assert (lost["level"], lost["error"], lost["online"]) == ("warn", "closed by Redis", 20.123)
        # Redis was last heard at the probe of 20.
        gap = 0.12345 + rng.drawn[0][2]
        assert round(gap, 3) != round(gap, 4)
        _, second = bench.logbook.said("redis online")
        assert (second["attempt"], second["subscriptions"]) == (1, 1)
        assert second["outage"] == round(gap, 3)
        assert bench.handler.events[-1] == ("online", pytest.approx(gap))
        assert bench.handler.count("lost") == 1
        assert (bench.link.reconnects, bench.link.timeouts) == (2, 0)


async def test_nobody_is_told_of_a_loss_that_was_no_connection_yet(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis)
        redis.unreachable = REFUSED
        nursery.start_soon(bench.link.run)
        await redis.wait_attempts(4)
        assert (bench.handler.events, bench.link.reconnects) == ([], 0)
        assert bench.logbook.said("redis stream interrupted") == []
        assert (bench.link.obstacle, bench.link.online) == ("redis is unavailable", False)
        redis.unreachable = None
        await bench.handler.wait_for("online")
        assert (bench.link.obstacle, bench.link.online) == (None, True)
        nursery.cancel_scope.cancel()


async def test_each_answered_probe_is_a_round_trip(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        before = sum(bench.link.round_trips.counts)
        await trio.sleep(60.5)
        assert sum(bench.link.round_trips.counts) > before


async def test_at_start_it_says_why_there_is_no_redis(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis:
        bench = make_link(redis, policy=attrs.evolve(POLICY, max_retries=2))
        redis.unreachable = REFUSED
        with pytest.raises(RedisUnavailable, match=r"^Redis is unavailable after 2 attempts: "):
            await bench.link.run()
        assert state(bench.link)[:2] == ("stopped", 0)
        assert bench.handler.events == [], "nobody is there to be told"


async def test_later_clients_are_told_that_the_retries_are_exhausted(autojump_clock: MockClock) -> None:
    async with open_link(attrs.evolve(POLICY, max_retries=2)) as bench:
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.handler.wait_for("exhausted")
        assert len(bench.redis.attempts) == 3
        await bench.redis.wait_attempts(6)
        assert bench.handler.count("exhausted") == 1


async def test_while_attempts_fail_a_newcomer_is_told_at_once_why(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.redis.wait_attempts(2)
        await wait_all_tasks_blocked()
        now = trio.current_time()
        subscription = bench.link.subscribe(CHANNEL)
        with pytest.raises(OutageError, match=r"^redis is unavailable$"):
            await bench.link.wait_active(subscription)
        # One that was given up is told that: there is nothing to wait for in Redis.
        bench.link.unsubscribe(CHANNEL)
        with pytest.raises(RedisConnectionError, match=r"^unsubscribed while waiting for Redis$"):
            await bench.link.wait_active(subscription)
        assert trio.current_time() == now
        assert bench.link.timeouts == 0


async def test_a_loss_in_the_middle_of_the_wait_is_no_timeout_of_redis(autojump_clock: MockClock) -> None:
    policy = attrs.evolve(POLICY, request_timeout=0.25)
    async with open_link(policy) as bench:
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.handler.wait_for("lost")
        # The first attempt comes later than the patience ends, or is refused.
        with pytest.raises((RedisTimeoutError, OutageError)):
            await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        assert bench.link.timeouts == 0


@pytest.mark.parametrize("ask", ["request", "read"])
async def test_what_is_asked_without_a_connection_is_refused_at_once(ask: str, autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis:
        link = make_link(redis).link
        with pytest.raises(RedisConnectionError, match=r"^no connection to Redis$"):
            await getattr(link, ask)("HGETALL", "run")
    async with open_link() as bench:
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.handler.wait_for("lost")
        with pytest.raises(RedisConnectionError, match=r"^no connection to Redis$"):
            await getattr(bench.link, ask)("HGETALL", "run")
        assert autojump_clock.current_time() == 0


@pytest.mark.parametrize("ask", ["request", "read"])
async def test_while_subscriptions_are_made_again_nothing_is_asked(ask: str, autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
        bench.redis.answers = silent_from_subscribe_on()
        bench.redis.drop_all()
        await bench.redis.wait_attempts(2)
        await wait_all_tasks_blocked()
        told = bench.link.describe()
        assert (told.state, [node.state for node in told.nodes]) == ("connecting", ["connecting"])
        with pytest.raises(RedisConnectionError, match=r"^no connection to Redis$"):
            await getattr(bench.link, ask)("HGETALL", "run")


async def test_a_read_goes_over_a_connection_with_a_name_of_its_own() -> None:
    async with open_link() as bench:
        bench.redis.hashes[b"run"] = {b"a": b"b"}
        sent: list[float] = []
        answer = await bench.link.read("HGETALL", b"run", sending=lambda: sent.append(trio.current_time()))
        assert answer == {b"a": b"b"}
        assert len(sent) == 1
        assert [command[3] for command in bench.redis.asked(b"HELLO")] == [b"statusd", b"statusd-reads"]


async def test_what_was_subscribed_comes_back_with_the_connection_and_only_that(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        kept, given_up = bench.link.subscribe(b"kept"), bench.link.subscribe(b"given up")
        assert bench.link.subscribe(b"kept") is kept
        await bench.link.wait_active(given_up)
        bench.redis.drop_all()
        await bench.handler.wait_for("lost")
        assert (kept.active, given_up.active, bench.link.online) == (False, False, False)
        bench.link.unsubscribe(b"given up")
        late = bench.link.subscribe(b"late")
        await bench.handler.wait_for("online", 2)
        assert (kept.active, late.active, given_up.closed) == (True, True, True)
        assert bench.redis.peer.channels == {b"kept", b"late"}
        gaps = {event[1]: event[2] for event in bench.handler.events if event[0] == "active"}
        assert gaps[b"late"] is None
        assert gaps[b"kept"] == pytest.approx(trio.current_time())


async def test_an_opening_that_takes_too_long_is_counted_with_its_own_patience(autojump_clock: MockClock) -> None:
    policy = attrs.evolve(POLICY, connect_timeout=3.0, request_timeout=0.5)
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        redis.holding = True
        bench = make_link(redis, policy=policy)
        nursery.start_soon(bench.link.run)
        await trio.sleep(3.25)
        (line,) = bench.logbook.said("redis request timed out")
        assert (line["level"], line["command"], line["seconds"]) == ("warn", "HELLO", 3.0)
        assert bench.link.timeouts == 1
        nursery.cancel_scope.cancel()


async def test_a_request_that_has_no_answer_is_told_with_the_patience_that_it_had(autojump_clock: MockClock) -> None:
    async with open_link(attrs.evolve(POLICY, connect_timeout=3.0, request_timeout=0.5)) as bench:
        bench.redis.holding = True
        with pytest.raises(RedisTimeoutError, match=r"^no answer to HGETALL for 0\.5s$"):
            await bench.link.request("HGETALL", "run")
        (line,) = bench.logbook.said("redis request timed out")
        assert (line["level"], line["command"], line["seconds"]) == ("warn", "HGETALL", 0.5)


async def test_a_channel_that_is_given_back_without_an_answer_is_a_timeout_that_nobody_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with open_link(attrs.evolve(POLICY, connect_timeout=3.0, request_timeout=0.5)) as bench:
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        bench.redis.holding = True
        bench.link.unsubscribe(CHANNEL)
        await bench.handler.wait_for("lost")
        (line,) = bench.logbook.said("redis request timed out")
        assert (line["command"], line["seconds"], bench.link.timeouts) == ("UNSUBSCRIBE", 0.5, 1)


async def test_what_is_asked_everywhere_is_answered_by_the_one_server() -> None:
    async with open_link() as bench:
        assert await bench.link.request_everywhere("PING") == {"redis.test:6379": b"PONG"}


async def test_after_the_end_nobody_waits_for_it_to_be_online() -> None:
    async with open_link() as bench:
        await bench.link.wait_online()
    with trio.move_on_after(0) as scope:
        await bench.link.wait_online()
    assert scope.cancelled_caught, "it will not be online again by itself"


async def test_reads_go_to_the_address_at_which_the_subscribing_connection_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have several, and what is read must be what was notified of."""
    asked: list[tuple[object, ...]] = []
    really_open = Opener.open

    async def remember(opener: Opener, *args: Any, server: RedisURL) -> Opened:
        del server
        asked.append(args)
        return attrs.evolve(await really_open(opener, args[0]), address="192.0.2.7")

    monkeypatch.setattr(Opener, "open", remember)
    async with open_link() as bench:
        await bench.link.read("HGETALL", b"run")
    assert asked == [("statusd",), ("statusd-reads", "192.0.2.7")]


@pytest.mark.parametrize("what", ["on_exhausted", "on_lost", "on_online"])
async def test_a_handler_that_raises_is_told_by_its_name(
    what: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_args: object) -> None:
        raise RuntimeError("a bug")

    async with open_link(attrs.evolve(POLICY, max_retries=1)) as bench:
        monkeypatch.setattr(bench.handler, what, raises)
        bench.redis.unreachable = REFUSED
        bench.redis.drop_all()
        await bench.redis.wait_attempts(3)
        bench.redis.unreachable = None
        await bench.link.wait_online()
        await wait_all_tasks_blocked()
        (line,) = bench.logbook.said("redis handler failed")
        assert (line["level"], line["handler"]) == ("error", what)
        assert "a bug" in line["traceback"]
        assert bench.link.online
