"""The clients of one run. Each comes back after every end, a while later, until it is told to go home.

patient    reads at once, and stays: whatever ends its conversation must have a documented reason
slow       reads a few bytes at a time, and is late with everything
deaf       reads nothing after the answer to its handshake
vanishing  is gone after a while, in one of three ways, with or without a word

Some come through the proxy (`far`), the others straight to the daemon. On a status channel one may want
gap frames.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.support.client import TEXT, handshake
from tests.support.raw import RawClient, open_stream, reset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.chaos.stage import Stage
    from tests.support.client import Client

AGAIN: Final = (0.1, 0.5)
"""Seconds until a client comes back, from and to."""

STAY: Final = (0.5, 6.0)
"""Seconds that one that vanishes stays."""

ANSWER: Final = 20.0
"""Seconds that a client waits for the answer to its handshake."""

SMALL_BUFFER: Final = 4096
_SIP: Final = 200
_GULP: Final = 1 << 16
_SIP_PAUSE: Final = 0.2


class Manner(Enum):
    """How a client behaves."""

    PATIENT = "patient"
    SLOW = "slow"
    DEAF = "deaf"
    VANISHING = "vanishing"


class SlowClient(RawClient):
    """Takes a sip, and a pause."""

    async def _receive(self) -> bytes | bytearray:
        if self.status is not None:
            await trio.sleep(_SIP_PAUSE)
        return await super()._receive()


class DeafClient(RawClient):
    """Takes the answer, and no more; its connection stays."""

    async def _receive(self) -> bytes | bytearray:
        if self.status is not None:
            await trio.sleep_forever()
        return await super()._receive()


_CLIENTS: Final = {Manner.SLOW: SlowClient, Manner.DEAF: DeafClient}


@attrs.define(eq=False)
class Visit:
    """One conversation, from its handshake to its end."""

    guest: Guest
    address: str
    """What it claims to come from."""
    client: RawClient
    asked: float
    opened: float = math.inf
    """When its client had seen the 101."""
    left: float = math.inf
    """When its client ended it, if it did."""

    @property
    def lives(self) -> bool:
        """Whether it is open."""
        return self.opened < math.inf and not self.client.ended and self.left == math.inf


@attrs.define(eq=False)
class Guest:
    """One client, through all its conversations."""

    daemon: str
    path: str
    """Without the query."""
    manner: Manner
    far: bool
    wants_gap: bool
    rng: random.Random
    visits: list[Visit] = attrs.field(factory=list)

    @property
    def visit(self) -> Visit | None:
        """The conversation that is open now."""
        return self.visits[-1] if self.visits and self.visits[-1].lives else None


class Crowd:
    """All of them."""

    def __init__(self, stage: Stage, guests: Iterable[Guest]) -> None:
        self.guests = list(guests)
        self.refused: Counter[int | str] = Counter()
        """Handshakes that did not become a conversation, by their answer's status or the error."""
        self._stage = stage
        self._addresses = itertools.count(1)
        self._home = trio.Event()
        self._steady_only = trio.Event()

    @property
    def steady(self) -> list[Guest]:
        """The patient ones."""
        return [guest for guest in self.guests if guest.manner is Manner.PATIENT]

    @property
    def visits(self) -> list[Visit]:
        """Every conversation that there was."""
        return [visit for guest in self.guests for visit in guest.visits]

    def only_the_steady_stay(self) -> None:
        """Send all others home."""
        self._steady_only.set()

    def go_home(self) -> None:
        """Send everybody home."""
        self._home.set()
        self._steady_only.set()

    async def run(self) -> None:
        """Return when everybody is at home."""
        async with trio.open_nursery() as nursery:
            for guest in self.guests:
                nursery.start_soon(self._live, guest)

    async def _live(self, guest: Guest) -> None:
        leaving = self._home if guest.manner is Manner.PATIENT else self._steady_only
        while not leaving.is_set():
            with trio.move_on_after(guest.rng.uniform(*AGAIN)):
                await leaving.wait()
                return
            try:
                await self._visit(guest, leaving)
            except OSError as error:
                self.refused[type(error).__name__] += 1

    async def _visit(self, guest: Guest, leaving: trio.Event) -> None:
        number = next(self._addresses)
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        service = self._stage.services[guest.daemon]
        port = self._stage.client_ways[guest.daemon].port if guest.far else service.port
        small = SMALL_BUFFER if guest.manner in {Manner.SLOW, Manner.DEAF} else None
        stream = await open_stream(port, receive_buffer=small)
        client = _CLIENTS.get(guest.manner, RawClient)(stream, read_size=_SIP if guest.manner is Manner.SLOW else _GULP)
        visit = Visit(guest, address, client, trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            path = f"{guest.path}?gap=1" if guest.wants_gap else guest.path
            await client.send_raw(handshake(path, {"X-Forwarded-For": address}))
            with trio.move_on_after(ANSWER):
                await client.wait(lambda client: client.status is not None or client.ended, within=math.inf)
            if client.status != 101:
                self.refused[client.status or ("ended" if client.ended else "no answer")] += 1
            else:
                visit.opened = trio.current_time()
                guest.visits.append(visit)
                await self._stay(visit, leaving, nursery)
            nursery.cancel_scope.cancel()

    async def _stay(self, visit: Visit, leaving: trio.Event, nursery: trio.Nursery) -> None:
        guest, client = visit.guest, visit.client
        if guest.manner is Manner.DEAF:
            # Nothing is read, so its end is not seen either.
            with trio.move_on_after(guest.rng.uniform(STAY[1], 5 * STAY[1])):
                await leaving.wait()
            visit.left = trio.current_time()
            return
        seconds = guest.rng.uniform(*STAY) if guest.manner is Manner.VANISHING else math.inf
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as watching:

                async def watch_leaving() -> None:
                    await leaving.wait()
                    watching.cancel_scope.cancel()

                watching.start_soon(watch_leaving)
                await client.wait(lambda client: client.ended, within=math.inf)
                watching.cancel_scope.cancel()
        if client.ended:
            return
        visit.left = trio.current_time()
        match guest.rng.randrange(3) if guest.manner is Manner.VANISHING else 2:
            case 0:
                reset(client.stream)
            case 1:
                nursery.cancel_scope.cancel()
            case _:
                with trio.move_on_after(ANSWER):
                    await client.leave()


def invite(stage: Stage, seed: int, *, channels: list[str], runs: list[str], status: int, preflight: int) -> Crowd:
    """So many clients of each daemon, shared out over channels and runs; of ten, six are patient, one is slow, one
    deaf, and two vanish. Every second one of each manner is far."""
    rng = random.Random(seed)
    manners = [Manner.PATIENT] * 6 + [Manner.SLOW, Manner.VANISHING] * 2
    manners[6] = Manner.DEAF
    guests = [
        Guest(
            daemon,
            f"/{places[number % len(places)]}",
            manners[number % len(manners)],
            far=number // len(manners) % 2 == 1,
            wants_gap=daemon == "statusd" and number // len(places) % 2 == 1,
            rng=random.Random(rng.getrandbits(64)),
        )
        for daemon, places, count in (("statusd", channels, status), ("preflightd", runs, preflight))
        for number in range(count)
    ]
    return Crowd(stage, guests)


def texts(visit: Visit) -> list[tuple[float, bytes]]:
    """The text frames of a conversation, each with the time at which it came."""
    return [(seen.time, seen.payload) for seen in visit.client.seen if seen.opcode == TEXT]


def last_message(guest: Guest) -> bytes | None:
    """The last that its conversation has brought; None if there is no conversation, or nothing came."""
    visit = guest.visit
    frames = [] if visit is None else visit.client.messages
    return frames[-1] if frames else None


def has_got(frame: bytes, client: Client) -> bool:
    """Whether it is among the last that the client got."""
    return frame in client.texts[-60:]


def name_of(visit: Visit) -> str:
    """Whose conversation it is, for a person."""
    guest = visit.guest
    return f"{visit.address} {guest.path} {guest.manner.value} {'far' if guest.far else 'near'}"
