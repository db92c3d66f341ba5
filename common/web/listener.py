"""The port: bound once, accepted from until the daemon ends.

`bind` is synchronous, so that a taken port is known before anything else starts. `accept` runs beside the tasks that
it starts, one per socket, in the nursery that it is given. The accept loop is the project's own because the wire writes
to the plain socket, which trio's listener keeps to itself.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import trio

from common.web.accepted import Accepted
from common.web.forwarded import parse_address
from common.web.stream import ClientStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from common.config import ListenAddress
    from common.logs import Logger

BACKLOG: Final = 4096
"""Connections that the kernel keeps ready for us: with 64, 5,000 clients at once took a minute to get in."""

BATCH: Final = 64
"""Sockets accepted before those who were let in get a turn."""

ANY_PORT_TRIES: Final = 10
"""Ports that are tried before the last one, where any that is free at all addresses of a host will do."""

PAUSE: Final = 0.1
"""Seconds between tries while there is no descriptor left for a new socket."""

# How hosts without IPv6 say so; a taken port is a taken port.
_NO_SUCH_FAMILY: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# accept(2): errors of the network that belong to the one connection and must be treated like "try again".
_PASSING: Final = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
}


def bind(address: ListenAddress) -> list[socket.socket]:
    """Listening sockets for `address`; without a host one socket serves IPv4 and IPv6.

    Raises `OSError` if the port is taken or the host has no address here.
    """
    if address.host is None:
        return [_bind_everywhere(address.port)]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for _ in range(0 if address.port else ANY_PORT_TRIES):
        try:
            return _bind_all(found)
        except OSError as error:
            # The port that is free at one address may be somebody's at another.
            if error.errno != errno.EADDRINUSE:
                raise
    return _bind_all(found)


def _bind_all(found: Sequence[tuple[int, int, int, str, tuple[Any, ...]]]) -> list[socket.socket]:
    """One listening socket for each of these addresses, all at one port."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            # Port 0 is any free port; what the first address got, the others must get too.
            port = sockets[0].getsockname()[1] if sockets else place[1]
            try:
                sockets.append(_listen(family, (place[0], port, *place[2:])))
            except OSError as error:
                # "localhost" has an IPv6 address by name even where IPv6 is off; one that works is enough.
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def take_over(descriptors: Iterable[int]) -> list[socket.socket]:
    """The listening sockets that these descriptors are. Raises `OSError` if one is none."""
    with ExitStack() as failed:
        sockets = [failed.enter_context(_taken_over(number)) for number in descriptors]
        failed.pop_all()
    return sockets


def _taken_over(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise OSError(errno.EINVAL, f"descriptor {descriptor} is no listening stream socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _bind_everywhere(port: int) -> socket.socket:
    try:
        return _listen(socket.AF_INET6, ("::", port))
    except OSError as error:
        if error.errno not in _NO_SUCH_FAMILY:
            raise
        return _listen(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - all interfaces is what ":port" means


def _listen(family: int, place: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(place[0] != "::"))
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def bound_to(sockets: Sequence[socket.socket]) -> list[str]:
    """The addresses that the sockets listen on, as `host:port` or `unix:/path`."""
    return [_spelled(sock.getsockname()) for sock in sockets]


def _spelled(name: tuple[str, int] | str) -> str:
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


async def accept(
    listener: socket.socket, serve: Callable[[Accepted], Awaitable[None]], handlers: trio.Nursery, log: Logger
) -> None:
    """Accept until cancelled, starting `serve` in `handlers` for each socket."""
    paused = False
    accepted = 0
    while True:
        try:
            sock, name = listener.accept()
        except (BlockingIOError, InterruptedError):
            # Not before everybody who waited is in: one socket that closes lets in one, and that is no recovery.
            if paused:
                paused = False
                log.info("accepting again")
            await trio.lowlevel.wait_readable(listener)
            continue
        except OSError as error:
            if error.errno in _EXHAUSTED:
                if not paused:
                    paused = True
                    log.error("accepting paused", error=os.strerror(error.errno))
                await trio.sleep(PAUSE)
            elif error.errno in _PASSING:
                await trio.lowlevel.checkpoint()
            else:
                raise
            continue
        handlers.start_soon(serve, _accepted(sock, name))
        # It is its task's: until the next one comes nothing here may keep it.
        del sock
        accepted += 1
        if accepted % BATCH == 0:
            await trio.lowlevel.checkpoint()


def _accepted(sock: socket.socket, name: tuple[object, ...]) -> Accepted:
    sock.setblocking(False)
    return Accepted(ClientStream(sock), sock, parse_address(str(name[0])) if name else None)
