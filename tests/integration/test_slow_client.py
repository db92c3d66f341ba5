"""Clients that take their bytes slowly or not at all, on real sockets: they end within their limits and hurt nobody."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.support.client import TEXT, frame, split_frames
from tests.support.daemon import open_daemon
from tests.support.raw import (
    PATIENCE,
    RawClient,
    RedisConnection,
    connect,
    connect_silent,
    open_redis,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.embedded import EmbeddedRedis

pytestmark = [pytest.mark.integration, pytest.mark.sensitive]

QUIET: Final = {"ping_interval": "1h", "pong_timeout": "3h"}
ENDED: Final = "connection ended with error"

SMALL: Final = 4096
"""A receive buffer that is soon full."""

SEND_BUFFER: Final = 512 << 10
"""Bytes that the kernel may hold for a client that takes nothing. TCP_NOTSENT_LOWAT caps what is not sent yet at 16 KB;
what is sent is bounded by the client's window and the one write that crosses the mark. Without the cap: 4 MB."""

MARGIN: Final = 3 << 20
"""Bytes that the measurement can't tell from the backlog: reads of Redis (64 KB each), their messages and frames in
several copies, and what the allocator keeps of them. All together grew by 1 MB when measured; without a bound on the
backlog it would be 10 MB."""


def payloads(number: int, size: int) -> list[str]:
    """Messages of `size` bytes that can be told apart."""
    return [f"{k:08}".ljust(size, ".") for k in range(number)]


def status(payload: str) -> bytes:
    """The text that a client gets for a payload."""
    return f'{{"type":"status","data":"{payload}"}}'.encode()


def chunks(messages: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The messages in portions."""
    return (messages[start : start + size] for start in range(0, len(messages), size))


async def publish_in_step(
    redis: RedisConnection, messages: Sequence[str], readers: Sequence[RawClient], *, step: int = 200
) -> None:
    """Publish only as fast as these clients read: a `step` is below the backlog that makes one of them slow."""
    done = 0
    for chunk in chunks(messages, step):
        await redis.publish("run:log", chunk)
        done += len(chunk)
        for reader in readers:
            await reader.receive(done)


async def wait_ping(client: RawClient) -> None:
    """Wait for its next heartbeat."""
    known = len(client.pings)
    await client.wait(lambda client: len(client.pings) > known)


async def test_one_that_never_reads_costs_the_others_nothing_and_the_daemon_little(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    backlog = 1 << 20
    messages = payloads(10_000, 1000)
    settings = {
        "ping_interval": "100ms",
        "pong_timeout": "3h",
        "write_timeout": "1h",
        "max_backlog": "1MB",
        "metrics_enabled": "true",
    }
    async with (
        open_redis(redis_server) as redis,
        open_daemon(redis_server, settings, expect=[ENDED]) as daemon,
    ):
        readers = [await connect(nursery, daemon.port, "/run:log") for _ in range(3)]
        neighbour = await connect(nursery, daemon.port, "/other:log")
        # Everything was used once before the measurement begins.
        warm_up = payloads(1000, 1000)
        await publish_in_step(redis, warm_up, readers)
        before = daemon.memory()
        daemon.forget_peak()
        async with await connect_silent(daemon.port, "/run:log", receive_buffer=SMALL) as stalled:
            await daemon.wait_said("connection accepted", len(readers) + 2)
            port = stalled.socket.getsockname()[1]
            held = queued = 0.0
            for reader in readers:
                reader.seen.clear()
            for number, chunk in enumerate(chunks(messages, 200)):
                await redis.publish("run:log", chunk)
                for reader in readers:
                    await reader.receive(200 * (number + 1))
                held = max(held, daemon.send_buffer(port))
                if number == 3:
                    # Beside one that stands still heartbeats go on, on its own topic too.
                    for client in (*readers, neighbour):
                        await wait_ping(client)
                    assert not daemon.said(ENDED)
                if number % 5 == 0:
                    queued = max(queued, await daemon.metric("status2_backlog_bytes"))
            [ended] = await daemon.wait_said(ENDED)
            assert ended["reason"] == "slow_consumer"  # by its backlog: WRITE_TIMEOUT is far away
            assert 0 < held <= SEND_BUFFER
            assert 0 < queued <= backlog + 200 * 1100
            assert daemon.peak_memory() - before <= backlog + MARGIN
            assert await daemon.metric("status2_backlog_bytes") == 0
        expected = [status(message) for message in messages]
        for reader in readers:
            assert reader.messages == expected


async def test_one_without_progress_ends_by_the_write_timeout(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    timeout = 2.0
    settings = QUIET | {"write_timeout": f"{timeout:g}s", "max_backlog": "64MB"}
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings, expect=[ENDED]) as daemon:
        reader = await connect(nursery, daemon.port, "/run:log")
        async with await connect_silent(daemon.port, "/run:log", receive_buffer=SMALL):
            await daemon.wait_said("connection accepted", 2)
            messages = payloads(3000, 1000)
            started = trio.current_time()
            # In steps that the kernel takes for the reader as a whole: nothing of it waits in the daemon, whose write
            # timeout is the reader's too, however long this process has no time to read.
            await publish_in_step(redis, messages, [reader], step=20)
            [ended] = await daemon.wait_said(ENDED)
            assert ended["reason"] == "slow_consumer"
            # Some progress is made until the kernel's buffers are full, and the timeout counts from the last of it.
            assert trio.current_time() - started >= timeout
        assert reader.messages == [status(message) for message in messages]


async def test_nothing_follows_a_torn_frame(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = QUIET | {"max_backlog": "100KB"}
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings, expect=[ENDED]) as daemon:
        reader = await connect(nursery, daemon.port, "/run:log")
        async with await connect_silent(daemon.port, "/run:log", receive_buffer=SMALL) as stalled:
            await daemon.wait_said("connection accepted", 2)
            messages = payloads(3000, 1000)
            await publish_in_step(redis, messages, [reader], step=50)
            await daemon.wait_said(ENDED)
            with trio.fail_after(PATIENCE):
                data = await read_until_broken(stalled)
        _, _, body = data.partition(b"\r\n\r\n")
        frames, torn = split_frames(body)
        texts = [status(message) for message in messages]
        assert [payload for _, payload in frames] == texts[: len(frames)]
        whole = b"\x81\x7e" + struct.pack("!H", len(texts[0])) + texts[len(frames)]
        assert whole.startswith(torn)
        assert 0 < len(frames) < len(messages)


async def read_until_broken(stream: trio.SocketStream) -> bytes:
    """Everything that came, however it ended."""
    data = bytearray()
    try:
        while chunk := await stream.receive_some(1 << 16):
            data += chunk
    except trio.BrokenResourceError:
        return bytes(data)
    return bytes(data)


async def test_one_that_reads_slowly_but_reads_loses_nothing(redis_server: EmbeddedRedis) -> None:
    # It is behind for longer than the write timeout, but never without progress for so long.
    timeout = 10.0
    settings = QUIET | {"write_timeout": f"{timeout:g}s", "max_backlog": "64MB"}
    messages = payloads(1000, 1000)
    size = sum(4 + len(status(message)) for message in messages)
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings) as daemon:
        async with await connect_silent(daemon.port, "/run:log", receive_buffer=64 << 10) as slow:
            await daemon.wait_said("connection accepted")
            started = trio.current_time()
            await redis.publish("run:log", messages)
            data = bytearray()
            with trio.fail_after(PATIENCE):
                while len(data.partition(b"\r\n\r\n")[2]) < size:
                    chunk = await slow.receive_some(32 << 10)
                    assert chunk, "ended by the daemon"
                    data += chunk
                    await trio.sleep(0.35)
            assert trio.current_time() - started > timeout
            frames, rest = split_frames(bytes(data).partition(b"\r\n\r\n")[2])
            assert ([payload for _, payload in frames], rest) == ([status(message) for message in messages], b"")
        await daemon.wait_said("connection closed", reason="client_gone")


async def test_one_large_message_ends_nobody(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    settings = QUIET | {"max_backlog": "10KB"}
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings) as daemon:
        client = await connect(nursery, daemon.port, "/run:log")
        large = "x" * (8 << 20)
        await redis.publish("run:log", [large])
        assert await client.receive(1) == [status(large)]
        await client.send_raw(frame(TEXT, b'{"type":"pong"}'))
        await client.leave()
        await daemon.wait_said("connection closed", reason="client_closed")


async def test_many_stalled_clients_are_all_ended_and_their_memory_is_given_back(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    number = 20
    settings = QUIET | {"max_backlog": "200KB", "metrics_enabled": "true"}
    async with open_redis(redis_server) as redis, open_daemon(redis_server, settings, expect=[ENDED]) as daemon:
        reader = await connect(nursery, daemon.port, "/run:log")
        stalled = [await connect_silent(daemon.port, "/run:log", receive_buffer=SMALL) for _ in range(number)]
        try:
            await daemon.wait_said("connection accepted", number + 1)
            messages = payloads(4000, 1000)
            await publish_in_step(redis, messages, [reader], step=100)
            await daemon.wait_said(ENDED, number, reason="slow_consumer")
            await wait_until(lambda: daemon.clients() == 1, "their sockets are closed")
            assert await daemon.metric("status2_disconnects_total", 'reason="slow_consumer"') == number
            assert await daemon.metric("status2_backlog_bytes") == 0
        finally:
            for stream in stalled:
                await stream.aclose()
        assert reader.messages == [status(message) for message in messages]
