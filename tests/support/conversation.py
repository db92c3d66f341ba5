"""One `Peer` talking to one `Client` in memory, served as the server does: converse, say goodbye, close."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio
import trio.testing

from common.disconnect import HANGUPS
from common.web.peer import Peer, PeerPolicy
from common.web.turns import Turns
from tests.support.client import Client
from tests.support.streams import BufferedSocket, Duplex, socket_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

RESPONSE: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

ALL_HANGUPS: Final = frozenset(HANGUPS)

POLICY: Final = PeerPolicy(max_backlog=1 << 20, max_message_size=1000, write_timeout=2.0, hangup=ALL_HANGUPS)

TRANSPORTS: Final = ("socket", "memory", "lockstep")
"""A socket with a kernel's buffer, an unbounded stream, and one that holds nothing."""


def make_transport(kind: str) -> tuple[Duplex, BufferedSocket | None, Duplex]:
    """The server's stream, its socket if it has one, and the client's stream."""
    if kind == "socket":
        return socket_pair()
    make = trio.testing.memory_stream_pair if kind == "memory" else trio.testing.lockstep_stream_pair
    ours, theirs = make()
    return (
        trio.StapledStream(ours.send_stream, ours.receive_stream),
        None,
        trio.StapledStream(theirs.send_stream, theirs.receive_stream),
    )


@attrs.define
class Conversation:
    """Both ends, and when the server's part was over."""

    peer: Peer
    client: Client
    stream: Duplex
    sock: BufferedSocket | None
    kinds: list[str]
    """What the peer observed, in order."""
    nursery: trio.Nursery
    over: trio.Event
    scope: trio.CancelScope
    over_at: float | None = None

    async def serve(self, trailing: bytes) -> None:
        """What `Server` does with an accepted handshake."""
        with self.scope:
            try:
                await self.peer.converse(RESPONSE, trailing)
                await self.peer.say_goodbye()
            finally:
                try:
                    await trio.aclose_forcefully(self.stream)
                finally:
                    self.over_at = trio.current_time()
                    self.over.set()

    async def wait_over(self, *, within: float = 60.0) -> None:
        """Wait until the server has closed the transport and the client has read to its end."""
        with trio.fail_after(within):
            await self.over.wait()
            await self.client.wait_ended()


@asynccontextmanager
async def conversation(
    transport: str = "socket",
    *,
    policy: PeerPolicy = POLICY,
    trailing: bytes = b"",
    reads: bool = True,
    observe: Callable[[Peer, str], None] | None = None,
    before: Callable[[Peer], None] | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[Conversation]:
    """An open conversation; `before` sees the peer before its 101; `turns` are its own unless given, and
    have no pace.

    At the end no task may be left.
    """
    stream, sock, theirs = make_transport(transport)
    kinds: list[str] = []

    def note(peer: Peer, kind: str) -> None:
        kinds.append(kind)
        if observe is not None:
            observe(peer, kind)

    peer = Peer(stream, sock.as_socket() if sock else None, policy, turns or Turns(rate=math.inf), note)
    client = Client(theirs)
    if before is not None:
        before(peer)
    async with trio.open_nursery() as nursery:
        talk = Conversation(peer, client, stream, sock, kinds, nursery, trio.Event(), trio.CancelScope())
        if reads:
            nursery.start_soon(client.run)
        nursery.start_soon(talk.serve, trailing)
        await trio.testing.wait_all_tasks_blocked()
        yield talk
        nursery.cancel_scope.cancel()
