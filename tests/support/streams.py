"""Transports whose kernel is the test: sockets that take what they are told to, and streams over them.

`ScriptedSocket` answers each `send` from a list. `BufferedSocket` behaves like a kernel's send buffer with a reader at
the other end; `socket_pair` puts streams around it, so that a whole server runs without a port and on a MockClock.
`wait_writable` takes the place of trio's, which wants a real descriptor: see `without_kernel`.
"""

from __future__ import annotations

import errno
import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

Answer: TypeAlias = int | OSError
"""What `send` does: take at most so many bytes (0: would block), or raise."""

CAPACITY: Final = 64 * 1024
"""Bytes that a `BufferedSocket` holds for its reader unless told otherwise."""


class FakeSocket:
    """What the two fakes share: a record of every byte that the kernel took, and `close`."""

    def __init__(self) -> None:
        self.taken = bytearray()
        """Everything that `send` accepted, ever."""
        self.sends = 0
        """Calls of `send`."""
        self.closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def as_socket(self) -> socket.socket:
        """The same object for code that wants a socket and calls nothing but `send` and `recv`."""
        return cast("socket.socket", self)

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits, as a non-blocking socket does; a closed one raises EBADF."""
        self.sends += 1
        if self.closed:
            raise os_error(errno.EBADF)
        accepted = self.accept(bytes(data))
        if not accepted:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.taken += data[:accepted]
        return accepted

    def recv(self, _size: int) -> bytes:
        """Nothing is ever there at once: what the client sends comes through the stream."""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def accept(self, data: bytes) -> int:
        """How many bytes of `data` are taken now."""
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Wait until the kernel would call the socket writable."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it; whoever waits for it is told."""
        self.closed = True
        self._changed.unpark_all()


class ScriptedSocket(FakeSocket):
    """Answers each `send` from `answers`, then from `afterwards` for ever.

    It is writable at once, as long as the next answer is not to block; while it blocks it never becomes so.
    """

    def __init__(self, answers: Iterable[Answer] = (), *, afterwards: Answer = 1 << 30) -> None:
        super().__init__()
        self._answers = list(answers)
        self._afterwards = afterwards

    def answer_from_now(self, *answers: Answer, afterwards: Answer) -> None:
        """Replace what is left of the script."""
        self._answers, self._afterwards = list(answers), afterwards
        self._changed.unpark_all()

    def accept(self, data: bytes) -> int:
        answer = self._answers.pop(0) if self._answers else self._afterwards
        if isinstance(answer, OSError):
            raise answer
        return min(answer, len(data))

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        # An EAGAIN in the middle of the script passes; one that is the rest of it lasts.
        while not self._answers and self._afterwards == 0 and not self.closed:
            await self._changed.park()
        if self.closed:
            raise trio.ClosedResourceError


class BufferedSocket(FakeSocket):
    """A send buffer of `capacity` bytes, read at its other end with `read`.

    Like Linux, it calls itself writable only when a third of it is free, but takes less when asked.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.unread = bytearray()
        self.released_at = math.inf
        """When the server let go of both directions; before that it may have ended its own only (`closed`)."""
        self.broken: OSError | None = None
        """Once set, what every `send` raises: the client has reset the connection."""

    def accept(self, data: bytes) -> int:
        if self.broken is not None:
            raise self.broken
        accepted = min(len(data), self.capacity - len(self.unread))
        self.unread += data[:accepted]
        if accepted:
            self._changed.unpark_all()
        return accepted

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.closed and self.broken is None and self.capacity - len(self.unread) < self.capacity / 3:
            await self._changed.park()
        if self.closed:
            raise trio.ClosedResourceError

    async def read(self, count: int) -> bytes:
        """Take up to `count` bytes from the other end, waiting for the first; empty when the socket is closed."""
        await trio.lowlevel.checkpoint()
        while not self.unread and not self.closed:
            await self._changed.park()
        data = bytes(self.unread[:count])
        del self.unread[:count]
        self._changed.unpark_all()
        return data

    def reset(self) -> None:
        """The client is gone: what is unread is lost and every write fails."""
        self.broken = os_error(errno.ECONNRESET)
        self.unread.clear()
        self._changed.unpark_all()


class _ServerSend(trio.abc.SendStream):
    """The server's blocking way to the same socket, for HTTP answers."""

    def __init__(self, sock: BufferedSocket) -> None:
        self._sock = sock

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(bytes(data))
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await self._sock.wait_writable()
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._sock.wait_writable()

    async def aclose(self) -> None:
        self._sock.close()
        await trio.lowlevel.checkpoint()


class ServerReceive(trio.abc.ReceiveStream):
    """The server's ear. Who closes a socket ends its own direction first, then this one."""

    def __init__(self, sock: BufferedSocket, stream: trio.testing.MemoryReceiveStream) -> None:
        self._sock = sock
        self._stream = stream

    def put_data(self, data: bytes) -> None:
        """Let the server hear these bytes, without a lap of the event loop in between."""
        self._stream.put_data(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self._sock.released_at = min(self._sock.released_at, trio.current_time())
        await self._stream.aclose()


class _ClientReceive(trio.abc.ReceiveStream):
    def __init__(self, sock: BufferedSocket) -> None:
        self._sock = sock

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._sock.read(max_bytes or CAPACITY)

    async def aclose(self) -> None:
        self._sock.reset()
        await trio.lowlevel.checkpoint()


Duplex: TypeAlias = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]


def socket_pair(capacity: int = CAPACITY) -> tuple[Duplex, BufferedSocket, Duplex]:
    """The server's stream, the socket under it, and the client's stream at the other end."""
    sock = BufferedSocket(capacity)
    to_server, from_client = trio.testing.memory_stream_one_way_pair()
    server: Duplex = trio.StapledStream(_ServerSend(sock), ServerReceive(sock, from_client))
    return server, sock, trio.StapledStream(to_server, _ClientReceive(sock))


def os_error(number: int) -> OSError:
    """The error that the kernel reports with `number`, of the class that Python gives it."""
    return OSError(number, os.strerror(number))


@contextmanager
def without_kernel() -> Iterator[None]:
    """Let `trio.lowlevel.wait_writable` wait for a `FakeSocket`."""

    async def wait_writable(sock: FakeSocket) -> None:
        await sock.wait_writable()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.lowlevel, "wait_writable", wait_writable)
        yield
