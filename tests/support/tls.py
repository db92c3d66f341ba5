"""Small servers on 127.0.0.1, each played by a function; with the certificate of `localhost` they speak TLS."""

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CERTIFICATE: Final = Path(__file__).parent / "localhost.pem"
"""Of `localhost`, with its key, signed by nobody else."""


class AllHere(trio.abc.HostnameResolver):
    """Every name is this machine's."""

    async def getaddrinfo(self, host: bytes | str | None, port: object, *_: object, **__: object) -> Any:
        """See `trio.abc.HostnameResolver`."""
        del host
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> Any:
        """See `trio.abc.HostnameResolver`. Nobody asks."""
        raise NotImplementedError


@attrs.frozen
class LocalServer:
    """Where a server listens, and how its connections have ended: `left` or `broken`."""

    port: int
    ends: list[str] = attrs.field(factory=list)


def secured(stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream]:
    """The server's side of TLS, not yet shaken hands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True)


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[LocalServer]:
    """A server that plays `serve` to each connection, and closes it then."""

    async def take(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
            peer.ends.append("left")
        except trio.BrokenResourceError:
            peer.ends.append("broken")
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        peer = LocalServer(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, take, [listener])
        yield peer
        nursery.cancel_scope.cancel()


async def answer_without_tls(stream: trio.SocketStream) -> None:
    """A server that was not told that TLS is spoken to it."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stay_silent(stream)


async def hang_up(stream: trio.SocketStream) -> None:
    """A server that goes as soon as it has heard something."""
    await stream.receive_some()


async def stay_silent(stream: trio.abc.ReceiveStream) -> None:
    """A server that takes all and never says a word."""
    while await stream.receive_some():
        pass
