"""Who got what, and when: the accounts of one load, without any I/O.

Every frame is distinct, so that looking one up in the table of all that are expected verifies each of its bytes, finds
the time of the write that it tells of, and parses nothing. Where far more frames come than can be looked up one by one
(`bulk`), what was read is compared with all that is due next, in one piece.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@attrs.frozen(kw_only=True)
class Faults:
    """What must not happen, counted over the warm-up too."""

    lost: int = 0
    """Messages that a client never got, or got after a later one. Where frames are coalesced: the last writes, of which
    a client never heard."""
    repeated: int = 0
    """Messages that a client got again, or late."""
    unexpected: int = 0
    """Frames that are, byte for byte, neither a write's nor a ping; answers that could not be written."""
    ended: int = 0
    """Clients whose connection ended before the load did."""

    @property
    def total(self) -> int:
        return self.lost + self.repeated + self.unexpected + self.ended

    def __add__(self, other: Faults) -> Faults:
        return Faults(
            lost=self.lost + other.lost,
            repeated=self.repeated + other.repeated,
            unexpected=self.unexpected + other.unexpected,
            ended=self.ended + other.ended,
        )

    def describe(self) -> str:
        return (
            f"{self.lost} messages lost, {self.repeated} repeated or late,"
            f" {self.unexpected} unexpected frames, {self.ended} connections ended"
        )


@attrs.define(eq=False)
class Cursor:
    """One client's place in the sequence: `next` is the number of the message that must come next, and each of its
    messages has a number `step` above the one before."""

    next: int = 0
    step: int = 1


class DeliveryLedger:
    """The accounts of one load; whoever writes notes it in `written_at`, whoever receives calls the methods.

    `frames` are what a client must get for each write. Where they are `coalesced`, a frame stands for the writes before
    it that the client has not heard of as well. Times are in nanoseconds of one clock. Writes before `measured_from`
    are checked, but their latency is not kept.
    """

    def __init__(
        self, frames: Sequence[bytes], *, measured_from: int = 0, coalesced: bool = False, bulk: bool = False
    ) -> None:
        self._numbers = {frame: number for number, frame in enumerate(frames)}
        if len(self._numbers) != len(frames):
            raise ValueError("two writes have the same frame")
        self._measured_from = measured_from
        self._coalesced = coalesced
        self._script = b"".join(frames) if bulk else b""
        self._starts = [0, *accumulate(map(len, frames))] if bulk else [0]
        self._lost = self._repeated = self._ended = 0
        self.unexpected = 0
        self.delivered = 0
        """Frames of the measured window."""
        self.written_at = array("q", bytes(8 * len(frames)))
        self.latency = array("q")
        self.queued = array("q")

    def take(self, cursor: Cursor, frame: bytes, now: int, queued: int) -> bool:
        """Account for a whole frame that a client got at `now`; False when it is not the correct one of any write.

        `queued` is how long, of its latency, it may have waited for the reader.
        """
        number = self._numbers.get(frame)
        if number is None or (number - cursor.next) % cursor.step:
            return False
        first = number
        if number < cursor.next:
            self._repeated += 1
        else:
            if self._coalesced:
                first = cursor.next
            else:
                self._lost += (number - cursor.next) // cursor.step
            cursor.next = number + cursor.step
        if number >= self._measured_from:
            self.delivered += 1
            for heard in range(max(first, self._measured_from), number + 1):  # one, unless they are coalesced
                self.latency.append(now - self.written_at[heard])
                self.queued.append(queued)
        return True

    def take_run(self, cursor: Cursor, data: bytes) -> int:
        """Account for `data` in one piece if it is what must come next, and say how many of its bytes are whole frames.

        0 when it is anything else, for `take`. Only with `bulk`, every client getting all; latency is not kept.
        """
        begin = self._starts[cursor.next]
        if not self._script.startswith(data, begin):
            return 0
        number = bisect_right(self._starts, begin + len(data)) - 1
        self.delivered += number - cursor.next
        cursor.next = number
        return self._starts[number] - begin

    def end(self, cursor: Cursor) -> None:
        """A client's connection has ended, and all that it did not get is lost."""
        self._ended += 1
        self._lost += self._missing(cursor)

    def close(self, open_cursors: Iterable[Cursor]) -> Faults:
        """The balance, given the clients that are still connected when no more messages are waited for."""
        lost = self._lost + sum(self._missing(cursor) for cursor in open_cursors)
        return Faults(lost=lost, repeated=self._repeated, unexpected=self.unexpected, ended=self._ended)

    def _missing(self, cursor: Cursor) -> int:
        return len(range(cursor.next, len(self._numbers), cursor.step))
