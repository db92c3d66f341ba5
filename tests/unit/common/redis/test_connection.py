"""One live connection: order, pipelining, cancellation, and how it ends. See test_redis_stall for its clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from redis.exceptions import NoPermissionError, ResponseError
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from common.redis.errors import (
    ProtocolError,
    RedisConnectionError,
)
from common.redis.resp import encode
from common.redis.subscription import Subscription
from tests.support.connections import open_connection
from tests.support.scripted_redis import message, push

if TYPE_CHECKING:
    from common.redis.connection import Batch


# -- order ------------------------------------------------------------------------------------------------------------


async def test_requests_queued_together_are_one_write_and_are_answered_in_their_order() -> None:
    async with open_connection() as bench:
        replies = [bench.connection.request("GET", i) for i in range(3)]
        assert await bench.heard() == encode("GET", 0) + encode("GET", 1) + encode("GET", 2)
        await bench.say(b"+a\r\n_\r\n-WRONGTYPE no\r\n")
        assert [reply.value for reply in replies] == [b"a", None, None]
        assert type(replies[2].error) is ResponseError


async def test_five_thousand_subscriptions_are_a_handful_of_writes() -> None:
    async with open_connection(lockstep_stream_pair()) as bench:
        subscriptions = [Subscription(b"channel-%d" % i) for i in range(5000)]
        for subscription in subscriptions:
            bench.connection.subscribe(subscription)
        # On a lockstep stream a read takes exactly what one write gives.
        commands = b"".join(encode("SUBSCRIBE", s.channel) for s in subscriptions)
        for start in range(0, len(commands), 65536):
            assert await bench.heard() == commands[start : start + 65536]
        await bench.say(b"".join(push(b"subscribe", s.channel, i) for i, s in enumerate(subscriptions)))
        assert all(subscription.active for subscription in subscriptions)


async def test_a_notification_before_a_reply_is_handed_on_before_it() -> None:
    order: list[object] = []

    async def on_messages(batch: Batch, _read_at: float) -> None:
        await wait_all_tasks_blocked()
        order.append(batch)

    async with open_connection(on_messages=on_messages) as bench:
        await bench.subscribe(b"c")
        reply = bench.connection.request("HGETALL", "run")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                await reply.wait()
                order.append(reply.value)

            await bench.server.send_all(message(b"c", b"1") + message(b"c", b"2") + b"%0\r\n" + message(b"c", b"3"))
    assert order == [{b"c": [b"1", b"2"]}, {}]


async def test_one_read_is_one_batch_with_every_channel_in_order_and_the_time_of_the_read(
    mock_clock: MockClock,
) -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"a")
        await bench.subscribe(b"b")
        mock_clock.jump(0.5)
        await bench.say(message(b"a", b"1") + message(b"b", b"2") + message(b"a", b"3") + message(b"other", b"4"))
        assert bench.handler.events[-1] == ("messages", {b"a": [b"1", b"3"], b"b": [b"2"]})
        assert bench.handler.read_at == [0.5]


async def test_messages_count_only_between_the_acknowledgement_and_the_unsubscribe() -> None:
    async with open_connection() as bench:
        first = Subscription(b"c")
        bench.connection.subscribe(first)
        await bench.say(message(b"c", b"early"), push(b"subscribe", b"c", 1) + message(b"c", b"1"))
        bench.connection.unsubscribe(first)
        first.close()
        second = Subscription(b"c")
        bench.connection.subscribe(second)
        await bench.say(
            message(b"c", b"tail") + push(b"unsubscribe", b"c", 0),
            message(b"c", b"stray") + push(b"subscribe", b"c", 1) + message(b"c", b"2"),
        )
        assert bench.handler.heard == {b"c": [b"1", b"2"]}
        assert (first.active, second.active) == (False, True)


async def test_an_acknowledgement_for_one_who_left_meanwhile_activates_nobody() -> None:
    async with open_connection() as bench:
        gone = Subscription(b"c")
        bench.connection.subscribe(gone)
        bench.connection.unsubscribe(gone)
        gone.close()
        await bench.say(push(b"subscribe", b"c", 1) + message(b"c", b"1") + push(b"unsubscribe", b"c", 0))
        assert bench.handler.events == []
        assert bench.connection.error is None


async def test_a_refusal_concerns_its_channel_only_and_needs_no_unsubscribe() -> None:
    async with open_connection() as bench:
        subscriptions = [Subscription(channel) for channel in (b"a", b"b", b"c")]
        for subscription in subscriptions:
            bench.connection.subscribe(subscription)
        await bench.heard()
        await bench.say(push(b"subscribe", b"a", 1) + b"-NOPERM no\r\n" + push(b"subscribe", b"c", 2))
        assert [s.active for s in subscriptions] == [True, False, True]
        assert type(subscriptions[1].refused) is NoPermissionError
        assert [event[:2] for event in bench.handler.events] == [("active", b"a"), ("refused", b"b"), ("active", b"c")]
        bench.connection.unsubscribe(subscriptions[1])
        bench.connection.request("PING")
        assert await bench.heard() == encode("PING")


async def test_a_refusal_for_one_who_left_meanwhile_is_nobodys_concern() -> None:
    async with open_connection() as bench:
        gone, again = Subscription(b"c"), Subscription(b"c")
        bench.connection.subscribe(gone)
        bench.connection.unsubscribe(gone)
        gone.close()
        bench.connection.subscribe(again)
        await bench.say(b"-NOPERM no\r\n" + push(b"unsubscribe", b"c", 0) + push(b"subscribe", b"c", 1))
        assert bench.handler.events == [("active", b"c", None)]
        assert (gone.refused, again.active) == (None, True)


@pytest.mark.parametrize(
    "said",
    [
        b"+OK\r\n",
        push(b"subscribe", b"x", 1),
        push(b"unsubscribe", b"c", 0),
        push(b"subscribe"),
        b">2\r\n$7\r\nmessage\r\n$1\r\nc\r\n" + b"+OK\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n",
        b">3\r\n$7\r\nmessage\r\n*0\r\n$1\r\nx\r\n",
        b"%0\r\n",
        b"?what\r\n",
    ],
)
async def test_what_is_out_of_turn_ends_the_connection_while_a_subscription_waits(said: bytes) -> None:
    async with open_connection() as bench:
        bench.connection.subscribe(Subscription(b"c"))
        await bench.say(said)
        assert isinstance(await bench.end(), ProtocolError)


@pytest.mark.parametrize("said", [b"+OK\r\n", b"-ERR no\r\n", push(b"subscribe", b"c", 1), push(b"unsubscribe", b"c")])
async def test_an_answer_that_nobody_asked_for_ends_the_connection(said: bytes) -> None:
    async with open_connection() as bench:
        await bench.say(said)
        assert isinstance(await bench.end(), ProtocolError)


@pytest.mark.parametrize("said", [push(b"invalidate", b"k"), push(b"pmessage", b"p", b"c", b"x"), b">0\r\n"])
async def test_a_push_of_another_kind_is_ignored(said: bytes) -> None:
    async with open_connection() as bench:
        reply = bench.connection.request("PING")
        await bench.say(said + b"+PONG\r\n")
        assert reply.value == b"PONG"
        assert len(bench.logbook.said("redis push ignored")) == 1


async def test_an_array_reply_that_looks_like_a_push_is_a_reply() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c")
        reply = bench.connection.request("LRANGE", "l", 0, -1)
        await bench.say(message(b"c", b"x").replace(b">", b"*", 1))
        assert reply.value == [b"message", b"c", b"x"]
        assert bench.handler.heard == {}


# -- ends -------------------------------------------------------------------------------------------------------------


async def test_messages_that_came_whole_before_broken_bytes_are_handed_on() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c")
        await bench.say(message(b"c", b"1") + b"@\r\n")
        assert isinstance(await bench.end(), ProtocolError)
        assert bench.handler.heard == {b"c": [b"1"]}


@pytest.mark.parametrize(
    ("said", "words"), [(b"", "closed by Redis$"), (b"$5\r\nab", "closed by Redis in the middle of a reply")]
)
async def test_the_end_of_the_stream_ends_the_connection_and_fails_what_waits(said: bytes, words: str) -> None:
    async with open_connection() as bench:
        first, second = bench.connection.request("GET", "a"), bench.connection.request("GET", "b")
        await bench.say(said)
        await bench.server.aclose()
        with pytest.raises(RedisConnectionError, match=words):
            raise await bench.end()
        for reply in (first, second, bench.connection.request("GET", "c")):
            assert reply.done
            assert type(reply.error) is RedisConnectionError
        assert first.error is not second.error


async def test_a_broken_stream_is_a_lost_connection_not_a_bug() -> None:
    async with open_connection() as bench:
        await bench.connection._stream.aclose()
        bench.connection.request("PING")
        assert type(await bench.end()) is RedisConnectionError
        assert bench.logbook.at_least("error") == []


async def test_a_reply_over_the_limit_ends_the_connection() -> None:
    async with open_connection(reply_limit=1000) as bench:
        bench.connection.request("GET", "a")
        await bench.say(b"$5000\r\n", b"x" * 1000)
        with pytest.raises(ProtocolError, match="larger than 1000 bytes"):
            raise await bench.end()


async def test_twenty_megabytes_in_one_message_are_handed_on() -> None:
    payload = b"x" * (20 << 20)
    async with open_connection(reply_limit=32 << 20) as bench:
        await bench.subscribe(b"c")
        await bench.say(message(b"c", payload) + message(b"c", b"after"))
        assert bench.handler.heard == {b"c": [payload, b"after"]}


async def test_a_handler_that_raises_is_logged_with_its_traceback_and_ends_nothing() -> None:
    async def on_messages(_batch: Batch, _read_at: float) -> None:
        raise RuntimeError("a bug")

    async with open_connection(on_messages=on_messages) as bench:
        await bench.subscribe(b"c")
        reply = bench.connection.request("PING")
        await bench.say(message(b"c", b"1") + b"+PONG\r\n")
        assert reply.value == b"PONG"
        (line,) = bench.logbook.said("redis message handler failed")
        assert "a bug" in line["traceback"]


async def test_what_was_read_is_handed_on_to_the_last_even_if_the_connection_ends_meanwhile() -> None:
    handed_on: list[Batch] = []

    async def on_messages(batch: Batch, _read_at: float) -> None:
        bench.connection.fail(RedisConnectionError("broken pipe"))
        await wait_all_tasks_blocked()
        handed_on.append(batch)

    async with open_connection(on_messages=on_messages) as bench:
        await bench.subscribe(b"c")
        asked = bench.connection.request("GET", "k")
        await bench.say(message(b"c", b"1") + b"+v\r\n" + message(b"c", b"2"))
        assert str(await bench.end()) == "broken pipe"
        assert handed_on == [{b"c": [b"1"]}, {b"c": [b"2"]}]
        assert asked.value == b"v"


async def test_broken_bytes_behind_an_end_that_waits_for_the_handler_do_not_keep_the_connection_alive(
    autojump_clock: MockClock,
) -> None:
    async def on_messages(_batch: Batch, _read_at: float) -> None:
        bench.connection.fail(RedisConnectionError("broken pipe"))
        await wait_all_tasks_blocked()

    async with open_connection(on_messages=on_messages) as bench:
        await bench.subscribe(b"c")
        bench.connection.request("GET", "k")
        await bench.say(message(b"c", b"1") + b"+v\r\n" + b"@\r\n")
        assert str(await bench.end()) == "broken pipe"


async def test_a_caller_that_is_cancelled_leaves_the_order_of_answers_alone() -> None:
    async with open_connection() as bench:
        abandoned, kept = bench.connection.request("GET", "a"), bench.connection.request("GET", "b")
        with trio.CancelScope() as scope:
            scope.cancel()
            await abandoned.wait()
        assert scope.cancelled_caught
        await bench.say(b"+a\r\n+b\r\n")
        assert kept.value == b"b"


async def test_a_reply_where_a_push_must_come_ends_it() -> None:
    async with open_connection() as bench:
        bench.connection.subscribe(Subscription(b"c"))
        await bench.say(b"+OK\r\n")
        assert str(await bench.end()) == "a plain reply to SUBSCRIBE"


async def test_one_that_has_ended_takes_nothing_more_and_says_so() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c")
        assert repr(bench.connection) == "<Connection live, 1 active, 0 expected>"
        bench.connection.fail(RedisConnectionError("broken pipe"))
        bench.connection.subscribe(Subscription(b"d"))
        await bench.end()
        assert repr(bench.connection).startswith("<Connection ended: broken pipe, ")
