"""The terminal client's socket: trio-websocket's conversation on a stream of our own.

`open_socket` owns the stream, and the task that reads it, until its block is left: trio-websocket's own opener leaves a
refused handshake's stream to the garbage collector, waits on for the answer of a server that has hung up, fails in
several libraries' ways on one that is no answer, and after the last frame waits for the server to hang up first.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

import h11
import trio
from trio_websocket import HandshakeError, wrap_client_stream
from wsproto.utilities import ProtocolError

from common.names import certified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLOSE_TIMEOUT: Final = 0.2
"""Seconds that a goodbye may take. Cancelled, we don't read its answer any more: this is the time it has to leave."""

MAX_MESSAGE: Final = 64 << 20
"""Characters of one frame: a daemon's largest payload, each byte of it escaped."""


class Socket(Protocol):
    """An open client socket. Both methods raise trio-websocket's ConnectionClosed when the conversation is over."""

    async def get_message(self) -> str | bytes:
        """The next message."""

    async def send_message(self, message: str | bytes) -> None:
        """Send one message."""


@asynccontextmanager
async def open_socket(url: str) -> AsyncIterator[Socket]:
    """Connect to `url`, a ws:// or wss:// URL. Leaving the block says goodbye within CLOSE_TIMEOUT, cancelled or not.

    Has no deadline of its own. Raises trio-websocket's HandshakeError (ConnectionRejected when the answer was an HTTP
    status), OSError and trio.BrokenResourceError; in the conversation wsproto's ProtocolError.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    resource = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    async with await _open_stream(host, port, secure=parts.scheme == "wss") as stream:
        if isinstance(stream, trio.SSLStream):
            # Here, where an error shows: left to the first write, trio-websocket takes it for a closed connection.
            await stream.do_handshake()
        link = _Link(stream)
        try:
            async with trio.open_nursery() as nursery:
                socket = await wrap_client_stream(
                    # It needs no more of a stream than that it is one.
                    nursery,
                    cast("trio.SocketStream", link),
                    parts.netloc,
                    resource,
                    max_message_size=MAX_MESSAGE,
                )
                link.opened = True
                try:
                    yield socket
                finally:
                    with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                        await socket.aclose()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            cause = _cause(group)
            if not link.opened and isinstance(cause, ProtocolError | h11.ProtocolError):
                # Their words are about what the library could not answer to it.
                cause = HandshakeError("the answer is no handshake of a WebSocket")
            raise cause from None


class _Link(trio.abc.Stream):
    """The stream as the library reads it: one that ends before it is `opened` fails, and says so."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.opened = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`. Raises ConnectionError where the handshake is broken off."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            if await self._is_open():
                raise
            raise ConnectionError("the connection broke in mid-handshake") from None
        if not data and not await self._is_open():
            raise ConnectionError("the server hung up in mid-handshake")
        return data

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()

    async def _is_open(self) -> bool:
        # Whoever waits for the answer has its turn first: it may have come right before the end.
        await trio.lowlevel.checkpoint()
        return self.opened


async def _open_stream(host: str, port: int, *, secure: bool) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context() if secure else None
    stream = await trio.open_tcp_stream(host, port)
    if context is None:
        return stream
    return trio.SSLStream(stream, context, server_hostname=certified(host), https_compatible=True)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group that is not the cancellation which followed from it, else the group itself."""
    _, errors = group.split(trio.Cancelled)
    if errors is None:
        return group
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
