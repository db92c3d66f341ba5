"""Opening the bytes' way to Redis: TCP, TLS or a unix socket; and saying in few words why it failed.

What is opened belongs to the caller. Nothing here retries or has a deadline: the link gives one to each attempt, and
`Steps` tells it afterwards where the time went.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

import trio

from common.names import certified, connect
from common.redis.errors import RedisConnectionError
from common.redis.tls import LastWords, TLSFilesError, ssl_context, tls_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.names import Names
    from common.redis.url import RedisURL

_SHORT: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ENOENT: "no such socket",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.ETIMEDOUT: "connection timed out",
}


class Steps:
    """Which step of opening one connection is under way, and how long each has taken, in seconds."""

    __slots__ = ("_began", "_spent", "step")

    def __init__(self) -> None:
        self.step = "getting ready"
        self._began = trio.current_time()
        self._spent: dict[str, float] = {}

    def enter(self, step: str) -> None:
        """The step before is over, and `step` begins."""
        now = trio.current_time()
        self._spent[self.step] = self._spent.get(self.step, 0.0) + now - self._began
        self.step, self._began = step, now

    def slowest(self) -> str:
        """What took most of the time so far, and how much of it."""
        self.enter(self.step)
        step = max(self._spent, key=self._spent.__getitem__)
        return f"{step} took {self._spent[step]:.1f}s"


async def open_stream(url: RedisURL, steps: Steps, names: Names, at: str | None = None) -> trio.abc.Stream:
    """Connect to where `url` points, the TLS handshake included; `steps` is told how far it has come.

    `at` is an address to take instead of the name's (see `peer_address`); the certificate is held against the name all
    the same. Raises OSError as the system does, and redis-py's RedisConnectionError for TLS that fails. Certificates
    are read anew each time.
    """
    if url.scheme == "unix":
        steps.enter("the socket")
        return await trio.open_unix_socket(url.path)
    try:
        context = None if url.tls is None else ssl_context(url.tls)
    except TLSFilesError as error:
        raise RedisConnectionError(f"the TLS files can't be used: {error}") from error
    steps.enter("resolving the name")
    addresses = [at] if at is not None else await names.resolve(url.host, url.port)
    steps.enter("TCP")
    stream = await connect(addresses, url.port)
    if context is None:
        return stream
    steps.enter("the TLS handshake")
    name = certified(url.host)
    secure = trio.SSLStream(LastWords(stream), context, server_hostname=name, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise RedisConnectionError(f"TLS handshake failed: {_why(error)}: {address(url)}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def peer_address(stream: trio.abc.Stream) -> str | None:
    """The address of the server at the other end; None where there is no choice of one (unix sockets, memory)."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if isinstance(transport, LastWords):
        transport = transport.stream
    if not isinstance(transport, trio.SocketStream) or transport.socket.family == socket.AF_UNIX:
        return None
    return str(transport.socket.getpeername()[0])


def address(url: RedisURL) -> str:
    """Where `url` points, for messages: `host:port` or the socket's path."""
    if url.scheme == "unix":
        return url.path
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


def explain(error: OSError | ValueError, url: RedisURL) -> str:
    """One short clause for a connection that could not be opened. Several addresses fail as a group."""
    if isinstance(error, socket.gaierror | ValueError):
        return f"name does not resolve: {url.host}"
    reasons = dict.fromkeys(_reason(leaf) for leaf in _leaves(error))
    return f"{', '.join(reasons)}: {address(url)}"


def explain_broken(error: trio.BrokenResourceError | trio.ClosedResourceError) -> str:
    """One short clause for a connection that failed while it was in use."""
    cause = error.__cause__
    return f"connection broken: {_reason(cause)}" if isinstance(cause, OSError) else "connection broken"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The failures of single addresses behind "every address failed"."""
    group = error.__cause__ if isinstance(error.__cause__, BaseExceptionGroup) else error
    if isinstance(group, BaseExceptionGroup):
        for inner in group.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _why(error: trio.BrokenResourceError) -> str:
    """Why a handshake broke off."""
    cause = error.__cause__
    return "connection closed" if cause is None else _reason(cause)


def _reason(error: BaseException) -> str:
    said = tls_reason(error)
    if said is not None:
        return said
    if isinstance(error, OSError) and error.errno is not None:
        return _SHORT.get(error.errno) or os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
