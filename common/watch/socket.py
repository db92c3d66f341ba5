"""The terminal client's socket: trio-websocket's conversation on a stream of our own.

`open_socket` owns the stream, and the task that reads it, until its block is left: trio-websocket's own opener leaves a
refused handshake's stream to the garbage collector, and after the last frame waits for the server to hang up first.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import trio
from trio_websocket import wrap_client_stream

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
    status), wsproto's ProtocolError for an answer that is not HTTP, OSError and trio.BrokenResourceError.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    resource = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    async with await _open_stream(host, port, secure=parts.scheme == "wss") as stream:
        if isinstance(stream, trio.SSLStream):
            # Here, where an error shows: left to the first write, trio-websocket takes it for a closed connection.
            await stream.do_handshake()
        try:
            async with trio.open_nursery() as nursery:
                socket = await wrap_client_stream(nursery, stream, parts.netloc, resource, max_message_size=MAX_MESSAGE)
                try:
                    yield socket
                finally:
                    with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                        await socket.aclose()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from None


async def _open_stream(host: str, port: int, *, secure: bool) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if secure:
        context = ssl.create_default_context()
        return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context, https_compatible=True)
    return await trio.open_tcp_stream(host, port)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group that is not the cancellation which followed from it, else the group itself."""
    _, errors = group.split(trio.Cancelled)
    if errors is None:
        return group
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
