"""The conversation of SPEC 1 with statusd as a process, over real sockets: by hand, and with two client libraries."""

from __future__ import annotations

import json
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import websockets.exceptions
import websockets.sync.client
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.support.client import PING_PAYLOAD, TEXT, close_frame, frame, handshake
from tests.support.daemon import DaemonProcess, open_daemon
from tests.support.raw import (
    HOST,
    PATIENCE,
    POLL,
    RedisConnection,
    connect,
    open_redis,
    open_stream,
    start_client,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

QUIET = {"ping_interval": "1h", "pong_timeout": "3h"}
"""No heartbeat in between."""

STANDSTILL = 2.0
"""Seconds without an answer that are no client's doing, if it was in this process that they passed."""

LINGER = 5.0
"""Seconds that a subscription outlives its last client."""


def status(data: str) -> str:
    """The frame's text for a payload."""
    return f'{{"type":"status","data":{data}}}'


def server_frame(payload: bytes) -> bytes:
    """The only bytes in which a server may send a text."""
    size = len(payload)
    if size < 126:
        return bytes([0x81, size]) + payload
    if size < 65536:
        return b"\x81\x7e" + struct.pack("!H", size) + payload
    return b"\x81\x7f" + struct.pack("!Q", size) + payload


# -- frames -----------------------------------------------------------------------------------------------------------


async def test_the_bytes_of_a_conversation(redis_server: EmbeddedRedis) -> None:
    overhead = len(status('""'))
    texts: list[tuple[bytes, str]] = [
        (b"[run] 42 %", '"[run] 42 %"'),
        (b"", '""'),
        (b'{"a":"b\\c"}', r'"{\"a\":\"b\\c\"}"'),
        (b"\x00\x01\b\t\n\f\r\x1f\x7f", '"\\u0000\\u0001\\b\\t\\n\\f\\r\\u001f\x7f"'),
        ("Fluß → 水 🌊 </script>\u2028".encode(), '"Fluß → 水 🌊 </script>\u2028"'),
        (b"caf\xe9 \xf0\x9f\x8c \xed\xa0\x80|", '"caf\ufffd \ufffd \ufffd\ufffd\ufffd|"'),
        *((b"x" * (size - overhead), f'"{"x" * (size - overhead)}"') for size in (125, 126, 65535, 65536)),
    ]
    expected = b"".join(server_frame(status(text).encode()) for _, text in texts)
    key = b"the sample nonce"  # RFC 6455, section 1.3
    request = handshake("/run:log", key=key)
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with trio.fail_after(PATIENCE):
        async with (
            open_redis(redis_server) as redis,
            open_daemon(redis_server, QUIET) as daemon,
            await open_stream(daemon.port) as stream,
        ):
            await stream.send_all(request)
            assert await receive_exactly(stream, len(answer)) == answer
            await redis.publish("run:log", [payload for payload, _ in texts])
            assert await receive_exactly(stream, len(expected)) == expected
            daemon.signal()
            # The platform's log panel never comes back after a hangup: unless told to, statusd sends none here.
            ending = b"\x88\x07\x03\xe9drain"
            assert await receive_exactly(stream, len(ending)) == ending
            await stream.send_all(close_frame(1001))
            assert await stream.receive_some() == b""


async def receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    """That many bytes, or what came until the other side ended."""
    data = bytearray()
    while len(data) < count and (chunk := await stream.receive_some(count - len(data))):
        data += chunk
    return bytes(data)


@pytest.mark.sensitive
async def test_one_that_answers_heartbeats_lives_and_one_that_is_silent_is_told_to_go(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    # Where we get no time for seconds nobody answers, and rightly all are told to go: such a try says nothing.
    while not await _lively_outlives_silent(redis_server, nursery):
        pass


async def _lively_outlives_silent(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> bool:
    """Fails if it does not, but for one reason: that this process stood still, which is False."""
    heartbeats = {"ping_interval": "200ms", "pong_timeout": "4s"}
    expect = ["configuration", "connection ended with error"]  # the configuration warns of so short a timeout
    async with open_daemon(redis_server, heartbeats, expect=expect) as daemon:
        lively = await connect(nursery, daemon.port, "/run:log")
        silent = await start_client(nursery, daemon.port, handshake("/run:log"), answers=False)
        async with open_watch() as watch:
            await silent.wait_ended(within=PATIENCE)
            await lively.wait(lambda client: client.ended or len(client.pings) > len(silent.pings), within=PATIENCE)
        if watch.longest >= STANDSTILL:
            return False
        [ended] = await daemon.wait_said("connection ended with error")
        assert (ended["reason"], silent.close_code) == ("pong_timeout", 1008)
        assert set(silent.texts) == {PING_PAYLOAD}
        assert ended["seconds"] >= 4
        assert not lively.ended
        await lively.leave()
    return True


@attrs.define
class Watch:
    """How long this process stood still at most, in seconds."""

    longest: float = 0.0

    async def run(self) -> None:
        """Look at the clock again and again, until cancelled."""
        while True:
            asleep = trio.current_time()
            await trio.sleep(POLL)
            self.longest = max(self.longest, trio.current_time() - asleep)


@asynccontextmanager
async def open_watch() -> AsyncIterator[Watch]:
    """It watches for the block, and looks once more at its end."""
    watch = Watch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        yield watch
        await trio.sleep(POLL)
        nursery.cancel_scope.cancel()


async def test_trio_websocket_converses(redis_server: EmbeddedRedis) -> None:
    path = "/batch%3B%3Bname%3B%3B_base:log?gap=1"
    with trio.fail_after(PATIENCE):
        async with (
            open_redis(redis_server) as redis,
            open_daemon(redis_server, {"ping_interval": "100ms"}) as daemon,
            open_trio_websocket(daemon.port, path) as first,
            open_trio_websocket(daemon.port, path) as second,
        ):
            await first.send_message('{"type":"init"}')
            assert await redis.publish("batch;;name;;_base:log", ["half", "done"]) == [1, 1]
            got = [str(await first.get_message()) for _ in range(2)]
            while '{"type":"ping"}' not in got:
                got.append(str(await first.get_message()))
            await first.send_message('{"type":"pong"}')
            assert [text for text in got if "ping" not in text] == [status('"half"'), status('"done"')]
            await first.ping(b"are you there?")
            await first.aclose()
            [closed] = await daemon.wait_said("connection closed")
            assert (closed["reason"], closed["run_id"]) == ("client_closed", "batch;;name;;_base")

            daemon.signal()
            assert [await next_message(second) for _ in range(2)] == [status('"half"'), status('"done"')]
            with pytest.raises(ConnectionClosed) as ended:
                await next_message(second)
            assert ended.value.reason is not None
            assert (ended.value.reason.code, ended.value.reason.reason) == (1001, "drain")


@asynccontextmanager
async def open_trio_websocket(port: int, path: str) -> AsyncIterator[WebSocketConnection]:
    """A client of the library on a stream of ours: it does not close its own when the server was the first to."""
    async with await open_stream(port) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, HOST, path)
        nursery.cancel_scope.cancel()


async def next_message(socket: WebSocketConnection) -> str:
    """The next message that is no heartbeat."""
    while (message := str(await socket.get_message())) == '{"type":"ping"}':
        pass
    return message


async def test_websockets_converses(redis_server: EmbeddedRedis) -> None:
    def converse(port: int, redis: RedisConnection, daemon: DaemonProcess) -> list[str]:
        url = f"ws://{HOST}:{port}/batch;;name;;_base:log"
        # Without a bound: else it reads no pong once some heartbeats wait for us, who wait for the pong.
        with websockets.sync.client.connect(url, compression="deflate", proxy=None, max_queue=None) as socket:
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" not in socket.response.headers
            socket.send('{"type":"init"}')
            trio.from_thread.run(redis.publish, "batch;;name;;_base:log", ["half", "x" * 100_000])
            got: list[str] = []
            while len(got) < 2 or '{"type":"ping"}' not in got:
                got.append(str(socket.recv(PATIENCE)))
            socket.send('{"type":"pong"}')
            assert socket.ping(b"are you there?").wait(PATIENCE)
            trio.from_thread.run_sync(daemon.signal)
            assert {str(message) for message in socket} <= {'{"type":"ping"}'}
            assert (socket.close_code, socket.close_reason) == (1001, "drain")
        return got

    with trio.fail_after(PATIENCE):
        async with open_redis(redis_server) as redis, open_daemon(redis_server, {"ping_interval": "100ms"}) as daemon:
            got = await trio.to_thread.run_sync(converse, daemon.port, redis, daemon)
            assert [text for text in got if "ping" not in text] == [status('"half"'), status(f'"{"x" * 100_000}"')]


# -- nothing lost -----------------------------------------------------------------------------------------------------


async def test_what_is_published_right_after_the_handshake_arrives(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    rounds, clients = 5, 40
    publishing = trio.Lock()
    async with open_redis(redis_server) as redis, open_daemon(redis_server, QUIET) as daemon:

        async def visit(channel: str, arrived: dict[str, list[bytes]]) -> None:
            client = await connect(nursery, daemon.port, f"/{channel}")
            async with publishing:
                assert await redis.publish(channel, [channel]) == [1]
            arrived[channel] = await client.receive(1)

        for number in range(rounds):
            arrived: dict[str, list[bytes]] = {}
            channels = [f"run-{number}:log-{k}" for k in range(clients)]
            async with trio.open_nursery() as visits:
                for channel in channels:
                    visits.start_soon(visit, channel, arrived)
            assert arrived == {channel: [status(json.dumps(channel)).encode()] for channel in channels}


async def test_many_messages_arrive_in_order_and_once(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    number = 10_000
    settings = {"metrics_enabled": "true", "max_backlog": "64MB", **QUIET}
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings) as daemon:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(4)]
        bystander = await connect(nursery, daemon.port, "/other:log")
        assert set(await redis.publish("run:log", map(str, range(number)))) == {1}
        await redis.publish("other:log", ["one"])
        expected = [status(f'"{k}"').encode() for k in range(number)]
        for client in clients:
            assert await client.receive(number) == expected
        assert await bystander.receive(1) == [status('"one"').encode()]
        assert await daemon.metric("status2_messages_forwarded_total") == number * len(clients) + 1


async def test_redis_counts_one_subscriber_per_channel_and_none_soon_after_the_last_left(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    async with open_redis(redis_server) as redis, open_daemon(redis_server, QUIET) as daemon:
        clients = [await connect(nursery, daemon.port, "/run:log") for _ in range(10)]
        assert await redis.subscribers("run:log") == 1
        for client in clients:
            await client.leave()
        await wait_until(lambda: len(daemon.said("connection closed")) == len(clients), "all have left")

        async def given_back() -> bool:
            return await redis.subscribers("run:log") == 0

        await wait_until(given_back, "the subscription is given back")
        returned = await connect(nursery, daemon.port, "/run:log")
        assert await redis.publish("run:log", ["again"]) == [1]
        assert await returned.receive(1) == [status('"again"').encode()]


async def test_a_payload_over_the_limit_is_dropped_and_ends_nobody(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    settings = {"max_payload": "100KB", "max_backlog": "10KB", "metrics_enabled": "true", **QUIET}
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, settings, expect=["message dropped"]) as daemon,
    ):
        client = await connect(nursery, daemon.port, "/run:log")
        limit = 100 * 1024
        await redis.publish("run:log", ["x" * (limit + 1), "x" * limit, "after"])
        assert await client.receive(2) == [status(f'"{"x" * limit}"').encode(), status('"after"').encode()]
        [dropped] = await daemon.wait_said("message dropped")
        assert (dropped["run_id"], dropped["channel"], dropped["bytes"], dropped["limit"]) == (
            "run",
            "log",
            limit + 1,
            limit,
        )
        assert await daemon.metric("status2_messages_dropped_total", 'reason="too_big"') == 1
        await client.send_raw(frame(TEXT, b"still there"))
        await client.leave()
