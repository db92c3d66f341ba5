"""What one client can do to the others: nothing. Heartbeats, stalls, bugs, limits (common/serving)."""

from __future__ import annotations

import gc
import os
import re
import weakref
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
import trio.testing

from common.web import peer as peer_module
from common.web.accepted import LINGER
from common.web.peer import Peer
from statusd.topic import StatusTopic
from tests.support.client import HANGUP_PAYLOAD, PONG_PAYLOAD, TEXT, handshake
from tests.support.conversation import TRANSPORTS
from tests.support.service import CHANNEL, PATH, open_service, status

if TYPE_CHECKING:
    from trio.testing import MockClock


# -- heartbeats --------------------------------------------------------------------------------------------------------

PING_FRAME: Final = b'\x81\x0f{"type":"ping"}'


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("silent_from", [0.0, 5.0, 17.3, 600.0])
async def test_a_client_that_never_answers_ends_at_the_exact_second(
    silent_from: float, transport: str, autojump_clock: MockClock
) -> None:
    async with open_service() as running:
        await trio.sleep(1.7)
        start = trio.current_time()
        client = await running.open(transport=transport, answers=silent_from > 0)
        if silent_from:
            await trio.sleep(silent_from - 0.5)
            client.answers = False
            await trio.sleep(0.5)
            await client.send(TEXT, PONG_PAYLOAD)
        await client.wait(lambda client: client.close_code is not None, within=100)
        assert client.messages == [HANGUP_PAYLOAD]
        assert client.close_code == 1008
        assert client.seen[-1].time == start + silent_from + 65
        assert {seen.time for seen in client.seen[-2:]} == {start + silent_from + 65}
        expected = [start + 5 * number for number in range(1, len(client.pings) + 1)]
        assert client.pings == [pytest.approx(moment) for moment in expected]
        assert client.body.startswith(PING_FRAME * len(client.pings))


async def test_a_client_that_stops_reading_stops_nobodys_pings(autojump_clock: MockClock) -> None:
    async with open_service(write_timeout="100s") as running:
        stalled = running.arrive(reads=False)
        await stalled.send_raw(handshake(PATH))
        await trio.testing.wait_all_tasks_blocked()
        lively = await running.open()
        sock = running.sockets[stalled]
        await trio.sleep(63)
        assert bytes(sock.unread).partition(b"\r\n\r\n")[2] == PING_FRAME * 12
        assert len(lively.pings) == 12
        # The kernel's buffer is full now: its pings wait here, and its silence still counts.
        running.redis.publish(CHANNEL, b"x" * sock.capacity)
        await trio.sleep(600)
        assert len(lively.pings) == 132
        assert running.service.counters.disconnects == {"pong_timeout": 1}


# -- slow clients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["lockstep", "socket"])
async def test_a_stalled_client_costs_the_others_nothing(transport: str, autojump_clock: MockClock) -> None:
    payload = b"x" * 1000
    total = 10_000
    async with open_service(max_backlog="64KB", write_timeout="2s") as running:
        stalled = running.arrive(transport=transport, reads=False)
        await stalled.send_raw(handshake(PATH))
        if transport == "lockstep":
            assert await stalled.stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        (peer,) = running.service.server.peers
        others = [await running.open(transport=kind) for kind in TRANSPORTS]
        highest = 0
        for number in range(total):
            running.redis.publish(CHANNEL, b"%d:" % number + payload)
            if number % 20 == 0:
                await trio.testing.wait_all_tasks_blocked()
                highest = max(highest, running.service._gauges().backlog_bytes)
        for client in others:
            await client.wait(lambda client: len(client.messages) == total)
            assert client.messages == [status(b"%d:" % number + payload) for number in range(total)]
        assert peer.disconnect is not None
        assert peer.disconnect.reason == "slow_consumer"
        assert peer.wire.backlog_bytes == 0
        # The limit and the one read from Redis that passed it; the others' backlogs are empty when all is quiet.
        assert highest <= 64 * 1024 + 21 * 1100
        assert running.service.counters.disconnects == {"slow_consumer": 1}


@pytest.mark.parametrize("transport", ["lockstep", "socket"])
async def test_a_client_that_takes_nothing_ends_after_the_write_timeout(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_service(write_timeout="3s") as running:
        client = running.arrive(transport=transport, reads=False)
        await client.send_raw(handshake(PATH))
        if transport == "lockstep":
            assert await client.stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        running.redis.publish(CHANNEL, b"x" * 200_000)
        start = trio.current_time()
        (peer,) = running.service.server.peers
        with trio.fail_after(60):
            await running.service.server.wait_empty()
        assert trio.current_time() == pytest.approx(start + 3)
        assert running.service.counters.disconnects == {"slow_consumer": 1}
        assert peer.wire.finished
        (line,) = running.logbook.said("connection ended with error")
        assert (line["reason"], line["level"]) == ("slow_consumer", "warn")


# -- bugs --------------------------------------------------------------------------------------------------------------


class HandlerError(Exception):
    """Raised by code that has a bug."""


async def test_a_handler_that_raises_is_logged_once_and_ends_its_own_client(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify(text: str) -> str:
        raise HandlerError(text)

    async with open_service() as running:
        running.expected_errors.add("connection ended with error")
        clients = [await running.open() for _ in range(3)]
        with monkeypatch.context() as patch:
            patch.setattr(peer_module, "classify", classify)
            await clients[0].send(TEXT, b"{}")
            await clients[0].wait_ended()
        assert (clients[0].messages, clients[0].close_code) == ([HANGUP_PAYLOAD], 1011)
        (line,) = running.logbook.at_least("error")
        assert line["reason"] == "internal_error"
        assert "HandlerError" in line["traceback"]
        await trio.sleep(100)
        assert not clients[1].ended
        assert running.service.counters.disconnects == {"internal_error": 1}


async def test_a_topic_that_raises_ends_its_own_clients(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = StatusTopic.encode

    def encode_or_stumble(self: StatusTopic, payloads: list[bytes]) -> Any:
        if self.channel == b"run:bad":
            raise HandlerError
        return encode(self, payloads)

    monkeypatch.setattr(StatusTopic, "encode", encode_or_stumble)
    async with open_service() as running:
        running.expected_errors |= {"messages could not be handled", "connection ended with error"}
        bad, good = await running.open("/run:bad"), await running.open()
        running.redis.publish(b"run:bad", b"1")
        running.redis.publish(CHANNEL, b"2")
        await bad.wait_ended()
        assert (bad.messages, bad.close_code) == ([HANGUP_PAYLOAD], 1011)
        await good.wait(lambda client: bool(client.messages))
        assert running.service.hub.link.online
        tracebacks = [line for line in running.logbook.at_least("error") if "HandlerError" in line.get("traceback", "")]
        assert len(tracebacks) == 1


async def test_a_bug_after_the_101_writes_no_http_into_the_conversation(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_goodbye(self: Peer) -> None:
        raise HandlerError(repr(self))

    monkeypatch.setattr(Peer, "say_goodbye", say_goodbye)
    async with open_service() as running:
        running.expected_errors |= {"request failed", "conversation failed", "connection ended with error"}
        client = await running.open()
        await client.send_close()
        await client.wait_ended()
        assert b"HTTP" not in client.body
        assert running.logbook.at_least("error")


async def test_a_bug_before_the_101_is_a_500(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_service() as running:
        running.expected_errors.add("request failed")
        with monkeypatch.context() as patch:
            patch.setattr(running.service.hub, "wait_ready", None)
            client = await running.ask()
        assert client.status == 500
        assert (await running.ask()).status == 101


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_half_open_heads_take_places_and_give_them_back(autojump_clock: MockClock) -> None:
    async with open_service(max_connections="3", handshake_timeout="10s") as running:
        opened = await running.open()
        half = [running.arrive(), running.arrive()]
        await half[1].send_raw(b"GET /run:log HT")
        await trio.testing.wait_all_tasks_blocked()
        refused = await running.ask()
        assert (refused.status, refused.header("retry-after")) == (503, "2")
        assert running.service.counters.rejected == {"too_many_connections": 1}
        await trio.sleep(10.1)
        # Those who said too little are gone.
        assert half[0].ended
        assert half[1].status == 408
        await trio.sleep(LINGER)
        assert (await running.ask()).status == 101
        assert (await running.ask()).status == 101
        assert (await running.ask()).status == 503
        await opened.send_close()
        await opened.wait_ended()
        assert (await running.ask()).status == 101


async def test_an_address_has_its_share(autojump_clock: MockClock) -> None:
    async with open_service(max_connections_per_address="2") as running:
        first = [await running.ask(address="192.0.2.1") for _ in range(3)]
        assert [client.status for client in first] == [101, 101, 503]
        assert first[2].header("retry-after") == "2"
        assert (await running.ask(address="192.0.2.2")).status == 101
        there = [(await running.ask(address=f"2001:db8::{host}")).status for host in ("1", "2", "a:b:c:d")]
        assert there == [101, 101, 503], "a /64 is one address"
        assert (await running.ask(address="2001:db8:0:1::1")).status == 101
        assert running.service.counters.rejected == {"too_many_connections_per_address": 2}
        await first[0].send_close()
        await first[0].wait_ended()
        assert (await running.ask(address="192.0.2.1")).status == 101


async def test_behind_a_proxy_the_share_is_the_forwarded_clients(autojump_clock: MockClock) -> None:
    async with open_service(max_connections_per_address="1", trusted_proxies="10.0.0.0/8") as running:

        async def ask(forwarded: str, address: str = "10.0.0.1") -> int | None:
            return (await running.ask(PATH, {"X-Forwarded-For": forwarded}, address=address)).status

        assert await ask("198.51.100.1") == 101
        assert await ask("198.51.100.1") == 503
        assert await ask("198.51.100.2") == 101
        assert await ask("198.51.100.1, 198.51.100.3") == 101, "the last one counts"
        assert await ask("198.51.100.9, 198.51.100.3, 10.9.9.9", "10.0.0.2") == 503
        assert await ask("198.51.100.77", "203.0.113.1") == 101, "an address that nobody trusts can't lend another"
        assert await ask("198.51.100.78", "203.0.113.1") == 503
        assert (await running.ask(address=None)).status == 101, "a unix socket has no address"
        # A proxy's own half-open sockets are nobody's.
        for _ in range(5):
            running.arrive(address="10.0.0.1")
        await trio.testing.wait_all_tasks_blocked()
        assert await ask("198.51.100.4") == 101


async def test_the_log_tells_each_conversations_end(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        client = await running.open()
        running.redis.publish(CHANNEL, b"1")
        await trio.sleep(12.5)
        await client.send_close()
        await client.wait_ended()
        (accepted,) = running.logbook.said("connection accepted")
        assert (accepted["run_id"], accepted["channel"], accepted["remote"]) == ("run", "log", "192.0.2.1")
        (closed,) = running.logbook.said("connection closed")
        assert (closed["reason"], closed["seconds"], closed["frames"]) == ("client_closed", 12.5, 3)


async def test_a_client_that_is_gone_holds_no_memory(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        stays = await running.open()
        clients = [await running.open(transport=transport) for transport in TRANSPORTS for _ in range(5)]
        peers = [weakref.ref(peer) for peer in running.service.server.peers]
        running.redis.publish(CHANNEL, b"1")
        await trio.sleep(7)
        for client in clients:
            await client.send_close()
            await client.wait_ended()
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert [reference() for reference in peers[1:]] == [None] * len(clients)
        assert not stays.ended


async def test_all_lines_about_one_socket_share_an_id_that_no_other_has(autojump_clock: MockClock) -> None:
    async with open_service() as running:
        for _ in range(3):
            client = await running.open()
            await client.send_close()
            await client.wait_ended()
        await (await running.ask("/nochannel")).wait_ended()
        await trio.testing.wait_all_tasks_blocked()
        accepted, closed, refused = (
            [line["connection"] for line in running.logbook.said(message)]
            for message in ("connection accepted", "connection closed", "request refused")
        )
        assert accepted == closed
        assert (len(accepted), len(refused)) == (3, 1)
        assert len({*accepted, *refused}) == 4
        assert all(re.fullmatch(rf"{os.getpid()}-[0-9]+", name) for name in [*accepted, *refused])
