"""A client's socket as a stream whose writes have a deadline and whose reads are small."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_TIMEOUT: Final = 5.0
"""Seconds that a write may make no progress."""

READ_SIZE: Final = 4096
"""Bytes read from a client at a time: what it sends costs the others the handling of so many."""


class BoundedStream(trio.abc.HalfCloseableStream):
    """A socket's stream whose writes are ended, with the connection, when they make no progress for long.

    `ended` is called when there is nothing more to be read.
    """

    def __init__(
        self, stream: trio.abc.HalfCloseableStream, sock: socket.socket, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._ended = ended
        self.upgraded = False
        """Whether an upgrade has been granted."""
        self.socket = sock
        """Where Hypercorn asks for the addresses."""
        if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            # A peer that has vanished acknowledges nothing: without this the kernel tries for a quarter of an hour.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT * 1000))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`. The deadline is for the whole of `data`: answers are small."""
        self.upgraded = self.upgraded or bytes(data[:12]) == b"HTTP/1.1 101"
        rest = memoryview(data)[self._send_nowait(data) :]
        if not rest:
            return
        with trio.move_on_after(WRITE_TIMEOUT) as deadline:
            try:
                await self._stream.send_all(rest)
            except trio.BusyResourceError:
                # Hypercorn sends one thing at a time, but for the end of the stream, which it doesn't wait for.
                raise trio.BrokenResourceError("the connection is being closed") from None
        if deadline.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client takes nothing")

    def _send_nowait(self, data: bytes | bytearray | memoryview) -> int:
        """How much the kernel takes at once: nearly always all, and each wait that is saved is a tenth of an answer."""
        if not data:
            return 0
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed")
        try:
            return self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        if self.socket.fileno() == -1:
            # trio, asked to wait for a closed socket, answers once with an error and is confused ever after.
            self._ended()
            raise trio.ClosedResourceError("this stream was closed")
        try:
            data = await self._stream.receive_some(READ_SIZE if max_bytes is None else min(max_bytes, READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._ended()
            raise
        if not data:
            self._ended()
        return data

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()
