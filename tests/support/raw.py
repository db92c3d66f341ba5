"""Real sockets on 127.0.0.1, spoken to by hand: WebSocket clients, HTTP requests and Redis commands.

Whoever opens one says who ends it: `connect` gives a client's task to the caller's nursery, the others are blocks.
Everything that waits has a deadline (`PATIENCE`) that a loaded machine does not meet.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

import attrs
import hiredis
import trio

from tests.support.client import CLOSE, Client, close_frame, handshake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from common.embedded import EmbeddedRedis

HOST: Final = "127.0.0.1"

PATIENCE: Final = 60.0
"""Seconds until a test gives up what it waits for: the one bound of every wait in the suite, and a failure only where
nothing comes at all. How fast something is is measured by the bench."""

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of httpx (`verify`), which make one of their own else: that costs more than all that they ask."""

POLL: Final = 0.01
LONGEST_POLL: Final = 0.2
"""Seconds between two looks at what is waited for: a twentieth of how long it has been, between these two."""
_PIPELINE: Final = 1000
# Its stub says "a tuple of one", and no result.
_pack: Final = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], what: str, *, within: float = PATIENCE) -> None:
    """Wait until `condition` holds; fails with `what` after `within` seconds. What takes long is looked at seldom."""
    begun = trio.current_time()
    with trio.move_on_after(within):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await trio.sleep(min(max(POLL, (trio.current_time() - begun) / 20), LONGEST_POLL))
    raise AssertionError(f"not within {within:g} s: {what}")


async def open_stream(port: int, *, receive_buffer: int | None = None) -> trio.SocketStream:
    """A connection that the caller closes. `receive_buffer` bounds what the kernel takes for it, in bytes."""
    sock = trio.socket.socket()
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with trio.fail_after(PATIENCE):
            await sock.connect((HOST, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def reset(stream: trio.SocketStream) -> None:
    """End the connection as a crashed host does: with a reset, whatever is unread or unsent."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    stream.socket.close()


# -- WebSocket --------------------------------------------------------------------------------------------------------


class RawClient(Client):
    """A client with a socket of its own, which its `run` closes. It answers the server's close frame, as it should."""

    stream: trio.SocketStream

    async def run(self) -> None:
        """Read until the server ends, then close."""
        async with self.stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_close)
            await super().run()
            nursery.cancel_scope.cancel()

    @property
    def closing(self) -> bool:
        """Whether a close frame came."""
        return bool(self.seen) and self.seen[-1].opcode == CLOSE

    async def receive(self, count: int, *, within: float = PATIENCE) -> list[bytes]:
        """Wait for `count` messages in all, pings left out, and return all that came."""
        await self.wait(lambda client: len(client.seen) >= count and len(client.messages) >= count, within=within)
        return self.messages

    async def receive_until(self, last: bytes) -> list[bytes]:
        """Wait for this message, and return all that came, pings left out."""
        await self.wait(lambda client: last in client.newest(3), within=PATIENCE)
        return self.messages

    async def send_eof(self) -> None:
        """Send no more; the other side may be gone already."""
        try:
            async with self._sending:
                await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def leave(self) -> None:
        """Say goodbye and wait until the server has closed."""
        await self.send_close()
        await self.wait_ended(within=PATIENCE)

    async def _answer_close(self) -> None:
        await self.wait(lambda _: self.closing, within=math.inf)
        await self.send_raw(close_frame(self.close_code))
        await self.send_eof()


async def start_client(nursery: trio.Nursery, port: int, data: bytes = b"", *, answers: bool = True) -> RawClient:
    """A client that sends `data`, and reads in `nursery` from now on; `answers` the heartbeats or not."""
    client = RawClient(await open_stream(port), answers=answers)
    nursery.start_soon(client.run)
    await client.send_raw(data)
    return client


async def connect(
    nursery: trio.Nursery, port: int, path: str, headers: Mapping[str, str] | None = None, *, more: bytes = b""
) -> RawClient:
    """A client whose handshake was accepted; it reads in `nursery` until the server or the nursery ends."""
    client = await start_client(nursery, port, handshake(path, headers) + more)
    await client.wait(lambda _: client.status is not None or client.ended, within=PATIENCE)
    assert client.status == 101, bytes(client.head + client.body)
    return client


async def connect_silent(port: int, path: str, *, receive_buffer: int | None = None) -> trio.SocketStream:
    """A socket whose handshake is sent and which reads nothing, not even the answer. The caller closes it."""
    stream = await open_stream(port, receive_buffer=receive_buffer)
    await stream.send_all(handshake(path))
    return stream


# -- HTTP -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Answer:
    """What came back until the server closed; status 0 when nothing did."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Answer:
        """Split a whole HTTP response."""
        if not data:
            return cls(0, {}, b"")
        head, blank, body = data.partition(b"\r\n\r\n")
        assert blank, f"a head without an end: {data!r}"
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return cls(int(status.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}, body)


async def ask(port: int, request: bytes, *, within: float = PATIENCE) -> Answer:
    """Send these bytes and read until the server closes, `within` seconds at most. A reset fails the test."""
    with trio.fail_after(within):
        async with await open_stream(port) as stream:
            await stream.send_all(request)
            return Answer.parse(await read_to_end(stream))


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Everything until the other side ends. The caller sets the deadline."""
    data = bytearray()
    while chunk := await stream.receive_some(1 << 16):
        data += chunk
    return bytes(data)


async def fetch(
    port: int, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, *, within: float = PATIENCE
) -> Answer:
    """One plain request."""
    return await ask(port, request_head(path, method, headers), within=within)


def request_head(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a plain request."""
    fields = {"Host": "example.org", **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


# -- Redis ------------------------------------------------------------------------------------------------------------


class RedisConnection:
    """One connection that asks and is answered; made by `open_redis`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)

    async def call(self, *args: bytes | str | int) -> object:
        """The reply to one command; an error reply fails the test."""
        await self.send(*args)
        return await self.next()

    async def publish(self, channel: str, payloads: Iterable[bytes | str]) -> list[object]:
        """Publish in order, pipelined; return how many subscribers got each."""
        commands = [_pack(("PUBLISH", channel, payload)) for payload in payloads]
        counts: list[object] = []
        for start in range(0, len(commands), _PIPELINE):
            await self._stream.send_all(b"".join(commands[start : start + _PIPELINE]))
            counts += [await self.next() for _ in commands[start : start + _PIPELINE]]
        return counts

    async def subscribers(self, channel: str) -> int:
        """How many connections are subscribed to `channel`, as Redis counts them."""
        reply = await self.call("PUBSUB", "NUMSUB", channel)
        assert isinstance(reply, list)
        count = reply[1]
        assert isinstance(count, int)
        return count

    async def send(self, *args: bytes | str | int) -> None:
        """Send one command; `next` reads what comes of it."""
        await self._stream.send_all(_pack(args))

    async def next(self) -> object:
        """The next reply."""
        with trio.fail_after(PATIENCE):
            while (reply := self._reader.gets()) is ...:
                data = await self._stream.receive_some(1 << 16)
                assert data, "closed by Redis"
                self._reader.feed(bytes(data))
        assert not isinstance(reply, hiredis.ReplyError), reply
        return reply


@asynccontextmanager
async def open_redis(redis: EmbeddedRedis) -> AsyncIterator[RedisConnection]:
    """A connection to the test's server, closed with the block."""
    async with await open_stream(redis.port) as stream:
        connection = RedisConnection(stream)
        if redis.password is not None:
            await connection.call("AUTH", redis.password)
        yield connection
