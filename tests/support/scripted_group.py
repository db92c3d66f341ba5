"""Scripted servers and sentinels by their addresses, on memory streams: what a link under sentinels may meet.

`open_watched_link` runs a link to the group; each server is a `ScriptedRedis`, each sentinel one that also answers
`SENTINEL`. Whoever connects to an address where nobody is is refused.
"""

from __future__ import annotations

import errno
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.links import make_link
from common.redis.policy import Channels, LinkPolicy, Replica
from common.redis.url import parse_redis_url
from tests.support.logbook import Logbook
from tests.support.recording import RecordingHandler
from tests.support.scripted_redis import Command, Peer, ScriptedRedis, bulk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.redis.election import Address
    from common.redis.links import RedisLink
    from common.secret import Secret

A: Final = ("10.0.0.1", 6379)
B: Final = ("10.0.0.2", 6379)
SENTINELS: Final = ("s1", "s2", "s3")
URL: Final = f"redis+sentinel://{','.join(SENTINELS)}/mymaster/2"
CHANNEL: Final = b"run:status"

LISTENING: Final = LinkPolicy(
    request_timeout=1.0, retry_base=1.0, retry_max=30.0, max_retries=0, replica=Replica.FOLLOW, duck=30.0
)
"""As statusd's."""
READING: Final = attrs.evolve(LISTENING, replica=Replica.LEAVE, duck=0.0)
"""As preflightd's."""


def map_of(fields: dict[bytes, bytes]) -> bytes:
    """A map of byte strings in RESP."""
    return b"%%%d\r\n" % len(fields) + b"".join(bulk(name) + bulk(value) for name, value in fields.items())


class ScriptedSentinel(ScriptedRedis):
    """A sentinel that says what its attributes say; `names` None: it knows no master of that name."""

    def __init__(self, nursery: trio.Nursery, names: Address | None) -> None:
        super().__init__(nursery)
        self.role = None
        self.names = names
        self.describes: Address | None = None
        """Whom its details are about, where that is not whom it names."""
        self.epoch = 0
        self.flags = b"master"
        self.down_after = 5.0
        self.refusal: bytes | None = None
        """The error that it answers to every question."""
        self.answers = self._script

    def _script(self, _peer: Peer, command: Command) -> bytes | None:
        if command[0] != b"SENTINEL":
            return None
        if self.refusal is not None:
            return self.refusal
        if command[2] != b"mymaster" or self.names is None:
            return b"_\r\n" if command[1] == b"GET-MASTER-ADDR-BY-NAME" else b"-ERR No such master with that name\r\n"
        host, port = self.names
        if command[1] == b"GET-MASTER-ADDR-BY-NAME":
            return b"*2\r\n" + bulk(host.encode()) + bulk(b"%d" % port)
        host, port = self.describes or self.names
        return map_of(
            {
                b"name": b"mymaster",
                b"ip": host.encode(),
                b"port": b"%d" % port,
                b"flags": self.flags,
                b"config-epoch": b"%d" % self.epoch,
                b"down-after-milliseconds": b"%d" % (self.down_after * 1000),
            }
        )


class ScriptedGroup:
    """Two servers, A the primary and B its replica, and three sentinels that agree about that."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.a, self.b = ScriptedRedis(nursery), ScriptedRedis(nursery)
        self.b.role = b"replica"
        self.sentinels = [ScriptedSentinel(nursery, A) for _ in SENTINELS]
        self.places: dict[Address, ScriptedRedis] = {A: self.a, B: self.b}
        self.places |= {(name, 26379): each for name, each in zip(SENTINELS, self.sentinels, strict=True)}
        self.tried: list[tuple[Address, float]] = []
        """Every attempt to connect to a server, and when."""

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """What a link is given as its `connect`."""
        if host not in SENTINELS:
            self.tried.append(((host, port), trio.current_time()))
        if (host, port) not in self.places:
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return await self.places[host, port].connect(host, port)

    def vanish(self, place: Address) -> None:
        """Nobody is there any more, and every connection ends."""
        self.places.pop(place).drop_all()

    def silence(self) -> None:
        """All sentinels are gone."""
        for name in SENTINELS:
            self.vanish((name, 26379))

    def promote(self, place: Address = B, *, epoch: int = 1, by: int | None = None) -> None:
        """The server there is the primary; all sentinels know, or the one of that number. Nobody else is told."""
        self.places[place].role = b"master"
        for sentinel in self.sentinels if by is None else [self.sentinels[by]]:
            sentinel.names, sentinel.epoch = place, epoch


@attrs.frozen
class WatchedLink:
    """A link under sentinels with everything around it in the test's hands."""

    link: RedisLink
    group: ScriptedGroup
    handler: RecordingHandler
    logbook: Logbook

    def heard(self) -> list[bytes]:
        """What came over `CHANNEL`."""
        return self.handler.heard.get(CHANNEL, [])

    def followed(self) -> list[tuple[str, str]]:
        """The addresses of its servers and their states."""
        return [(node.address, node.state) for node in self.link.describe().nodes]


def make_watched(
    nursery: trio.Nursery, policy: LinkPolicy = LISTENING, *, url: str = URL, sentinel_password: Secret | None = None
) -> WatchedLink:
    """A link under sentinels that does not run yet."""
    group, handler, logbook = ScriptedGroup(nursery), RecordingHandler(), Logbook()
    link = make_link(
        url=parse_redis_url(url, 2),
        sentinel_password=sentinel_password,
        client_name="statusd",
        policy=policy,
        handler=handler,
        log=logbook.log,
        rng=random.Random(0),
        channels=Channels.MESSAGES,
        connect=group.connect,
    )
    return WatchedLink(link, group, handler, logbook)


@asynccontextmanager
async def open_watched_link(policy: LinkPolicy = LISTENING) -> AsyncIterator[WatchedLink]:
    """A link that is online at A, and subscribed to `CHANNEL`."""
    async with trio.open_nursery() as nursery:
        bench = make_watched(nursery, policy)
        await nursery.start(bench.link.run)
        await bench.link.wait_active(bench.link.subscribe(CHANNEL))
        yield bench
        nursery.cancel_scope.cancel()
