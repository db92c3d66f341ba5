"""From a name to an open TCP connection: the lookup, which may outlive whoever asked, and the race of its addresses.

The system's resolver waits five seconds for a name server that is dead before it asks the next, longer than most
attempts to connect may take. A lookup that was begun anew by every attempt would never come to its end, and each one
that is left behind holds a thread for as long as the resolver pleases. So there is one lookup of a name at a time: who
gives up leaves it running, who comes next waits for the same one, and what it found in between is used once.

Who asks every second may rather have an old answer than wait so long for each: see `stale_after`.
"""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_START: Final = 0.25
"""Seconds that one address of a name has before the next is tried beside it (RFC 8305)."""


@attrs.define(eq=False)
class _Lookup:
    """One lookup that is under way, or over."""

    done: trio.Event = attrs.field(factory=trio.Event)
    waiting: int = 0
    addresses: list[str] = attrs.field(factory=list)
    error: Exception | None = None


class Names:
    """The lookups of whoever connects to the same few names again and again. See the module.

    They belong to the run of Trio in which they were asked for, and end with it. A lookup that takes longer than
    `stale_after` seconds goes on for the next who ask; this one has what was found last, if anything was (RFC 8767).
    """

    def __init__(self, *, stale_after: float = math.inf) -> None:
        self._stale_after = stale_after
        self._known: dict[tuple[str, int], list[str]] = {}
        """What was found last."""
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        """Those that are under way, and those that came to their end when nobody waited."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name, in the order in which they are to be tried. It has no deadline of its own.

        Raises OSError, or ValueError for what can't be a name.
        """
        place = (host, port)
        lookup = self._lookups.get(place)
        if lookup is None:
            lookup = self._lookups[place] = _Lookup()
            # A nursery of the one who asks would end it with his patience.
            trio.lowlevel.spawn_system_task(self._look_up, place, lookup, name=f"looking up {host}")
        lookup.waiting += 1
        try:
            with trio.move_on_after(self._stale_after if place in self._known else math.inf):
                await lookup.done.wait()
        finally:
            lookup.waiting -= 1
        if not lookup.done.is_set():
            return list(self._known[place])
        self._forget(place, lookup)
        if lookup.error is not None:
            # Each of those who wait raises an exception of its own.
            raise type(lookup.error)(*lookup.error.args) from lookup.error
        return list(lookup.addresses)

    async def _look_up(self, place: tuple[str, int], lookup: _Lookup) -> None:
        try:
            lookup.addresses = self._known[place] = await _addresses(*place)
        except Exception as error:  # noqa: BLE001 - it is raised by those who wait
            lookup.error = error.with_traceback(None)
        if lookup.waiting or lookup.error is not None:
            self._forget(place, lookup)
        lookup.done.set()

    def _forget(self, place: tuple[str, int], lookup: _Lookup) -> None:
        if self._lookups.get(place) is lookup:
            del self._lookups[place]


def certified(host: str) -> str:
    """The name that the certificate of `host` has to have: the dot that ends a full name is in none (RFC 6066, 3)."""
    return host.removesuffix(".")


async def _addresses(host: str, port: int) -> list[str]:
    """What the system knows, the addresses of the second family moved up so that either family's turn comes early."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((family, str(sockaddr[0])) for family, _, _, _, sockaddr in found))
    other = next((pair for pair in addresses if pair[0] != addresses[0][0]), None)
    if other is not None:
        addresses.remove(other)
        addresses.insert(1, other)
    return [name for _, name in addresses]


async def connect(addresses: list[str], port: int) -> trio.SocketStream:
    """A connection to the first address that takes one: each is tried when the one before failed or takes long.

    Raises OSError; that of several addresses has theirs in a group as its cause.
    """
    if len(addresses) == 1:
        # Sets TCP_NODELAY.
        return await trio.open_tcp_stream(addresses[0], port)
    connected: list[trio.SocketStream] = []
    failures: list[OSError] = []

    async def attempt(name: str, failed: trio.Event) -> None:
        try:
            connected.append(await trio.open_tcp_stream(name, port))
            nursery.cancel_scope.cancel()
        except OSError as error:
            failures.append(error)
            failed.set()

    try:
        async with trio.open_nursery() as nursery:
            for name in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, name, failed)
                with trio.move_on_after(HEAD_START):
                    await failed.wait()
    except BaseException:
        await close_all(connected)
        raise
    await close_all(connected[1:])
    if connected:
        return connected[0]
    reasons = dict.fromkeys(error.strerror or str(error) for error in failures)
    raise OSError(", ".join(reasons)) from ExceptionGroup("every address failed", failures)


async def close_all(streams: Iterable[trio.abc.Stream]) -> None:
    """Close every stream without a word, also when cancelled: it waits for nothing, so it needs no deadline."""
    with trio.CancelScope(shield=True):
        for stream in streams:
            await trio.aclose_forcefully(stream)
