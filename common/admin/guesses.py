"""Wrong tokens, counted by address: who guesses has to wait, nobody else does, and the operator is told how often.

Each address may be wrong `BURST` times, then once every `EVERY` seconds. While it has to wait its tokens are not looked
at, a right one neither: an answer would be what the guesser wants. Other addresses are not concerned; a /64 of IPv6 is
one address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.web.forwarded import share_of

if TYPE_CHECKING:
    from common.web.forwarded import IPAddress

BURST: Final = 10
"""Wrong tokens that an address may try at once."""

EVERY: Final = 5.0
"""Seconds after which it may try one more."""

MAX_ADDRESSES: Final = 4096
"""Addresses that are remembered; the one that has been quiet the longest is forgotten first."""


@attrs.define
class _Record:
    level: float = 0.0
    """Wrong tokens that counted at `at`."""
    at: float = 0.0
    untold: int = 0
    """Tries since the last tally."""

    def left(self, now: float) -> float:
        """Wrong tokens that still count."""
        return max(0.0, self.level - (now - self.at) / EVERY)


@attrs.frozen
class Tally:
    """What was tried from addresses that have used up their tries, since the last tally."""

    guesses: int
    """Wrong tokens, and tokens that were not looked at."""
    addresses: int
    """How many addresses these came from."""
    remote: str
    """The busiest of them."""


class Guesses:
    """See the module. Times are Trio's."""

    def __init__(self) -> None:
        self._records: dict[IPAddress, _Record] = {}
        """The one that was wrong last stands last."""
        self._limited: set[IPAddress] = set()
        """Which of them have something to be told."""
        self._has_limited = trio.Event()

    def wait(self, address: IPAddress) -> float:
        """Seconds until a token from `address` will be looked at; 0 is now. Asking in vain is counted."""
        share = share_of(address)
        record = self._records.get(share)
        excess = 0.0 if record is None else record.left(trio.current_time()) - (BURST - 1)
        if record is None or excess <= 0:
            return 0.0
        record.untold += 1
        self._note(share)
        return excess * EVERY

    def wrong(self, address: IPAddress) -> None:
        """A token from `address` was looked at and was wrong."""
        share, now = share_of(address), trio.current_time()
        record = self._records.pop(share, None) or _Record()
        record.level, record.at = record.left(now) + 1, now
        record.untold += 1
        if len(self._records) >= MAX_ADDRESSES:
            forgotten = next(iter(self._records))
            del self._records[forgotten]
            self._limited.discard(forgotten)
        self._records[share] = record
        if record.level > BURST - 1:
            self._note(share)

    async def wait_limited(self) -> Tally:
        """Wait until an address has to wait, and return what was tried since this returned last."""
        while not self._limited:
            self._has_limited = trio.Event()
            await self._has_limited.wait()
        records = {share: self._records[share] for share in self._limited}
        busiest = max(records, key=lambda share: records[share].untold)
        tally = Tally(sum(record.untold for record in records.values()), len(records), str(busiest))
        for record in records.values():
            record.untold = 0
        self._limited.clear()
        return tally

    def _note(self, share: IPAddress) -> None:
        self._limited.add(share)
        self._has_limited.set()
