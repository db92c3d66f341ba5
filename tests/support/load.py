"""Traffic through a daemon whose Redis is in trouble, and the account of what each client had to get of it.

The truth is Redis's own: PUBLISH answers to how many subscribers a message was given. `Traffic` keeps that beside each
message, publishing one round (a message for every channel) after the other until its block ends. An `era` is the time
between two outages, numbered by the traffic: a new one begins with each connection of its own, each `disturb` and
each `halt`.

A `Follower` is a client of one channel. `Traffic.check` compares what it saw with the account.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
import hiredis
import trio

from tests.support.client import PING_PAYLOAD, TEXT, handshake
from tests.support.raw import PATIENCE, RawClient, connect, open_stream, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from common.embedded import EmbeddedRedis

PACE: Final = 0.02
"""Seconds between two rounds unless told otherwise, and between two attempts to reach a server that is away."""

LAG: Final = 3.0
"""Seconds after which an answer of Redis says nothing certain: a subscriber that it counted may have left long ago."""

# Its stub says "a tuple of one", and no result.
pack: Final = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)
"""The bytes of one command."""

FULL: Final = "ERR max number of clients reached"
"""What a server that is full says, unasked, before it closes."""

_TAIL: Final = 256

_GAP: Final = b'{"type":"gap","seconds":'


@attrs.define
class Sent:
    """One message; `at` is the time before it was sent. `heard` is None where Redis did not say, or not in time."""

    payload: bytes
    era: int
    at: float
    heard: bool | None = None

    @property
    def frame(self) -> bytes:
        """The text that a client gets for it."""
        return b'{"type":"status","data":"%b"}' % self.payload


@attrs.frozen
class Gap:
    """A gap frame: what it said and when it came; of the last message before it when it was sent, when it came and in
    which era it was."""

    seconds: float
    came: float
    heard_until: float
    last_came: float
    era: int


@attrs.frozen
class Follower:
    """A client of one channel; it is owed every message from number `since` on."""

    client: RawClient
    channel: str
    wants_gap: bool
    since: int

    @property
    def undisturbed(self) -> bool:
        """Whether its conversation goes on."""
        return not self.client.ended and self.client.close_code is None

    async def wait_seen(self, text: bytes) -> None:
        """Wait until this frame is among the last ones."""
        await self.client.wait(lambda client: text in client.newest(3), within=PATIENCE)


class RedisGoneError(Exception):
    """The server closed the connection."""


class Console:
    """A connection whose end is an exception of its own."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)

    async def ask(self, *commands: Sequence[bytes | str | int]) -> list[object]:
        """The replies to these commands, sent in one write. A refusal fails the test."""
        try:
            await self._stream.send_all(b"".join(pack(tuple(command)) for command in commands))
            replies: list[object] = []
            while len(replies) < len(commands):
                reply = self._reader.gets()
                if reply is not ...:
                    if str(reply) == FULL:
                        raise RedisGoneError(FULL)
                    assert not isinstance(reply, hiredis.ReplyError), reply
                    replies.append(reply)
                elif data := await self._stream.receive_some(1 << 16):
                    self._reader.feed(bytes(data))
                else:
                    raise RedisGoneError("closed")
        except trio.BrokenResourceError as error:
            raise RedisGoneError("broken") from error
        return replies


class Traffic:
    """See the module; made by `open_traffic`."""

    def __init__(self, redis: EmbeddedRedis, channels: Iterable[str], *, pace: float, subscribers: int) -> None:
        self.era = 0
        self.sent: dict[str, list[Sent]] = {channel: [] for channel in channels}
        self._redis = redis
        self._pace = pace
        self._subscribers = subscribers
        self._console: Console | None = None
        self._turn = trio.Lock()
        self._stopping = False
        self._stopped = trio.Event()

    async def run(self) -> None:
        """Publish until `stop`, over as many connections as it takes."""
        while not self._stopped.is_set():
            try:
                async with await open_stream(self._redis.port) as stream:
                    self._console = Console(stream)
                    if self._redis.password is not None:
                        await self._console.ask(("AUTH", self._redis.password))
                    await self._publish(self._console)
            except (OSError, RedisGoneError):
                if self._console is not None:
                    self.era += 1
                    self._console = None
                await trio.sleep(PACE)

    async def disturb(self, *command: bytes | str | int) -> object:
        """Ask something between two rounds that begins a new era; return the reply."""
        async with self._turn:
            assert self._console is not None
            (reply,) = await self._console.ask(command)
            self.era += 1
        return reply

    async def halt(self) -> None:
        """Stop the server between two rounds (SIGSTOP) and return when it stands still; a new era begins."""
        async with self._turn:
            self._redis.stop()
            status = Path(f"/proc/{self._redis.pid}/stat")
            await wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", "redis-server stopped")
            self.era += 1

    async def wait_heard(self) -> None:
        """Wait until a message that is sent from now on was given to a subscriber, on every channel."""
        starts = {channel: len(sent) for channel, sent in self.sent.items()}
        await wait_until(
            lambda: all(any(one.heard for one in self.sent[channel][start:]) for channel, start in starts.items()),
            "every channel heard",
        )

    async def stop(self, followers: Iterable[Follower]) -> None:
        """End with a round that is heard on every channel, and wait until all of `followers` have seen it."""
        self._stopping = True
        with trio.fail_after(PATIENCE):
            await self._stopped.wait()
        for follower in followers:
            await follower.wait_seen(self.sent[follower.channel][-1].frame)

    async def follow(self, nursery: trio.Nursery, port: int, channel: str, *, wants_gap: bool = False) -> Follower:
        """A client whose handshake was accepted."""
        client = await connect(nursery, port, f"/{channel}?gap=1" if wants_gap else f"/{channel}")
        return Follower(client, channel, wants_gap, len(self.sent[channel]))

    async def gather(self, nursery: trio.Nursery, port: int, number: int) -> list[Follower]:
        """`number` clients, shared out over the channels; on each, one in two wants gap frames."""
        channels = list(self.sent)
        return [
            await self.follow(nursery, port, channels[index % len(channels)], wants_gap=index // len(channels) % 2 == 1)
            for index in range(number)
        ]

    def check(self, follower: Follower, *, forgiven: int = 0) -> list[Gap]:
        """Fail unless the follower saw what was published: once, in order, and all that it was owed.

        Owed is what Redis gave to a subscriber; of each era that ended, its last `forgiven` messages may be missing.
        Gap frames stand between two eras and nowhere else, at least one between two eras for those who want them;
        they are returned.
        """
        account = self.sent[follower.channel]
        places = {sent.frame: place for place, sent in enumerate(account)}
        arrived: list[int] = []
        gaps: list[Gap] = []
        gaps_at: list[int] = []
        last_came = 0.0
        for seen in follower.client.seen:
            assert seen.opcode == TEXT
            if seen.payload.startswith(_GAP):
                last = account[arrived[-1]]
                gaps.append(Gap(json.loads(seen.payload)["seconds"], seen.time, last.at, last_came, last.era))
                gaps_at.append(len(arrived))
            elif seen.payload != PING_PAYLOAD:
                assert seen.payload in places, f"never published: {seen.payload!r}"
                arrived.append(places[seen.payload])
                last_came = seen.time
        assert arrived == sorted(set(arrived)), "twice, or out of order"
        self._check_complete(account, set(arrived), follower.since, forgiven)
        assert follower.wants_gap or not gaps
        for index, (before, after) in enumerate(pairwise(arrived), start=1):
            outages = account[after].era - account[before].era
            told = gaps_at.count(index)
            assert (min(outages, 1) if follower.wants_gap else 0) <= told <= outages, (account[before], account[after])
        assert all(0 < at < len(arrived) for at in gaps_at), "a gap that is not between two messages"
        return gaps

    @staticmethod
    def _check_complete(account: list[Sent], arrived: set[int], since: int, forgiven: int) -> None:
        excused: set[int] = set()
        for era in range(account[-1].era):
            places = [place for place, sent in enumerate(account) if sent.era == era and sent.heard]
            excused.update(places[len(places) - forgiven :])
        missing = [
            sent
            for place, sent in enumerate(account)
            if place >= since and sent.heard and place not in arrived and place not in excused
        ]
        assert not missing, f"{len(missing)} lost, the first of them {missing[0]}"
        assert not any(account[place].heard is False for place in arrived)

    async def _publish(self, console: Console) -> None:
        for number in count():
            async with self._turn:
                now = trio.current_time()
                batch = [Sent(f"{self.era}-{number}-{channel}".encode(), self.era, now) for channel in self.sent]
                for sent, account in zip(batch, self.sent.values(), strict=True):
                    account.append(sent)
                counts = await console.ask(
                    *(("PUBLISH", channel, sent.payload) for channel, sent in zip(self.sent, batch, strict=True))
                )
                certain = trio.current_time() - now < LAG
                for sent, subscribers in zip(batch, counts, strict=True):
                    assert subscribers in range(self._subscribers + 1)
                    sent.heard = bool(subscribers) if certain or not subscribers else None
                if self._stopping and all(sent.heard for sent in batch):
                    self._stopped.set()
                    return
            await trio.sleep(self._pace)


@asynccontextmanager
async def open_traffic(
    redis: EmbeddedRedis, channels: Iterable[str], *, pace: float = PACE, subscribers: int = 1
) -> AsyncIterator[Traffic]:
    """Traffic that flows until the block ends: a round every `pace` seconds, each message of it to so many subscribers
    at most, one for each process that has a link."""
    traffic = Traffic(redis, channels, pace=pace, subscribers=subscribers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(traffic.run)
        yield traffic
        nursery.cancel_scope.cancel()


class Tape:
    """A client that keeps the bytes and looks at none of them, so that a burst costs the test little."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.status = 0
        self._stream = stream
        self._parts: list[bytes] = []
        self._tail = b""
        self._news = trio.lowlevel.ParkingLot()

    @property
    def data(self) -> bytes:
        """What came behind the head of the answer."""
        return b"".join(self._parts).partition(b"\r\n\r\n")[2]

    async def wait_end(self, end: bytes) -> None:
        """Wait until the last bytes are these."""
        with trio.fail_after(PATIENCE):
            while not self._tail.endswith(end):
                await self._news.park()

    async def aclose(self) -> None:
        """Leave without a word."""
        await self._stream.aclose()

    async def run(self, path: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Shake hands, `started()` when the answer has come, and keep what follows until the other side ends."""
        async with self._stream:
            await self._stream.send_all(handshake(path))
            while data := await self._receive():
                self._parts.append(bytes(data))
                self._tail = (self._tail + data)[-_TAIL:]
                self._news.unpark_all()
                if not self.status and b"\r\n\r\n" in b"".join(self._parts):
                    self.status = int(self._parts[0].split(b" ", 2)[1])
                    task_status.started()

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self._stream.receive_some(1 << 18)
        except trio.ClosedResourceError:
            return b""


async def open_tape(nursery: trio.Nursery, port: int, path: str) -> Tape:
    """A tape whose handshake was answered, one way or the other; it runs in `nursery`."""
    tape = Tape(await open_stream(port))
    with trio.fail_after(PATIENCE):
        await nursery.start(tape.run, path)
    return tape
