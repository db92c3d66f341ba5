"""What one client may cost the others by sending: a slice a lap of the event loop, and so much in the long run.

Parsing is the dearest thing that a client can have done for it: a frame of one byte costs some 20 microseconds, and
4 KB hold 585 of them. A client whose read is a usual one (short, and one of few) is heard on the spot. All others are
heard in turn, one slice of one client at a time, at most once each time that the event loop goes round, and so many a
second: whoever floods the daemon waits for the other flooders, and the healthy ones wait for one slice now and then,
however many flooders there are. A slice with little in it is only a part of a turn, so that thousands who are unusual
once don't wait like flooders.

`Turns` is one per process; an `Allowance` belongs to a client, and only while it is not full.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE: Final = 512
"""Bytes parsed in one turn: at most 85 frames, 1 to 3 ms."""

TURN_RATE: Final = 100.0
"""Turns a second, of all clients together, in the long run: 50 KB, and a fifth of a core when they hold nothing but
frames of one byte. More would only take the core from the healthy ones, on a machine that has other work as well."""

TURN_BURST: Final = 100.0
"""Turns that may be had without that pace: most of a message of MAX_MESSAGE_SIZE, or a page's worth of chatter."""

USUAL_SIZE: Final = 64
"""Bytes of a read that is heard on the spot: a pong in any spelling, an init, a proxy's ping; ten frames at most."""

USUAL_PAUSE: Final = 1.0
"""Seconds between a client's usual reads in the long run, beside one for each ping that it was sent. Who keeps just
within both has ten frames a second parsed, so that a thousand of them cost a fifth of a core."""

USUAL_BURST: Final = 4.0
"""Usual reads that may come at once after a calm: an init, a pong and what keeps the client's own library alive may
meet, and thousands of clients that came in one instant have them meet in one instant."""

FULL_SLICE: Final = 85
"""Frames of one byte in a slice, which make it a whole turn."""

EMPTY_SLICE: Final = 8
"""Frames that weigh as much as a slice itself: reading, waiting and being woken."""

RATE: Final = 20.0
"""Frames a second that a client may send for ever: a hundred times what heartbeats need, and less than what each of
300 flooders gets parsed in its turns, so that those end too."""

BURST: Final = 10_000.0
"""Frames beyond the rate before the client ends as `too_fast`: eight minutes of twice the rate, a second or two of all
that a lone flooder gets parsed."""

FRAME_BYTES: Final = 4096
"""Bytes that weigh as much as one frame more: large messages cost by the byte, and little."""


def slices(data: bytes) -> Iterator[bytes]:
    """`data` in pieces of one turn each."""
    return (data[start : start + SLICE] for start in range(0, len(data), SLICE))


def usual_until(data: bytes, spent_until: float, now: float) -> float | None:
    """Whether a client's read may be heard on the spot: when its usual reads, this one included, are over at the
    lasting pace, or None for no. `spent_until` is the answer to its last one, -inf for the first."""
    if len(data) > USUAL_SIZE:
        return None
    after = max(spent_until, now) + USUAL_PAUSE
    return after if after <= usual_limit(now) else None


def usual_limit(now: float) -> float:
    """The latest answer of `usual_until`: after it the next usual read is one pause away."""
    return now + USUAL_BURST * USUAL_PAUSE


class Turns:
    """Who may do a slice of work now: first come, first served, `burst` turns and then `rate` a second."""

    __slots__ = ("_burst", "_lock", "_period", "_spent_until", "taken")

    def __init__(self, *, rate: float = TURN_RATE, burst: float = TURN_BURST) -> None:
        self._lock = trio.StrictFIFOLock()
        self._period = 1 / rate
        self._burst = burst * self._period
        # When, at the lasting pace, all turns that there have been would be over.
        self._spent_until = -math.inf
        self.taken = 0
        """Turns that there have been."""

    async def wait(self) -> None:
        """Wait for a turn; what the caller does until its next wait is the turn.

        There is one a lap at most: the next in line is woken by the one before, and runs when the loop has gone round.
        """
        async with self._lock:
            now = trio.current_time()
            self._spent_until = max(self._spent_until, now) + self._period
            early = self._spent_until - self._burst - now
            if early > 0:
                await trio.sleep(early)
        self.taken += 1

    def give_back(self, frames: int) -> None:
        """There were only so many frames in the turn that has just been: it was only a part of one."""
        part = min(1.0, (EMPTY_SLICE + frames) / (EMPTY_SLICE + FULL_SLICE))
        self._spent_until -= (1.0 - part) * self._period


class Allowance:
    """A token bucket: holds `BURST` frames, refilled with `RATE` a second."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = BURST
        self._at = now

    def spend(self, frames: int, size: int, now: float) -> bool:
        """Take out `frames` of `size` bytes in all; return whether there was enough."""
        self._refill(now)
        self._left -= frames + size / FRAME_BYTES
        return self._left >= 0

    def is_full(self, now: float) -> bool:
        """Whether it is as good as new."""
        self._refill(now)
        return self._left == BURST

    def _refill(self, now: float) -> None:
        self._left = min(BURST, self._left + (now - self._at) * RATE)
        self._at = now
