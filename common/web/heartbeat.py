"""The process's one heartbeat: pings for everybody, and the end of those who stay silent.

One task, owned by the daemon's nursery, serves every client (a task per client costs twice the CPU at 5,000 clients).
An inbound frame only notes the time on its peer; nothing here is touched. Each peer is visited once per ping interval,
in the phase of its own arrival, which spreads the pings by itself. A visit that finds a peer which could time out
before the next visit puts it on a short list whose deadlines are kept exactly. Time in which this process itself stood
still (it was stopped, its machine slept) is nobody's silence: nobody was pinged in it.

The time from a ping to its pong is measured without a look at any pong: of a few peers the visit notes when they were
pinged, and the next visit finds the pong's time in `last_seen`. Which ones is drawn by lot, since phases never change.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from common.disconnect import PONG_TIMEOUT, Disconnect

if TYPE_CHECKING:
    from common.histogram import Histogram

EARLY: Final = 0.004
"""The part of an interval by which a ping may be early, so that one wake-up serves many peers."""

BATCH: Final = 256
"""Pings sent before other tasks get a turn."""

SAMPLES: Final = 16
"""Round trips measured in an interval, on average; fewer members are all measured."""


class Pulsed(Protocol):
    """What the heartbeat needs of a peer."""

    @property
    def last_seen(self) -> float:
        """When the client last gave a sign of life, in `trio.current_time()` seconds."""

    def ping(self) -> None:
        """Send one ping; neither blocks nor raises."""

    def end(self, disconnect: Disconnect) -> None:
        """End the conversation; returns at once."""


class _Beat:
    """One peer's place in the schedule."""

    __slots__ = ("due", "measured", "peer", "suspected")

    def __init__(self, peer: Pulsed, due: float) -> None:
        self.peer: Pulsed | None = peer
        self.due = due
        self.measured: float | None = None
        """When the ping went out whose pong is waited for, to measure it."""
        self.suspected = False


class Heartbeat:
    """Pings each member every `interval` seconds and ends it `timeout` seconds after its last sign of life.

    `round_trips` gets the seconds from some of the pings to the next sign of life, of a client that says nothing else
    its pong; None measures nothing. `rng` draws the lots.
    """

    def __init__(
        self,
        *,
        interval: float,
        timeout: float,
        round_trips: Histogram | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.round_trips = round_trips
        self._rng = rng or random.Random()  # noqa: S311 - a sample, not a secret
        self._passed_over = 0
        """Pings to go until the next one is measured."""
        self._interval = interval
        self._timeout = timeout
        # Every peer waits the same interval, so appending keeps the deque in order of `due`.
        self._beats: deque[_Beat] = deque()
        self._members: dict[Pulsed, _Beat] = {}
        self._suspects: list[tuple[float, int, _Beat]] = []
        self._order = itertools.count()
        self._changed = trio.Event()
        self._hold_ups: deque[tuple[float, float]] = deque()
        """When each ended in which a ping was missed, and its seconds, as long as they matter to anybody."""

    def __len__(self) -> int:
        return len(self._members)

    def add(self, peer: Pulsed) -> None:
        """Begin to ping `peer`, one interval from now."""
        now = trio.current_time()
        beat = self._members[peer] = _Beat(peer, now + self._interval)
        self._beats.append(beat)
        self._suspect(beat)
        if len(self._beats) == 1 or beat.suspected:
            self._changed.set()

    def remove(self, peer: Pulsed) -> None:
        """Forget `peer`; a peer that is not a member is no error."""
        beat = self._members.pop(peer, None)
        if beat is not None:
            beat.peer = None

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._changed = trio.Event()
            due = self._next()
            with trio.move_on_at(due):
                await self._changed.wait()
            self._note_hold_up(trio.current_time() - due)
            # If this process was held up, signs of life may wait to be read: let the readers run before the verdict.
            await trio.lowlevel.checkpoint()
            self._end_silent()
            await self._ping_due()

    def _next(self) -> float:
        due = self._beats[0].due if self._beats else math.inf
        return min(due, self._suspects[0][0]) if self._suspects else due

    def _note_hold_up(self, late: float) -> None:
        now = trio.current_time()
        if late >= self._interval:
            self._hold_ups.append((now, late))
        # Whoever was last seen before the oldest has been ended by now, whatever came after it.
        while self._hold_ups and self._hold_ups[0][0] + self._timeout + sum(s for _, s in self._hold_ups) <= now:
            self._hold_ups.popleft()

    def _deadline(self, peer: Pulsed) -> float:
        seen = peer.last_seen
        return seen + self._timeout + sum(seconds for ended, seconds in self._hold_ups if ended > seen)

    def _end_silent(self) -> None:
        now = trio.current_time()
        while self._suspects and self._suspects[0][0] <= now:
            _, _, beat = heapq.heappop(self._suspects)
            beat.suspected = False
            if beat.peer is None:
                continue
            if self._deadline(beat.peer) <= now:
                beat.peer.end(PONG_TIMEOUT)
                self.remove(beat.peer)
            else:
                self._suspect(beat)

    async def _ping_due(self) -> None:
        horizon = trio.current_time() + self._interval * EARLY
        pinged = 0
        held_up = False
        while self._beats and self._beats[0].due <= horizon:
            beat = self._beats.popleft()
            if beat.peer is None:
                continue
            # After a hold-up that swallowed intervals one ping is enough; the phase is kept.
            missed = (horizon - beat.due) // self._interval
            held_up = held_up or missed > 0
            beat.due += self._interval * (1 + missed)
            self._beats.append(beat)
            if self.round_trips is not None:
                self._measure(beat, beat.peer, self.round_trips)
            beat.peer.ping()
            self._suspect(beat)
            pinged += 1
            if pinged % BATCH == 0:
                await trio.lowlevel.checkpoint()
        if held_up:
            self._beats = deque(sorted(self._beats, key=lambda beat: beat.due))

    def _measure(self, beat: _Beat, peer: Pulsed, round_trips: Histogram) -> None:
        """Take in the pong to a ping that was measured, if it has come; perhaps measure the one that is about to go."""
        if beat.measured is not None and peer.last_seen >= beat.measured:
            round_trips.observe(peer.last_seen - beat.measured)
            beat.measured = None
        if self._passed_over:
            self._passed_over -= 1
        elif beat.measured is None:
            beat.measured = trio.current_time()
            self._passed_over = self._rng.randrange(max(1, 2 * len(self._members) // SAMPLES))

    def _suspect(self, beat: _Beat) -> None:
        """Watch `beat` closely if its peer could time out before the next visit."""
        if beat.peer is not None and not beat.suspected:
            deadline = self._deadline(beat.peer)
            # The next visit may be late by as much as the one of a peer before it was early.
            if deadline <= beat.due + 2 * EARLY * self._interval:
                beat.suspected = True
                heapq.heappush(self._suspects, (deadline, next(self._order), beat))
