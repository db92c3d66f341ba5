"""Who got what, and when: the accounts of one load, without any I/O.

Every payload is distinct, so that looking a frame up in the table of all that are published verifies each of its bytes,
finds its publish time, and parses nothing.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DIGITS: Final = 8
_HEAD: Final = b'{"type":"status","data":"'
_TAIL: Final = b'"}'
_FILLER: Final = b" hillslopes routed to the outlet;"

SMALLEST_SIZE: Final = _DIGITS
"""Bytes of the shortest payload: its number, nothing else."""
LARGEST_COUNT: Final = 10**_DIGITS
"""Payloads that can be told apart."""


@attrs.frozen(kw_only=True)
class Faults:
    """What must not happen, counted over the warm-up too."""

    lost: int
    """Messages that a client never got, or got after a later one."""
    repeated: int
    """Messages that a client got again, or late."""
    unexpected: int
    """Frames that are, byte for byte, neither a payload's nor a ping; answers that could not be written."""
    ended: int
    """Clients whose connection ended before the load did."""

    @property
    def total(self) -> int:
        return self.lost + self.repeated + self.unexpected + self.ended

    def describe(self) -> str:
        return (
            f"{self.lost} messages lost, {self.repeated} repeated or late,"
            f" {self.unexpected} unexpected frames, {self.ended} connections ended"
        )


@attrs.define(eq=False)
class Cursor:
    """One client's place in the sequence: `next` is the number of the message that must come next."""

    next: int = 0


def payloads(count: int, size: int) -> list[bytes]:
    """Distinct ASCII payloads of `size` bytes, nothing to escape in JSON. Raises ValueError if they don't fit."""
    if size < SMALLEST_SIZE or count > LARGEST_COUNT:
        raise ValueError(f"{count} distinct messages need more than {size} bytes each")
    filler = (_FILLER * (size // len(_FILLER) + 1))[: size - _DIGITS]
    return [b"%0*d%s" % (_DIGITS, number, filler) for number in range(count)]


class Ledger:
    """The accounts of one load; whoever publishes writes `published_at`, whoever receives calls the methods.

    Times are in nanoseconds of one clock. Messages before `measured_from` are checked, but their latency is not kept.
    """

    def __init__(self, published: Sequence[bytes], *, measured_from: int) -> None:
        self._numbers = {wire.server_text(_HEAD + payload + _TAIL): number for number, payload in enumerate(published)}
        self._measured_from = measured_from
        self._lost = self._repeated = self._ended = 0
        self.unexpected = 0
        self.published_at = array("q", bytes(8 * len(published)))
        self.latency = array("q")
        self.queued = array("q")

    def take(self, cursor: Cursor, frame: bytes, now: int, queued: int) -> bool:
        """Account for a whole frame that a client got at `now`; False when it is not the correct one of any payload.

        `queued` is how long, of its latency, it may have waited for the reader.
        """
        number = self._numbers.get(frame)
        if number is None:
            return False
        if number < cursor.next:
            self._repeated += 1
        else:
            self._lost += number - cursor.next
            cursor.next = number + 1
        if number >= self._measured_from:
            self.latency.append(now - self.published_at[number])
            self.queued.append(queued)
        return True

    def end(self, cursor: Cursor) -> None:
        """A client's connection has ended, and all that it did not get is lost."""
        self._ended += 1
        self._lost += self._missing(cursor)

    def close(self, open_cursors: Iterable[Cursor]) -> Faults:
        """The balance, given the clients that are still connected when no more messages are waited for."""
        lost = self._lost + sum(self._missing(cursor) for cursor in open_cursors)
        return Faults(lost=lost, repeated=self._repeated, unexpected=self.unexpected, ended=self._ended)

    def _missing(self, cursor: Cursor) -> int:
        return len(self._numbers) - cursor.next
