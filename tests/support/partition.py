"""A cluster's bus through relays that can be cut: some nodes no longer hear the others, nor are they heard.

    async with open_partition() as partition, open_embedded_cluster(announced_bus=partition.relay) as cluster:
        partition.isolate(cluster.ids[node])

Every node looks for the others under the ports of the relays. Whose a link is the packets' headers say, in both
directions. Clients and replicas reach the nodes as before.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SENDER: Final = slice(40, 80)
"""Where the header of a packet of the bus (`clusterMsg`, cluster_legacy.h) has the sender's id."""

_RECEIVE: Final = 65536


class Partition:
    """See the module; made by `open_partition`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._isolated: frozenset[str] = frozenset()
        self._links: set[_Link] = set()
        self._owners: dict[int, str] = {}
        """The id of the node that listens on a port of the bus, once it has spoken: not a packet gets past a cut."""

    def relay(self, bus: int) -> int:
        """The port of a relay that stands before the node whose bus has the port `bus`."""
        listener = socket.create_server((HOST, 0))
        listener.setblocking(False)
        self._nursery.start_soon(self._serve, trio.SocketListener(trio.socket.from_stdlib_socket(listener)), bus)
        port: int = listener.getsockname()[1]
        return port

    def isolate(self, *ids: str) -> None:
        """From now on these nodes hear each other, and the others each other; links between the two are cut."""
        self._isolated = frozenset(ids)
        for link in self._links:
            self._judge(link)

    def heal(self) -> None:
        """All hear all again."""
        self._isolated = frozenset()

    async def _serve(self, listener: trio.SocketListener, bus: int) -> None:
        async with listener:
            while True:
                self._nursery.start_soon(self._carry, await listener.accept(), bus)

    async def _carry(self, client: trio.SocketStream, bus: int) -> None:
        link = _Link(self._owners.get(bus))
        self._links.add(link)
        try:
            with link.scope:
                async with client:
                    try:
                        server = await trio.open_tcp_stream(HOST, bus)
                    except OSError:
                        return
                    async with server, trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, client, server, link, None)
                        nursery.start_soon(self._pump, server, client, link, bus)
        finally:
            self._links.discard(link)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, link: _Link, bus: int | None) -> None:
        head = bytearray()
        try:
            while data := await source.receive_some(_RECEIVE):
                if len(head) < _SENDER.stop:
                    head += data
                    if len(head) < _SENDER.stop:
                        continue
                    sender = head[_SENDER].decode("ascii")
                    if bus is not None:
                        self._owners[bus] = sender
                    link.ends.add(sender)
                    self._judge(link)
                    data = bytes(head)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a node has gone, and takes the link with it
        link.scope.cancel()

    def _judge(self, link: _Link) -> None:
        if link.ends & self._isolated and link.ends - self._isolated:
            link.scope.cancel()


class _Link:
    """One connection of the bus: whose it is, as far as they have spoken."""

    def __init__(self, owner: str | None) -> None:
        self.ends = set() if owner is None else {owner}
        self.scope = trio.CancelScope()


@asynccontextmanager
async def open_partition() -> AsyncIterator[Partition]:
    """The relays live as long as the block."""
    async with trio.open_nursery() as nursery:
        yield Partition(nursery)
        nursery.cancel_scope.cancel()
