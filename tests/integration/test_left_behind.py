"""A client that is gone leaves nothing that needs the collector, however it came and went (common/web)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
import trio.testing

from common.disconnect import (
    ALL,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    REDIS_UNAVAILABLE,
    RUN_TOO_BIG,
    TOO_FAST,
    Disconnect,
)
from common.web import frames, turns
from common.web import peer as peer_module
from common.web.frames import text_frame
from preflightd.daemon import PREFLIGHTD
from statusd.daemon import STATUSD
from tests.support.client import BINARY, PING, TEXT, close_frame, frame, handshake
from tests.support.raw import PATIENCE, open_stream, request_head, reset, wait_until
from tests.support.remains import World, open_world, unreachable, until_end, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from common.web.peer import Peer

pytestmark = pytest.mark.integration

TIMES: Final = 3
"""Clients that come and go in each way, one after the other."""

SETTINGS: Final = {
    "max_message_size": "1KB",
    "max_backlog": "64KB",
    "allowed_origins": "*.example.org",
    "metrics_enabled": "true",
}

SOON: Final = "200ms"
"""For the deadlines that some ways wait for; the others must not meet them on a slow machine."""


# -- conversations -----------------------------------------------------------------------------------------------------


async def client_closed(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_all(close_frame(1000))
        await until_end(stream)


async def client_gone(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_eof()
        await until_end(stream)


async def client_gone_in_a_frame(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_all(frame(TEXT, b"x" * 100)[:50])
        await stream.send_eof()
        await until_end(stream)


async def client_gone_in_a_message(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_all(frame(TEXT, b"x", fin=False))
        await stream.send_eof()
        await until_end(stream)


async def client_reset(world: World) -> None:
    reset(await world.open())


async def write_error(world: World) -> None:
    stream = await world.open()
    peer = world.peer
    reset(stream)
    # Before the reader hears of it.
    write_until_finished(peer)


def write_until_finished(peer: Peer) -> None:
    """Write to one whose client has reset, while no task runs. A busy kernel takes its time to bring the reset."""
    deadline = time.monotonic() + PATIENCE
    while not peer.wire.finished:
        assert time.monotonic() < deadline, "the reset does not come"
        peer.ping()
        time.sleep(0.001)


async def slow_consumer_over_its_backlog(world: World) -> None:
    async with await world.open(receive_buffer=4096):
        peer = world.peer
        while not peer.wire.finished:
            peer.wire.send_nowait(text_frame(b"x" * 60_000))
        await world.wait_empty()


async def slow_consumer_that_takes_nothing(world: World) -> None:
    async with await world.open(receive_buffer=4096):
        world.peer.wire.send_nowait(text_frame(b"x" * 8_000_000))
        await world.wait_empty()


async def breach(world: World, data: bytes, end: Disconnect) -> None:
    async with await world.open() as stream:
        await stream.send_all(data)
        got = await until_end(stream)
        assert end.close_code is not None
        assert got.endswith(frames.close_frame(end.close_code, end.reason)), got


async def protocol_error(world: World) -> None:
    await breach(world, frame(3), PROTOCOL_ERROR)


async def invalid_text(world: World) -> None:
    await breach(world, frame(TEXT, b"\xff"), INVALID_TEXT)


async def invalid_close(world: World) -> None:
    await breach(world, close_frame(999), PROTOCOL_ERROR)


async def close_reason_that_is_no_text(world: World) -> None:
    await breach(world, close_frame(1000, b"\xff"), INVALID_TEXT)


async def message_too_big(world: World) -> None:
    await breach(world, frame(BINARY, b"x" * 2000), MESSAGE_TOO_BIG)


async def too_fast(world: World) -> None:
    await breach(world, frame(PING) * 200, TOO_FAST)


async def breach_that_is_never_answered(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_all(frame(3))
        await world.wait_empty()


async def pong_timeout(world: World) -> None:
    async with await world.open() as stream:
        await until_end(stream)


async def ended_by_the_daemon(world: World) -> None:
    async with await world.open() as stream:
        world.peer.end(REDIS_UNAVAILABLE)
        await until_end(stream)


async def run_too_big(world: World) -> None:
    async with await world.open() as stream:
        world.peer.end(RUN_TOO_BIG)
        await until_end(stream)


async def refused_by_redis(world: World) -> None:
    world.redis.denied.add(world.channel)
    async with await open_stream(world.port) as stream:
        await stream.send_all(handshake(world.path))
        await until_end(stream)


async def internal_error(world: World) -> None:
    async with await world.open() as stream:
        await stream.send_all(frame(TEXT, b"bug"))
        await until_end(stream)


CONVERSATIONS: Final = (
    client_closed,
    client_gone,
    client_gone_in_a_frame,
    client_gone_in_a_message,
    client_reset,
    write_error,
    slow_consumer_over_its_backlog,
    slow_consumer_that_takes_nothing,
    protocol_error,
    invalid_text,
    invalid_close,
    close_reason_that_is_no_text,
    message_too_big,
    too_fast,
    breach_that_is_never_answered,
    pong_timeout,
    ended_by_the_daemon,
    run_too_big,
    refused_by_redis,
    internal_error,
)


# -- requests ----------------------------------------------------------------------------------------------------------


def answered(status: int, request: bytes) -> Callable[[World], Awaitable[None]]:
    """A request that gets this answer."""

    async def way(world: World) -> None:
        got = await world.ask(request.replace(b"PATH", world.path.encode()))
        assert got.startswith(b"HTTP/1.1 %d " % status), got

    return way


def upgrade(**headers: str) -> bytes:
    return handshake("PATH", {name.replace("_", "-"): value for name, value in headers.items()})


async def let_in(world: World) -> trio.SocketStream:
    """A connection that the daemon has accepted; the caller closes it."""
    stream = await open_stream(world.port)
    await wait_until(lambda: world.service.server._admission.open > 0, "it was let in")
    return stream


async def says_nothing(world: World) -> None:
    assert await world.ask(b"") == b""


async def leaves_without_a_word(world: World) -> None:
    async with await let_in(world):
        pass


async def leaves_with_half_a_head(world: World) -> None:
    async with await open_stream(world.port) as stream:
        await stream.send_all(b"GET / HT")
        await stream.send_eof()
        assert (await until_end(stream)).startswith(b"HTTP/1.1 400 ")


async def resets_with_half_a_head(world: World) -> None:
    stream = await let_in(world)
    await stream.send_all(b"GET / HT")
    reset(stream)


async def resets_before_its_answer(world: World) -> None:
    stream = await let_in(world)
    await stream.send_all(request_head("/metrics") + b"x" * 100_000)
    reset(stream)


async def sends_on_behind_a_refusal(world: World) -> None:
    async with await open_stream(world.port) as stream:
        await stream.send_all(b"\0\r\n\r\n" + b"x" * 100_000)
        assert (await until_end(stream)).startswith(b"HTTP/1.1 400 ")


async def redis_does_not_answer(world: World) -> None:
    world.redis.answers = lambda _peer, command: b"" if command[0] == b"SUBSCRIBE" else None
    assert (await world.ask(handshake(world.path))).startswith(b"HTTP/1.1 503 ")


async def draining(world: World) -> None:
    world.service.server.draining = world.service.server.turns_away = True
    assert (await world.ask(handshake(world.path))).startswith(b"HTTP/1.1 503 ")


async def full(world: World) -> None:
    world.service.server._admission._limit = 1
    async with await open_stream(world.port):
        await wait_until(lambda: world.service.server._admission.open == 1, "the only place is taken")
        assert (await world.ask(handshake(world.path))).startswith(b"HTTP/1.1 503 ")


async def full_for_its_address(world: World) -> None:
    world.service.server._admission._limit_per_address = 1
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    async with await open_stream(world.port) as stream:
        await stream.send_all(handshake(world.path, forwarded))
        assert await stream.receive_some(12) == b"HTTP/1.1 101"
        assert (await world.ask(handshake(world.path, forwarded))).startswith(b"HTTP/1.1 503 ")
        await stream.send_all(close_frame(1000))
        await until_end(stream)


REQUESTS: Final = {
    "health": answered(200, request_head("/health")),
    "live": answered(200, request_head("/health/live")),
    "metrics": answered(200, request_head("/metrics")),
    "HEAD": answered(200, request_head("/health", "HEAD")),
    "404": answered(404, request_head("/")),
    "400, a bad path": answered(400, request_head("/a/b")),
    "400, a bad key": answered(400, handshake("PATH", key=b"short")),
    "400, a body": answered(400, upgrade(Content_Length="5")),
    "403": answered(403, upgrade(Origin="https://elsewhere.example")),
    "405": answered(405, request_head("/health", "POST")),
    "426": answered(426, request_head("PATH")),
    "431": answered(431, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"),
    "garbage": answered(400, b"\x00\xff\r\n\r\n"),
    "TLS": answered(400, bytes.fromhex("160301020001000200") + b"\r\n\r\n"),
    "a bad header": answered(400, b"GET / HTTP/1.1\r\nbad header\r\n\r\n"),
    "408": answered(408, b"GET / HT"),
    "says nothing": says_nothing,
    "leaves without a word": leaves_without_a_word,
    "leaves with half a head": leaves_with_half_a_head,
    "resets with half a head": resets_with_half_a_head,
    "resets before its answer": resets_before_its_answer,
    "sends on behind a refusal": sends_on_behind_a_refusal,
    "503, redis does not answer": redis_does_not_answer,
    "503, draining": draining,
    "503, full": full,
    "503, full for its address": full_for_its_address,
}

WAYS: Final = {way.__name__: way for way in CONVERSATIONS} | REQUESTS

DEADLINES: Final = {
    "slow_consumer_that_takes_nothing": ["write_timeout"],
    "breach_that_is_never_answered": ["write_timeout"],
    "pong_timeout": ["ping_interval", "pong_timeout", "write_timeout"],
    "ended_by_the_daemon": ["write_timeout"],
    "run_too_big": ["write_timeout"],
    "refused_by_redis": ["write_timeout"],
    "internal_error": ["write_timeout"],
    "408": ["handshake_timeout"],
    "says nothing": ["handshake_timeout"],
    "503, redis does not answer": ["redis_request_timeout"],
}
"""The settings of the ways that wait for them."""


def bug(text: str) -> str:
    if text == "bug":
        raise ZeroDivisionError(text)
    return "other"


@pytest.mark.parametrize("daemon", [STATUSD, PREFLIGHTD], ids=lambda daemon: daemon.name)
@pytest.mark.parametrize("name", WAYS)
async def test_whoever_is_gone_has_left_nothing(name: str, daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    way = WAYS[name]
    monkeypatch.setattr(peer_module, "classify", bug)
    if way is too_fast:
        monkeypatch.setattr(turns, "BURST", 100.0)
    async with open_world(daemon, **SETTINGS, **dict.fromkeys(DEADLINES.get(name, ()), SOON)) as world:
        # What is made once, and kept, is none of theirs.
        await way(world)
        await world.wait_empty()
        with watch() as remains:
            for _ in range(TIMES):
                await way(world)
                await world.wait_empty()
            world.service.heartbeat._beats.clear()
            await wait_until(lambda: not remains.left(), f"gone: {remains.left()}")
            assert len(remains.references) >= 4 * TIMES
            if way is not redis_does_not_answer:
                # There the link begins anew: what that leaves behind is none of the clients'.
                assert unreachable() == []


@pytest.mark.parametrize("daemon", [STATUSD, PREFLIGHTD], ids=lambda daemon: daemon.name)
@pytest.mark.parametrize("end", ["drain", "cancelled", "cancelled in a goodbye"])
async def test_whoever_the_end_of_the_daemon_meets_has_left_nothing(end: str, daemon: Any) -> None:
    async with open_world(daemon, **SETTINGS, write_timeout=SOON) as world:
        with watch() as remains:
            streams = [await world.open() for _ in range(TIMES)]
            half = await open_stream(world.port)
            await half.send_all(b"GET / HT")
            if end == "drain":
                world.stop.set()
            elif end == "cancelled in a goodbye":
                world.service.hub.on_exhausted()
                # Each says its goodbye now, and waits for the answer.
                await trio.testing.wait_all_tasks_blocked()
            if end != "drain":
                world.scope.cancel()
            for stream in [*streams, half]:
                await until_end(stream)
                await stream.aclose()
            await world.wait_empty()
            world.service.heartbeat._beats.clear()
            await wait_until(lambda: not remains.left(), "everything gone")
            assert len(remains.references) >= 4 * TIMES


def test_every_end_of_the_table_is_among_the_ways() -> None:
    """By the name of its reason; a new one needs a way of its own."""
    names = {name.partition("_that")[0].partition("_over")[0] for name in WAYS} | {"drain", "redis_unavailable"}
    assert {end.reason for end in ALL} <= names
