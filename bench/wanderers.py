"""Clients of all daemons that come and go, each in a way of its own, until they are told to stay away.

leaving   says goodbye and waits for the answer
reload    goes without a word and is back at once
vanishing ends its connection with a reset, as a crashed host does
deaf      reads nothing any more and answers no ping: the daemon has to notice
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench import wire
from tests.support.raw import HOST, reset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STAY: Final = (0.3, 4.0)
AWAY: Final = (0.1, 0.8)
"""Seconds, from and to."""
ANSWER: Final = 20.0
"""Seconds that one waits for the answer to its handshake, or to its goodbye."""
_PING: Final = wire.server_text(b'{"type":"ping"}')
_PONG: Final = wire.masked_frame(wire.TEXT, b'{"type":"pong"}')
_GOODBYE: Final = wire.masked_frame(wire.CLOSE, b"\x03\xe8")
WAYS: Final = ("leaving", "reload", "vanishing", "deaf")


class Wanderer:
    """One conversation: it answers pings of both kinds while it is not `deaf`, and counts what it gets."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.deaf = False
        """Whether it keeps the connection and reads nothing any more."""
        self.frames = 0
        self.answer = trio.Event()
        """The handshake was answered, or the other side has ended."""
        self.refusal: str | None = "no answer"
        """Why there is no conversation."""
        self.ended = trio.Event()
        self._sending = trio.Lock()

    async def say(self, data: bytes) -> None:
        """Send it whole; the other side may be gone already."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._sending:
                await self._stream.send_all(data)

    async def run(self, request: bytes) -> None:
        """Ask, and read until the other side ends."""
        async with self._stream:
            await self.say(request)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._read()
            self.answer.set()
            self.ended.set()

    async def _read(self) -> None:
        data = b""
        while chunk := await self._stream.receive_some(1 << 16):
            data += chunk
            if not self.answer.is_set():
                try:
                    rest = wire.split_handshake(data)
                except wire.HandshakeError as error:
                    self.refusal = str(error)
                    return
                if rest is None:
                    continue
                data, self.refusal = rest, None
                self.answer.set()
            start = 0
            while end := wire.frame_end(data, start):
                await self._take(data[start:end])
                start = end
            data = data[start:]
            if self.deaf:
                await trio.sleep_forever()

    async def _take(self, frame: bytes) -> None:
        self.frames += 1
        if frame == _PING:
            await self.say(_PONG)
        elif frame[0] == wire.FIN | wire.PING:
            await self.say(wire.masked_frame(wire.PONG, frame[2:]))


@attrs.frozen
class Gateway:
    """A daemon's port, and the path that the next client asks for."""

    port: int
    path: Callable[[random.Random], str]


class Wanderers:
    """Numbered clients that share themselves out over the doors."""

    def __init__(self, doors: Sequence[Gateway], number: int, seed: int) -> None:
        self.ends: Counter[str] = Counter()
        """Conversations by the way in which they ended; `ended` are those that the daemon ended."""
        self.refused: Counter[str] = Counter()
        """Handshakes that did not become one, by the answer or the error."""
        self.frames = 0
        """That all of them got."""
        self._doors = doors
        self._rngs = [random.Random(f"{seed} {place}") for place in range(number)]

    async def wander(self, home: trio.Event) -> None:
        """Return when `home` is set and everybody has gone."""
        async with trio.open_nursery() as nursery:
            for place, rng in enumerate(self._rngs):
                nursery.start_soon(self._live, self._doors[place % len(self._doors)], rng, home)

    async def _live(self, door: Gateway, rng: random.Random, home: trio.Event) -> None:
        way = ""
        while not home.is_set():
            if way != "reload":
                with trio.move_on_after(rng.uniform(*AWAY)):
                    await home.wait()
                    return
            way = rng.choice(WAYS)
            try:
                await self._visit(door, rng, way, home)
            except OSError as error:
                self.refused[type(error).__name__] += 1
                way = ""

    async def _visit(self, door: Gateway, rng: random.Random, way: str, home: trio.Event) -> None:
        stream = await trio.open_tcp_stream(HOST, door.port)
        client = Wanderer(stream)
        request = wire.handshake_request(f"{HOST}:{door.port}", door.path(rng))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run, request)
            with trio.move_on_after(ANSWER):
                await client.answer.wait()
            if client.refusal is None:
                await self._stay(client, rng, way, home)
                if way == "vanishing" and not client.ended.is_set():
                    reset(stream)
                self.frames += client.frames
            else:
                self.refused[client.refusal] += 1
            nursery.cancel_scope.cancel()

    async def _stay(self, client: Wanderer, rng: random.Random, way: str, home: trio.Event) -> None:
        client.deaf = way == "deaf"
        with trio.move_on_after(rng.uniform(*STAY)):
            await home.wait()
        if client.ended.is_set():
            self.ends["ended"] += 1
            return
        self.ends[way] += 1
        if way == "leaving":
            with trio.move_on_after(ANSWER):
                await client.say(_GOODBYE)
                await client.ended.wait()
