"""A Redis on memory streams that does what its script says, spoken to in the same bytes as a real one.

`open_scripted_redis` owns the server's tasks. A link gets to it by `ScriptedRedis.connect`; a test changes its
attributes at any time: `unreachable` (connecting raises it), `loading`, `password`, `denied` channels, `proto`, `role`,
`notifies` (its `notify-keyspace-events`), `holding` (commands are taken and not answered until `release`; what is
published flows on), or `answers`, a function that may answer any command itself.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import hiredis
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Command = list[bytes]
MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]

_NOTHING = object()


def bulk(value: bytes) -> bytes:
    """A byte string in RESP."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def push(*values: bytes | int) -> bytes:
    """A RESP3 push of byte strings and integers."""
    items = (b":%d\r\n" % value if isinstance(value, int) else bulk(value) for value in values)
    return b">%d\r\n" % len(values) + b"".join(items)


def message(channel: bytes, payload: bytes) -> bytes:
    """What a subscriber gets for one publish."""
    return push(b"message", channel, payload)


class Peer:
    """One connection as the server sees it."""

    def __init__(self, client_end: MemoryStream, server_end: MemoryStream) -> None:
        self.channels: set[bytes] = set()
        self.authenticated = False
        self.held: list[Command] = []
        self.closed = False
        self._client_end = client_end
        self._server_end = server_end

    def send(self, data: bytes) -> None:
        """Put bytes on the way to the client, whatever they are."""
        if data and not self.closed:
            self._client_end.receive_stream.put_data(data)

    def drop(self) -> None:
        """End the connection: the client reads what was sent before, then the end."""
        if not self.closed:
            self.closed = True
            self._client_end.receive_stream.put_eof()

    async def commands(self) -> AsyncIterator[list[Command]]:
        """What the client sends, one list per read, until it closes."""
        reader = hiredis.Reader(notEnoughData=_NOTHING)
        while data := await self._server_end.receive_some():
            reader.feed(bytes(data))
            batch = []
            while (command := reader.gets()) is not _NOTHING:
                batch.append(command)
            yield batch


class ScriptedRedis:
    """See the module. `attempts` are the times of connecting, `commands` all that was asked, in order."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.attempts: list[float] = []
        self.commands: list[Command] = []
        self.peers: list[Peer] = []
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.unreachable: Exception | None = None
        self.loading = False
        self.password: bytes | None = None
        self.denied: set[bytes] = set()
        self.proto = 3
        self.role: bytes | None = b"master"
        self.notifies = b"Kghx"
        self.holding = False
        self.attempted = trio.Event()
        self.answers: Callable[[Peer, Command], bytes | None] = lambda _peer, _command: None
        self._nursery = nursery

    @property
    def peer(self) -> Peer:
        """The newest connection."""
        return self.peers[-1]

    async def connect(self, host: str = "", port: int = 0) -> trio.abc.Stream:
        """What a link is given as its `connect`: whatever the address, it leads here."""
        del host, port
        self.attempts.append(trio.current_time())
        self.attempted.set()
        self.attempted = trio.Event()
        await trio.lowlevel.checkpoint()
        if self.unreachable is not None:
            raise self.unreachable
        client_end, server_end = memory_stream_pair()
        peer = Peer(client_end, server_end)
        self.peers.append(peer)
        self._nursery.start_soon(self._serve, peer)
        return client_end

    async def wait_attempts(self, count: int) -> None:
        """Wait until there were so many attempts to connect."""
        while len(self.attempts) < count:
            await self.attempted.wait()

    def publish(self, channel: bytes, payload: bytes) -> int:
        """Send to all that are subscribed now; return their number."""
        heard = [peer for peer in self.peers if channel in peer.channels and not peer.closed]
        for peer in heard:
            peer.send(message(channel, payload))
        return len(heard)

    def subscribers(self, channel: bytes) -> int:
        """How many live connections are subscribed, as PUBSUB NUMSUB says it."""
        return sum(channel in peer.channels and not peer.closed for peer in self.peers)

    def asked(self, name: bytes) -> list[Command]:
        """All commands of that name so far."""
        return [command for command in self.commands if command[0] == name]

    def drop_all(self) -> None:
        """End every connection."""
        for peer in self.peers:
            peer.drop()

    def release(self) -> None:
        """Answer what was held, in order, and hold no more."""
        self.holding = False
        for peer in self.peers:
            held, peer.held = peer.held, []
            for command in held:
                peer.send(self._answer(peer, command))

    async def _serve(self, peer: Peer) -> None:
        try:
            async for batch in peer.commands():
                self.commands += batch
                if self.holding:
                    peer.held += batch
                else:
                    peer.send(b"".join(self._answer(peer, command) for command in batch))
        finally:
            peer.closed = True

    def _answer(self, peer: Peer, command: Command) -> bytes:
        scripted = self.answers(peer, command)
        if scripted is not None:
            return scripted
        match [command[0].upper(), *command[1:]]:
            case [b"HELLO", *options]:
                return self._hello(peer, options)
            case _ if self.password is not None and not peer.authenticated:
                return b"-NOAUTH Authentication required.\r\n"
            case [b"SELECT", _]:
                return b"+OK\r\n"
            case [b"PING"]:
                return b"-LOADING Redis is loading the dataset in memory\r\n" if self.loading else b"+PONG\r\n"
            case [b"SUBSCRIBE", channel]:
                if channel in self.denied:
                    return b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
                peer.channels.add(channel)
                return push(b"subscribe", channel, len(peer.channels))
            case [b"UNSUBSCRIBE", channel]:
                peer.channels.discard(channel)
                return push(b"unsubscribe", channel, len(peer.channels))
            case [b"HGETALL", key]:
                fields = self.hashes.get(key, {})
                return b"%%%d\r\n" % len(fields) + b"".join(bulk(k) + bulk(v) for k, v in fields.items())
            case [b"CONFIG", _, b"notify-keyspace-events" as name]:
                return b"%1\r\n" + bulk(name) + bulk(self.notifies)
            case [name, *_]:
                return b"-ERR unknown command '%b'\r\n" % name
        raise AssertionError(command)

    def _hello(self, peer: Peer, options: list[bytes]) -> bytes:
        if self.proto < 3:
            return b"-NOPROTO unsupported protocol version\r\n"
        if self.password is not None:
            if b"AUTH" not in options:
                return b"-NOAUTH HELLO must be called with the client already authenticated\r\n"
            if options[options.index(b"AUTH") + 2] != self.password:
                return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        peer.authenticated = True
        fields = [bulk(b"server"), bulk(b"redis"), bulk(b"proto"), b":%d\r\n" % self.proto]
        if self.role is not None:
            fields += [bulk(b"role"), bulk(self.role)]
        return b"%%%d\r\n" % (len(fields) // 2) + b"".join(fields)


@asynccontextmanager
async def open_scripted_redis() -> AsyncIterator[ScriptedRedis]:
    """A server that answers until the block ends."""
    async with trio.open_nursery() as nursery:
        yield ScriptedRedis(nursery)
        nursery.cancel_scope.cancel()


def silent_from_subscribe_on() -> Callable[[Peer, Command], bytes | None]:
    """A script: the handshake goes well; from the first SUBSCRIBE on a connection is not answered any more."""
    silent: set[Peer] = set()

    def answers(peer: Peer, command: Command) -> bytes | None:
        if command[0] == b"SUBSCRIBE":
            silent.add(peer)
        return b"" if peer in silent else None

    return answers


def hanging_up_after(name: bytes, raw: bytes) -> Callable[[Peer, Command], bytes | None]:
    """A script: the answer to that command is `raw`, and then the end of the connection."""

    def answers(peer: Peer, command: Command) -> bytes | None:
        if command[0] != name:
            return None
        peer.send(raw)
        peer.drop()
        return b""

    return answers
