"""The link while Redis is well: subscriptions, requests, and what callers may do in any order."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.redis.errors import (
    NoPermissionError,
    RedisConnectionError,
    RedisTimeoutError,
    ResponseError,
)
from tests.support.links import POLICY, make_link, open_link
from tests.support.scripted_redis import (
    Command,
    Peer,
    bulk,
    open_scripted_redis,
    push,
    silent_from_subscribe_on,
)

CHANNEL = b"run:status"


async def test_it_introduces_itself_and_says_so_when_it_is_online() -> None:
    async with open_link() as bench:
        assert bench.redis.commands == [[b"HELLO", b"3", b"SETNAME", b"statusd"], [b"SELECT", b"2"], [b"PING"]]
        assert bench.link.online
        assert bench.handler.events == [("online", None)]
        assert (bench.link.reconnects, bench.link.timeouts) == (1, 0)
        (line,) = bench.logbook.said("redis online")
        assert line["attempt"] == 1
        state = bench.link.describe()
        assert (state.state, state.attempt, state.subscriptions) == ("online", 1, 0)
        assert state.url == "redis://redis.test:6379/2"


async def test_what_was_subscribed_before_the_start_is_active_when_it_is_online() -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis)
        subscription = bench.link.subscribe(CHANNEL)
        assert (bench.link.online, bench.link.describe().state) == (False, "idle")
        await nursery.start(bench.link.run)
        assert subscription.active
        assert bench.handler.events == [("active", CHANNEL, None), ("online", None)]
        nursery.cancel_scope.cancel()


async def test_after_run_is_cancelled_nothing_is_online_and_requests_fail() -> None:
    async with open_link() as bench:
        bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
    assert not bench.link.online
    assert bench.link.describe().state == "stopped"
    assert bench.redis.peer.closed
    with pytest.raises(RedisConnectionError):
        await bench.link.request("PING")


async def test_subscribing_twice_is_one_subscription_at_redis() -> None:
    async with open_link() as bench:
        first = bench.link.subscribe(CHANNEL)
        assert bench.link.subscribe(CHANNEL) is first
        await bench.link.wait_active(first)
        assert bench.redis.asked(b"SUBSCRIBE") == [[b"SUBSCRIBE", CHANNEL]]
        assert bench.redis.publish(CHANNEL, b"hello") == 1
        await bench.handler.wait_for("messages")
        assert bench.handler.heard == {CHANNEL: [b"hello"]}


async def test_unsubscribing_gives_back_once_and_hands_on_nothing_more() -> None:
    async with open_link() as bench:
        subscription = bench.link.subscribe(CHANNEL)
        await bench.link.wait_active(subscription)
        bench.link.unsubscribe(CHANNEL)
        bench.link.unsubscribe(CHANNEL)
        bench.redis.publish(CHANNEL, b"too late")
        await wait_all_tasks_blocked()
        assert (subscription.closed, subscription.active) == (True, False)
        assert bench.redis.asked(b"UNSUBSCRIBE") == [[b"UNSUBSCRIBE", CHANNEL]]
        assert bench.redis.subscribers(CHANNEL) == 0
        assert bench.handler.heard == {}


async def test_unsubscribe_all_waits_until_redis_has_taken_everything_back() -> None:
    async with open_link() as bench:
        subscriptions = [bench.link.subscribe(b"c%d" % i) for i in range(100)]
        await wait_all_tasks_blocked()
        await bench.link.unsubscribe_all()
        assert not any(bench.redis.subscribers(s.channel) for s in subscriptions)
        assert all(s.closed for s in subscriptions)
        assert bench.link.describe().subscriptions == 0


async def test_unsubscribe_all_is_bounded_and_counted_once_when_redis_is_silent(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
        bench.redis.holding = True
        await bench.link.unsubscribe_all()
        await wait_all_tasks_blocked()
        assert autojump_clock.current_time() == 1.0
        assert bench.link.timeouts == 1
        assert [line["command"] for line in bench.logbook.said("redis request timed out")] == ["UNSUBSCRIBE"]


async def test_unsubscribe_all_without_a_connection_returns_at_once() -> None:
    async with open_scripted_redis() as redis:
        bench = make_link(redis)
        subscription = bench.link.subscribe(CHANNEL)
        await bench.link.unsubscribe_all()
        assert subscription.closed


async def test_wait_active_raises_the_refusal_anew_for_each_waiter() -> None:
    async with open_link() as bench:
        bench.redis.denied = {CHANNEL}
        subscription = bench.link.subscribe(CHANNEL)
        errors = []
        for _ in range(2):
            with pytest.raises(NoPermissionError, match="NOPERM") as caught:
                await bench.link.wait_active(subscription)
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert bench.link.timeouts == 0
        ((_, channel, error),) = [event for event in bench.handler.events if event[0] == "refused"]
        assert (channel, type(error)) == (CHANNEL, NoPermissionError)


async def test_one_refused_topic_of_three_concerns_nobody_else() -> None:
    async with open_link() as bench:
        bench.redis.denied = {b"b"}
        a, b, c = (bench.link.subscribe(channel) for channel in (b"a", b"b", b"c"))
        await bench.link.wait_active(c)
        assert (a.active, b.active, c.active) == (True, False, True)
        assert [event[1] for event in bench.handler.events if event[0] == "refused"] == [b"b"]
        bench.redis.publish(b"a", b"1")
        bench.redis.publish(b"c", b"2")
        await wait_all_tasks_blocked()
        assert bench.handler.heard == {b"a": [b"1"], b"c": [b"2"]}


async def test_a_refused_topic_is_tried_again_at_the_next_reconnect(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.redis.denied = {CHANNEL}
        subscription = bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
        assert bench.handler.count("refused") == 1
        bench.redis.denied.clear()
        bench.redis.drop_all()
        await bench.handler.wait_for("online", 2)
        assert subscription.active
        assert subscription.refused is None
        # It had never been heard before: there is no gap in it.
        assert ("active", CHANNEL, None) in bench.handler.events
        assert autojump_clock.current_time() < 1


async def test_wait_active_gives_up_after_the_timeout_and_is_counted_and_logged_once(
    autojump_clock: MockClock,
) -> None:
    async with open_link() as bench:
        bench.redis.holding = True
        subscription = bench.link.subscribe(CHANNEL)
        with pytest.raises(RedisTimeoutError, match="no answer to SUBSCRIBE for 1s"):
            await bench.link.wait_active(subscription)
        await wait_all_tasks_blocked()
        assert autojump_clock.current_time() == 1.0
        assert bench.link.timeouts == 1
        (line,) = bench.logbook.said("redis request timed out")
        assert (line["command"], line["seconds"]) == ("SUBSCRIBE", 1.0)


async def test_wait_active_while_offline_times_out_but_no_request_did(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis:
        bench = make_link(redis)
        with pytest.raises(RedisTimeoutError, match=r"^no connection to Redis$"):
            await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        assert autojump_clock.current_time() == 1.0
        assert bench.link.timeouts == 0


async def test_wait_active_ends_at_once_when_the_subscription_is_given_up(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis)
        subscription = bench.link.subscribe(CHANNEL)
        nursery.start_soon(_unsubscribe_when_blocked, bench.link.unsubscribe)
        with pytest.raises(RedisConnectionError, match="unsubscribed"):
            await bench.link.wait_active(subscription)
        assert autojump_clock.current_time() == 0


async def _unsubscribe_when_blocked(unsubscribe: object) -> None:
    await wait_all_tasks_blocked()
    assert callable(unsubscribe)
    unsubscribe(CHANNEL)


async def test_a_request_returns_what_redis_says() -> None:
    async with open_link() as bench:
        bench.redis.hashes[b"run"] = {b"attrs:has_sbs": b"true"}
        assert await bench.link.request("HGETALL", b"run") == {b"attrs:has_sbs": b"true"}
        assert await bench.link.request(b"HGETALL", "none") == {}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"-WRONGTYPE Operation against a key\r\n", ResponseError),
        (b"-NOPERM no permissions to run\r\n", NoPermissionError),
    ],
)
async def test_a_request_that_redis_refuses_raises_its_error_and_nothing_else_happens(
    answer: bytes, kind: type[ResponseError]
) -> None:
    async with open_link() as bench:
        bench.redis.answers = lambda _peer, command: answer if command[0] == b"HGETALL" else None
        with pytest.raises(kind, match=r"^(WRONGTYPE|NOPERM)"):
            await bench.link.request("HGETALL", "run")
        assert await bench.link.request("PING") == b"PONG"


async def test_a_request_without_an_answer_ends_by_its_own_clock_and_leaves_a_living_connection_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_link() as bench:
        subscription = bench.link.subscribe(CHANNEL)
        await bench.link.wait_active(subscription)
        bench.redis.holding = True
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def burst() -> None:
                for i in range(50):
                    await trio.sleep(0.1)
                    bench.redis.publish(CHANNEL, b"%d" % i)

            with pytest.raises(RedisTimeoutError, match="no answer to HGETALL for 1s"):
                await bench.link.request("HGETALL", "run")
            assert autojump_clock.current_time() == 1.0
        bench.redis.release()
        # The late answer was taken in its turn: the next request gets its own.
        bench.redis.hashes[b"run"] = {b"a": b"b"}
        assert await bench.link.request("HGETALL", "run") == {b"a": b"b"}
        assert bench.handler.heard[CHANNEL] == [b"%d" % i for i in range(50)]
        assert (bench.link.timeouts, bench.link.reconnects) == (1, 1)
        assert len(bench.logbook.said("redis request timed out")) == 1


async def test_an_answer_that_arrived_while_this_process_had_no_time_is_no_timeout(mock_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.redis.holding = True
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await bench.link.request("GET", "k"))

        # Who runs first when everything is late is trio's choice, made anew each time.
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                mock_clock.jump(1.1)
                bench.redis.peer.send(b"+v\r\n")
        assert answers == [b"v"] * 20
        assert bench.link.timeouts == 0


async def test_a_request_that_meets_a_stall_is_counted_once(autojump_clock: MockClock) -> None:
    async with open_link() as bench:
        bench.redis.holding = True
        with pytest.raises(RedisTimeoutError):
            await bench.link.request("HGETALL", "run")
        await wait_all_tasks_blocked()
        assert autojump_clock.current_time() == 1.0
        assert (bench.link.timeouts, bench.handler.count("lost")) == (1, 1)


async def test_a_request_fails_when_the_connection_is_lost_under_it() -> None:
    async with open_link() as bench, trio.open_nursery() as nursery:
        bench.redis.holding = True

        @nursery.start_soon
        async def drop() -> None:
            await wait_all_tasks_blocked()
            bench.redis.drop_all()

        with pytest.raises(RedisConnectionError, match="closed by Redis"):
            await bench.link.request("HGETALL", "run")
        with pytest.raises(RedisConnectionError, match="no connection"):
            await bench.link.request("HGETALL", "run")
        assert bench.link.timeouts == 0


async def test_cancelled_callers_never_shift_the_answers_of_others() -> None:
    async with open_link() as bench:
        bench.redis.answers = _echo
        bench.redis.holding = True
        answers: dict[int, object] = {}

        async def ask(number: int, scope: trio.CancelScope) -> None:
            with scope:
                answers[number] = await bench.link.request("ECHO", number)

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(20)]
            for number, scope in enumerate(scopes):
                nursery.start_soon(ask, number, scope)
            await wait_all_tasks_blocked()
            for scope in scopes[::3]:
                scope.cancel()
            await wait_all_tasks_blocked()
            bench.redis.release()
        assert answers == {number: b"%d" % number for number in range(20) if number % 3}


def _echo(_peer: Peer, command: Command) -> bytes | None:
    return bulk(command[1]) if command[0] == b"ECHO" else None


async def test_a_handler_that_raises_everywhere_does_not_end_the_link(autojump_clock: MockClock) -> None:
    async with open_scripted_redis() as redis, trio.open_nursery() as nursery:
        bench = make_link(redis, listens=_Faulty())
        redis.denied = {b"b"}
        bench.link.subscribe(b"a")
        bench.link.subscribe(b"b")
        await nursery.start(bench.link.run)
        redis.drop_all()
        await wait_all_tasks_blocked()
        await bench.link.wait_online()
        redis.publish(b"a", b"1")
        await wait_all_tasks_blocked()
        assert bench.link.online
        assert len(bench.logbook.said("redis message handler failed")) == 1
        assert [line["handler"] for line in bench.logbook.said("redis handler failed")] == [
            "on_active",
            "on_refused",
            "on_online",
            "on_lost",
            "on_active",
            "on_refused",
            "on_online",
        ]
        assert all("a bug" in line["traceback"] for line in bench.logbook.said("redis handler failed"))
        assert autojump_clock.current_time() < 1
        nursery.cancel_scope.cancel()


class _Faulty:
    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:  # noqa: ARG002 - a handler
        raise RuntimeError("a bug")

    def on_active(self, channel: bytes, gap: float | None) -> None:  # noqa: ARG002 - a handler
        raise RuntimeError("a bug")

    def on_refused(self, channel: bytes, error: Exception) -> None:  # noqa: ARG002 - a handler
        raise RuntimeError("a bug")

    def on_exhausted(self) -> None:
        raise RuntimeError("a bug")

    def on_lost(self) -> None:
        raise RuntimeError("a bug")

    def on_online(self, gap: float | None) -> None:  # noqa: ARG002 - a handler
        raise RuntimeError("a bug")


async def test_a_resubscription_that_is_never_answered_is_given_up_even_while_bytes_come(
    autojump_clock: MockClock,
) -> None:
    async with open_link() as bench, trio.open_nursery() as nursery:
        bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
        bench.redis.answers = silent_from_subscribe_on()
        bench.redis.drop_all()

        @nursery.start_soon
        async def dribble() -> None:
            while True:
                await trio.sleep(0.5)
                bench.redis.peer.send(push(b"invalidate"))

        with trio.fail_after(40):
            await bench.redis.wait_attempts(3)
        (line,) = bench.logbook.said("redis unavailable, retrying")
        assert line["error"] == "the subscriptions are not answered"
        assert POLICY.request_timeout * 30 < autojump_clock.current_time() < 35
        nursery.cancel_scope.cancel()
