"""Shard channels on one connection: their messages, and their end, whoever wished it, however the bytes are cut."""

from __future__ import annotations

import itertools
from typing import Final

import pytest

from common.redis.errors import MovedError, ProtocolError
from common.redis.resp import encode
from common.redis.subscription import CLASSIC, SHARD, Subscription
from tests.support.connections import ConnectionBench, open_connection
from tests.support.scripted_redis import message, push

MOVED: Final = b"-MOVED 7365 127.0.0.1:7001\r\n"
ENDED: Final = push(b"sunsubscribe", b"c", 0)
FAREWELL: Final = encode("SUNSUBSCRIBE", b"c") + encode("PING")


def smessage(channel: bytes, payload: bytes) -> bytes:
    """What a subscriber of a shard channel gets for one publish."""
    return push(b"smessage", channel, payload)


async def say_cut(bench: ConnectionBench, data: bytes, at: int) -> None:
    """Say `data` in two reads, or one byte a read where `at` is 0."""
    await bench.say(*([data[i : i + 1] for i in range(len(data))] if at == 0 else [data[:at], data[at:]]))


async def test_messages_of_both_kinds_are_one_batch_in_their_order() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c", SHARD)
        await bench.subscribe(b"d", CLASSIC)
        await bench.say(smessage(b"c", b"1") + message(b"d", b"2") + smessage(b"c", b"3"))
        assert bench.handler.events[-1] == ("messages", {b"c": [b"1", b"3"], b"d": [b"2"]})


async def test_a_channel_is_heard_in_the_kind_that_was_subscribed() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c", SHARD)
        await bench.subscribe(b"d", CLASSIC)
        await bench.say(message(b"c", b"1") + smessage(b"d", b"2") + smessage(b"other", b"3"))
        assert bench.handler.heard == {}


async def test_an_end_that_redis_wished_is_told_after_the_messages_before_it() -> None:
    async with open_connection() as bench:
        await bench.subscribe(b"c", SHARD)
        await bench.say(smessage(b"c", b"1") + ENDED + smessage(b"c", b"stray"))
        assert bench.handler.events == [("active", b"c", None), ("messages", {b"c": [b"1"]}), ("dropped", b"c")]
        assert bench.connection.error is None


@pytest.mark.parametrize("said", [ENDED, push(b"sunsubscribe"), push(b"sunsubscribe", 1, 2)])
async def test_an_end_of_what_nobody_hears_is_nobodys_concern(said: bytes) -> None:
    async with open_connection() as bench:
        reply = bench.connection.request("PING")
        await bench.say(said + b"+PONG\r\n")
        assert reply.value == b"PONG"
        assert bench.handler.events == []


async def test_a_subscription_that_is_moved_is_refused_with_the_place() -> None:
    async with open_connection() as bench:
        subscription = Subscription(b"c", SHARD)
        bench.connection.subscribe(subscription)
        assert await bench.heard() == encode("SSUBSCRIBE", b"c")
        await bench.say(MOVED)
        assert isinstance(subscription.refused, MovedError)
        assert (subscription.refused.host, subscription.refused.port) == ("127.0.0.1", 7001)


async def test_an_unsubscribed_channel_is_not_heard_any_more_whatever_is_on_its_way() -> None:
    async with open_connection() as bench:
        subscription = await bench.subscribe(b"c", SHARD)
        bench.connection.unsubscribe(subscription)
        subscription.close()
        assert await bench.heard() == FAREWELL
        await bench.say(smessage(b"c", b"tail") + ENDED + b"+PONG\r\n")
        assert bench.handler.events == [("active", b"c", None)]
        assert bench.connection.error is None


# What a server may say to our SUNSUBSCRIBE when its own end of the channel crosses it: nothing of the sort; its own end
# and then a refusal, for it has the slot no longer; its own end and another one.
_CROSSED: Final = {
    "only ours": ENDED,
    "theirs, and ours is moved": ENDED + MOVED,
    "theirs, and ours is down": ENDED + b"-CLUSTERDOWN Hash slot not served\r\n",
    "theirs, then ours": ENDED + ENDED,
    "only a refusal": MOVED,
}


@pytest.mark.parametrize("crossed", _CROSSED.values(), ids=_CROSSED)
async def test_an_end_that_crosses_our_own_confuses_no_answer_however_it_is_cut(crossed: bytes) -> None:
    data = smessage(b"c", b"tail") + crossed + b"+PONG\r\n" + push(b"ssubscribe", b"d", 1) + b"$2\r\nhi\r\n" + MOVED
    for at in range(len(data)):
        async with open_connection() as bench:
            subscription = await bench.subscribe(b"c", SHARD)
            bench.connection.unsubscribe(subscription)
            subscription.close()
            other, again = Subscription(b"d", SHARD), Subscription(b"c", SHARD)
            bench.connection.subscribe(other)
            reply = bench.connection.request("GET", "k")
            bench.connection.subscribe(again)
            await say_cut(bench, data, at)
            assert bench.connection.error is None, f"cut at {at}"
            assert other.active, f"cut at {at}"
            assert reply.value == b"hi", f"cut at {at}"
            assert isinstance(again.refused, MovedError), f"cut at {at}"
            assert [event[:2] for event in bench.handler.events] == [
                ("active", b"c"),
                ("active", b"d"),
                ("refused", b"c"),
            ]


async def test_what_is_subscribed_anew_behind_the_farewell_is_active_and_can_be_ended_again() -> None:
    for crossing, cut in itertools.product([b"", ENDED], [0, 1, 30]):
        async with open_connection() as bench:
            first = await bench.subscribe(b"c", SHARD)
            bench.connection.unsubscribe(first)
            first.close()
            second = Subscription(b"c", SHARD)
            bench.connection.subscribe(second)
            await say_cut(bench, crossing + ENDED + b"+PONG\r\n" + push(b"ssubscribe", b"c", 1), cut)
            await bench.say(smessage(b"c", b"1") + ENDED)
            assert bench.handler.events[1:] == [
                ("active", b"c", None),
                ("messages", {b"c": [b"1"]}),
                ("dropped", b"c"),
            ]
            assert (first.active, bench.connection.error) == (False, None)


async def test_a_farewell_that_is_not_answered_is_a_stall() -> None:
    async with open_connection() as bench:
        subscription = await bench.subscribe(b"c", SHARD)
        bench.connection.unsubscribe(subscription)
        await bench.say(ENDED)
        ended = await bench.end()
        assert str(ended) == "no answer to SUNSUBSCRIBE for 1s"


@pytest.mark.parametrize("said", [push(b"ssubscribe", b"x", 1), push(b"subscribe", b"c", 1), b"+OK\r\n"])
async def test_an_acknowledgement_of_another_kind_or_channel_ends_the_connection(said: bytes) -> None:
    async with open_connection() as bench:
        bench.connection.subscribe(Subscription(b"c", SHARD))
        await bench.say(said)
        assert isinstance(await bench.end(), ProtocolError)
