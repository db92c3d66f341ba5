"""A TCP proxy that does to a connection what networks do: latency, jitter, loss, a narrow line, cuts, silence, resets.

`open_fault_proxy` owns the listening port and every connection for its block. What the proxy does is changed while it
runs: `weather` is how bytes travel from now on, the methods are what happens to the connections that are open. Bytes
are never altered nor reordered, only late, or cut off. `relay` is the same for two streams of any kind.

It stands between a daemon and its Redis, and between clients and a daemon; `bench.chaos` runs it too.
"""

from __future__ import annotations

import math
import random
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HOST: Final = "127.0.0.1"

CHUNK: Final = 1 << 16
"""Bytes read at a time."""

UNDER_WAY: Final = 64
"""Chunks of one direction that may be on their way; whoever sends more has to wait, as with a full window."""

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.frozen(kw_only=True)
class Weather:
    """How bytes travel, in both directions. The default is a line that one does not notice."""

    latency: float = 0.0
    """Seconds that each chunk is under way."""
    jitter: float = 0.0
    """Seconds by which the latency may be shorter or longer, each chunk anew."""
    loss: float = 0.0
    """Share of the chunks that are stalled: TCP makes a retransmission of a loss, not a hole."""
    stall: tuple[float, float] = (0.2, 1.0)
    """Seconds that such a chunk is late, from and to."""
    bandwidth: float = math.inf
    """Bytes a second of each connection and direction."""
    piece: int = CHUNK
    """Bytes sent at a time: 1 is a slow drip, where the bandwidth is low."""
    silent: bool = False
    """A black hole: nothing arrives, and nobody is told."""

    def delay(self, rng: random.Random) -> float:
        """Seconds that the next chunk is under way."""
        seconds = max(0.0, self.latency + rng.uniform(-self.jitter, self.jitter)) if self.jitter else self.latency
        if self.loss and rng.random() < self.loss:
            seconds += rng.uniform(*self.stall)
        return seconds


CLEAR: Final = Weather()


class Line:
    """What all connections of a proxy share: the weather, and the chance in it."""

    def __init__(self, rng: random.Random, weather: Weather = CLEAR) -> None:
        self.rng = rng
        self._weather = weather
        self._changed = trio.Event()

    @property
    def weather(self) -> Weather:
        """How bytes travel from now on."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        self._changed.set()
        self._changed = trio.Event()

    async def wait_audible(self) -> None:
        """Wait until the line is not silent."""
        while self._weather.silent:
            await self._changed.wait()


@attrs.define(eq=False)
class Connection:
    """One client and the server that it is connected to, with what will happen to them."""

    client: trio.abc.HalfCloseableStream
    server: trio.abc.HalfCloseableStream
    line: Line
    credit: float = math.inf
    """Bytes that still get from the server to the client; the connection is cut behind the last of them."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _half_closing: trio.Event = attrs.field(factory=trio.Event, init=False)
    _to_client: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    def cut(self) -> None:
        """End both sides, as if the process between them had died."""
        self._scope.cancel()

    def reset(self) -> None:
        """End both sides with a reset, as a crashed host does."""
        for stream in (self.client, self.server):
            if isinstance(stream, trio.SocketStream):
                # One that has just been closed needs none.
                with suppress(OSError, trio.ClosedResourceError):
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._scope.cancel()

    def half_close(self) -> None:
        """Tell the client that the server has sent its last byte, which it has not; the other direction goes on."""
        self._half_closing.set()

    async def run(self) -> None:
        """Carry bytes until both sides have ended, one of them breaks, or the connection is cut."""
        async with self.client, self.server:
            with self._scope:
                async with trio.open_nursery() as halving:
                    halving.start_soon(self._half_close)
                    async with trio.open_nursery() as carrying:
                        carrying.start_soon(self._carry, self.server, self.client, True)
                        carrying.start_soon(self._carry, self.client, self.server, False)
                    halving.cancel_scope.cancel()

    async def _half_close(self) -> None:
        await self._half_closing.wait()
        with suppress(*_GONE):
            async with self._to_client:
                await self.client.send_eof()

    async def _carry(
        self, source: trio.abc.HalfCloseableStream, sink: trio.abc.HalfCloseableStream, down: bool
    ) -> None:
        """One direction. A side that breaks breaks the other."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](UNDER_WAY)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, source, send)
                nursery.start_soon(self._write, receive, sink, down)
        except* _GONE:
            self.reset()

    async def _read(
        self, source: trio.abc.HalfCloseableStream, channel: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        due = -math.inf
        async with channel:
            while True:
                await self.line.wait_audible()
                data = bytes(await source.receive_some(CHUNK))
                # In order: what left later arrives later.
                due = max(due, trio.current_time() + self.line.weather.delay(self.line.rng))
                await channel.send((due, data))
                if not data:
                    return

    async def _write(
        self,
        channel: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.abc.HalfCloseableStream,
        down: bool,
    ) -> None:
        async with channel:
            async for due, data in channel:
                await trio.sleep_until(due)
                if not data:
                    await self.line.wait_audible()
                    await sink.send_eof()
                    return
                for piece in self._pieces(data):
                    await self.line.wait_audible()
                    await (self._send_down(piece) if down else sink.send_all(piece))
                    if self.line.weather.bandwidth < math.inf:
                        await trio.sleep(len(piece) / self.line.weather.bandwidth)

    async def _send_down(self, piece: bytes) -> None:
        async with self._to_client:
            if self._half_closing.is_set():
                return
            await self.client.send_all(piece if len(piece) < self.credit else piece[: int(self.credit)])
        self.credit -= len(piece)
        if self.credit <= 0:
            self.cut()
            await trio.lowlevel.checkpoint()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """`data` in pieces whose size is that of the weather in which they go out."""
        start = 0
        while start < len(data):
            end = start + self.line.weather.piece
            yield data[start:end]
            start = end


class FaultProxy:
    """See the module; made by `open_fault_proxy`. `port` is the one to connect to, as long as it lives."""

    def __init__(self, nursery: trio.Nursery, port: int, upstream: int, rng: random.Random) -> None:
        self.port = port
        self.carried = 0
        """Connections that were accepted."""
        self._nursery = nursery
        self._upstream = upstream
        self._line = Line(rng)
        self._listening: trio.CancelScope | None = None
        self._connections: set[Connection] = set()

    @property
    def weather(self) -> Weather:
        """How bytes travel from now on."""
        return self._line.weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._line.weather = weather

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def cut(self) -> None:
        """End all connections."""
        for connection in list(self._connections):
            connection.cut()

    def cut_after(self, number: int) -> None:
        """Cut each connection behind the next `number` bytes of its server, in the middle of whatever that is."""
        for connection in self._connections:
            connection.credit = number

    def reset(self) -> None:
        """End all connections with a reset."""
        for connection in list(self._connections):
            connection.reset()

    def half_close(self) -> None:
        """Tell all clients that their server has sent its last byte."""
        for connection in self._connections:
            connection.half_close()

    def refuse(self) -> None:
        """Refuse whoever connects from now on; the connections that there are stay."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def admit(self) -> None:
        """Listen, again: the opposite of `refuse`."""
        if self._listening is None:
            # `open_tcp_listeners` sets SO_REUSEADDR: the port is ours, whoever has just been here.
            (listener,) = await trio.open_tcp_listeners(self.port, host=HOST)
            self._listening = trio.CancelScope()
            self._nursery.start_soon(self._accept, listener, self._listening)

    async def _accept(self, listener: trio.SocketListener, scope: trio.CancelScope) -> None:
        with scope:
            async with listener:
                while True:
                    self._nursery.start_soon(self._serve, await listener.accept())

    async def _serve(self, client: trio.SocketStream) -> None:
        self.carried += 1
        async with client:
            # In a black hole no connection is made; nor does a client hear that there is no server.
            await self._line.wait_audible()
            try:
                server = await trio.open_tcp_stream(HOST, self._upstream)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            connection = Connection(client, server, self._line)
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)


@asynccontextmanager
async def open_fault_proxy(
    upstream: int, *, rng: random.Random | None = None, port: int | None = None
) -> AsyncIterator[FaultProxy]:
    """A proxy before the server on 127.0.0.1 with port `upstream`, which need not be there yet; it listens when the
    block is entered. `rng` is the chance in its weather."""
    async with trio.open_nursery() as nursery:
        proxy = FaultProxy(nursery, port or free_port(), upstream, rng or random.Random())
        await proxy.admit()
        yield proxy
        nursery.cancel_scope.cancel()
