"""Wrong tokens, counted by address: who guesses has to wait, nobody else does, and the operator is told how often.

Each address may be wrong `BURST` times, then once every so many seconds. While it has to wait its tokens are not looked
at, a right one neither: an answer would be what the guesser wants. Other addresses are not concerned; a /64 of IPv6 is
one address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.web.forwarded import share_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.web.forwarded import IPAddress

BURST: Final = 10
"""Wrong tokens that an address may try at once: a script with an old token must not use them up."""

MAX_ADDRESSES: Final = 4096
"""Addresses that are remembered; the one that has been quiet the longest is forgotten first."""


@attrs.define
class _Record:
    level: float = 0.0
    """Wrong tokens that counted at `at`."""
    at: float = 0.0
    untold: int = 0
    """Tries since the last tally."""


@attrs.frozen
class GuessTally:
    """What was tried from addresses that have used up their tries, since the last tally."""

    guesses: int
    """Wrong tokens, and tokens that were not looked at."""
    addresses: int
    """How many addresses these came from."""
    remote: str
    """The busiest of them."""


class Guesses:
    """See the module. One more guess is allowed after `every` seconds of `clock`.

    An address is None where the socket has none: all of those are one.
    """

    def __init__(self, every: float, clock: Callable[[], float] = trio.current_time) -> None:
        self._every = every
        self._clock = clock
        self._records: dict[IPAddress | None, _Record] = {}
        """The one that was wrong last stands last."""
        self._limited: set[IPAddress | None] = set()
        """Which of them have something to be told."""
        self._has_limited = trio.Event()

    def wait(self, address: IPAddress | None) -> float:
        """Seconds until a token from `address` will be looked at; 0 is now. Asking in vain is counted."""
        share = _share(address)
        record = self._records.get(share)
        excess = 0.0 if record is None else self._left(record, self._clock()) - (BURST - 1)
        if record is None or excess <= 0:
            return 0.0
        record.untold += 1
        self._note(share)
        return excess * self._every

    def wrong(self, address: IPAddress | None, count: int = 1) -> None:
        """So many tokens from `address` were looked at and were wrong."""
        share, now = _share(address), self._clock()
        record = self._records.pop(share, None) or _Record()
        record.level, record.at = self._left(record, now) + count, now
        record.untold += count
        if len(self._records) >= MAX_ADDRESSES:
            forgotten = next(iter(self._records))
            del self._records[forgotten]
            self._limited.discard(forgotten)
        self._records[share] = record
        if record.level > BURST - 1:
            self._note(share)

    async def wait_limited(self) -> GuessTally:
        """Wait until an address has to wait, and return what was tried since this returned last."""
        while not self._limited:
            self._has_limited = trio.Event()
            await self._has_limited.wait()
        records = {share: self._records[share] for share in self._limited}
        busiest = max(records, key=lambda share: records[share].untold)
        tally = GuessTally(sum(record.untold for record in records.values()), len(records), str(busiest))
        for record in records.values():
            record.untold = 0
        self._limited.clear()
        return tally

    def _left(self, record: _Record, now: float) -> float:
        """Wrong tokens that still count."""
        return max(0.0, record.level - (now - record.at) / self._every)

    def _note(self, share: IPAddress | None) -> None:
        self._limited.add(share)
        self._has_limited.set()


def _share(address: IPAddress | None) -> IPAddress | None:
    return None if address is None else share_of(address)
