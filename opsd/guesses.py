"""Wrong tokens, counted by the address that they come from. Pure.

Each address has so many wrong ones at once and one more every few seconds. Who has used them up is not listened to,
right or wrong, until the next is due; everybody else is, at any time. What is remembered is bounded: of more addresses
than `MOST` the one that guessed longest ago is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from common.web.forwarded import IPAddress

AT_ONCE: Final = 10
"""Wrong tokens of an address that has sent none for long. A script with an old token must not use them up."""

EVERY: Final = 2.0
"""Seconds after which one more is allowed."""

MOST: Final = 10_000
"""Addresses that are remembered."""


class Guesses:
    """See the module. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._paid: OrderedDict[IPAddress | None, float] = OrderedDict()
        """By address, when all its guesses will be forgiven; the one that guessed longest ago first."""

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._paid)

    def wait(self, share: IPAddress | None, now: float) -> float:
        """Seconds until the address is listened to; 0 if it is."""
        return max(0.0, self._paid.get(share, now) - now - (AT_ONCE - 1) * EVERY)

    def add(self, share: IPAddress | None, now: float, count: int = 1) -> None:
        """The address has sent that many wrong tokens."""
        self._paid[share] = max(now, self._paid.pop(share, now)) + count * EVERY
        oldest = next(iter(self._paid))
        if len(self._paid) > MOST or self._paid[oldest] <= now:
            del self._paid[oldest]
