"""Whole conversations through the server, a scripted Redis behind it: nothing lost, outages (common/serving)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from common.web.accepted import LINGER
from statusd.daemon import STATUSD
from tests.support.client import HANGUP_PAYLOAD, Client, handshake
from tests.support.conversation import TRANSPORTS
from tests.support.scripted_redis import ScriptedRedis, message
from tests.support.service import CHANNEL, PATH, Running, open_service, seldom_asking, status

if TYPE_CHECKING:
    from trio.testing import MockClock


def numbered(start: int, stop: int) -> list[bytes]:
    return [status(b"%d" % number) for number in range(start, stop)]


# -- nothing lost ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_forty_publishes_after_forty_handshakes_reach_everybody(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_service() as running:
        clients = [await running.open(transport=transport) for _ in range(40)]
        for number in range(40):
            assert running.redis.publish(CHANNEL, b"%d" % number) == 1
        for client in clients:
            await client.wait(lambda client: len(client.messages) == 40)
            assert client.messages == numbered(0, 40)
        assert running.redis.asked(b"SUBSCRIBE") == [[b"SUBSCRIBE", CHANNEL]]


@pytest.mark.parametrize("seed", range(8))
async def test_handshakes_that_race_publishes_miss_nothing_after_their_101(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    total = 300
    published = 0
    known: dict[Client, int] = {}

    async def publish(running: Running) -> None:
        nonlocal published
        for number in range(total):
            running.redis.publish(CHANNEL, b"%d" % number)
            published += 1
            for _ in range(rng.choice([0, 0, 1, 2, 7])):
                await trio.lowlevel.checkpoint()

    async def visit(running: Running) -> None:
        for _ in range(rng.randrange(120)):
            await trio.lowlevel.checkpoint()
        client = await running.open(transport=rng.choice(TRANSPORTS))
        known[client] = published

    async with open_service() as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, running)
            for _ in range(30):
                nursery.start_soon(visit, running)
        running.redis.publish(CHANNEL, b"last")
        for client, count in known.items():
            await client.wait(lambda client: client.messages[-1:] == [status(b"last")])
            first = total - (len(client.messages) - 1)
            assert client.messages == [*numbered(first, total), status(b"last")]
            assert first <= count


async def test_what_comes_with_the_acknowledgement_follows_the_101(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        running.redis.holding = True
        client = running.arrive()
        await client.send_raw(handshake(PATH) + b"\x81\x80mask")
        await trio.testing.wait_all_tasks_blocked()
        assert client.head == b""
        running.redis.release()
        running.redis.peer.send(message(CHANNEL, b"at once"))
        await client.wait(lambda client: bool(client.messages))
        assert client.status == 101
        assert client.messages == [status(b"at once")]
        assert running.service.counters.client_messages == {"malformed": 1}, "what came behind the head was read"


async def test_a_channel_idle_for_a_virtual_day_delivers_the_next_message(autojump_clock: MockClock) -> None:
    async with open_service(of=seldom_asking(STATUSD), ping_interval="60s", pong_timeout="150s") as running:
        client = await running.open()
        await trio.sleep(86_400)
        running.redis.publish(CHANNEL, b"morning")
        await client.wait(lambda client: bool(client.messages))
        assert client.messages == [status(b"morning")]
        assert abs(len(client.pings) - 86_400 / 60) <= 1
        assert len(running.redis.asked(b"PING")) > 1400
        assert running.service.hub.link.reconnects == 1
        assert not client.ended


async def test_a_client_gets_only_its_own_channel(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        one, two = await running.open("/run:log"), await running.open("/run:other")
        running.redis.publish(b"run:log", b"1")
        running.redis.publish(b"run:other", b"2")
        await two.wait(lambda client: bool(client.messages))
        assert (one.messages, two.messages) == ([status(b"1")], [status(b"2")])


async def test_a_reload_does_not_churn_and_a_deserted_channel_is_given_back(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        redis = running.redis
        first = await running.open()
        second = await running.open()
        await first.send_close()
        await trio.sleep(60)
        await second.send_close()
        await trio.sleep(4.9)
        third = await running.open()
        await trio.sleep(60)
        assert redis.subscribers(CHANNEL) == 1
        assert len(redis.asked(b"SUBSCRIBE")) == 1
        await third.send_close()
        await trio.sleep(4.9)
        assert redis.subscribers(CHANNEL) == 1
        await trio.sleep(0.2)
        assert redis.subscribers(CHANNEL) == 0
        fourth = await running.open()
        redis.publish(CHANNEL, b"again")
        await fourth.wait(lambda client: bool(client.messages))
        assert len(redis.asked(b"SUBSCRIBE")) == 2


# -- Redis in trouble --------------------------------------------------------------------------------------------------


async def test_gap_frames_come_before_the_first_message_to_those_who_asked(autojump_clock: MockClock) -> None:
    async with open_service(redis_retry_base="2s") as running:
        asked, silent = await running.open(PATH + "?gap=1"), await running.open()
        running.redis.publish(CHANNEL, b"before")
        await trio.sleep(10)
        publish_with_ack(running.redis, b"after")
        lost_at = trio.current_time()
        running.redis.drop_all()
        await silent.wait(lambda client: len(client.messages) == 2)
        back_at = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert silent.messages == [status(b"before"), status(b"after")]
        assert [asked.messages[0], *asked.messages[2:]] == silent.messages
        assert asked.messages[1].startswith(b'{"type":"gap","seconds":')
        seconds = float(asked.messages[1].rpartition(b":")[2].rstrip(b"}"))
        # Since the last byte of Redis: its answer to the latest probe may be as old as the probe's interval.
        assert back_at - lost_at <= seconds + 0.001 <= back_at - lost_at + 2.1
        assert running.service.counters.gaps == 1


def publish_with_ack(redis: ScriptedRedis, payload: bytes) -> None:
    """From the next connection on, `payload` is published in the instant after the subscription, in the same bytes."""

    def answer(peer: Any, command: list[bytes]) -> bytes | None:
        if command == [b"SUBSCRIBE", CHANNEL]:
            peer.channels.add(CHANNEL)
            return b">3\r\n$9\r\nsubscribe\r\n$7\r\nrun:log\r\n:1\r\n" + message(CHANNEL, payload)
        return None

    redis.answers = answer


async def test_clients_keep_their_sockets_through_an_outage(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        client = await running.open()
        running.redis.unreachable = ConnectionRefusedError(111, "Connection refused")
        running.redis.drop_all()
        await trio.sleep(3)
        refused = await running.ask()
        assert (refused.status, refused.header("retry-after")) == (503, "2")
        running.redis.unreachable = None
        with trio.fail_after(60):
            await running.service.hub.link.wait_online()
        running.redis.publish(CHANNEL, b"back")
        await client.wait(lambda client: bool(client.messages))
        assert client.messages == [status(b"back")]
        assert (await running.ask()).status == 101


async def test_after_the_last_retry_everybody_is_told(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        running.expected_errors.add("redis unavailable, clients ended")
        clients = [await running.open(), await running.open("/run:other")]
        running.redis.unreachable = ConnectionRefusedError(111, "Connection refused")
        running.redis.drop_all()
        for client in clients:
            await client.wait_ended(within=300)
            assert (client.messages, client.close_code) == ([HANGUP_PAYLOAD], 1013)
        assert len(running.redis.attempts) == 1 + 5
        assert (await running.ask()).status == 503
        assert running.service.counters.disconnects == {"redis_unavailable": 2}
        assert running.service.counters.rejected == {"redis_unavailable": 1}
        running.redis.unreachable = None
        await trio.sleep(60)
        assert (await running.ask()).status == 101


async def test_a_channel_that_redis_refuses_ends_its_clients_only(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        running.redis.denied.add(b"run:secret")
        other = await running.open()
        refused = await running.open("/run:secret")
        await refused.wait_ended()
        assert (refused.messages, refused.close_code) == ([HANGUP_PAYLOAD], 1011)
        running.redis.denied.clear()
        allowed = await running.open("/run:secret")
        running.redis.publish(b"run:secret", b"1")
        running.redis.publish(CHANNEL, b"2")
        await allowed.wait(lambda client: bool(client.messages))
        await other.wait(lambda client: bool(client.messages))
        assert running.service.counters.disconnects == {"refused_by_redis": 1}


async def test_a_silent_redis_refuses_the_handshake_in_time(autojump_clock: MockClock) -> None:
    async with open_service(redis_request_timeout="700ms") as running:
        running.redis.holding = True
        await trio.sleep(0.1)
        start = trio.current_time()
        client = await running.ask()
        assert (client.status, client.header("retry-after")) == (503, "2")
        assert trio.current_time() - start == pytest.approx(0.7)
        assert running.service.counters.rejected == {"redis_unavailable": 1}
        running.redis.release()


async def test_a_client_that_leaves_while_redis_is_asked_leaves_nothing(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        running.redis.holding = True
        client = running.arrive()
        await client.send_raw(handshake(PATH))
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.aclose()
        running.redis.release()
        await trio.sleep(LINGER + 1)
        assert not running.service.server.peers
