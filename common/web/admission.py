"""Who is let in: open sockets counted, in all and by address (SPEC 1 and 2, MAX_CONNECTIONS…). Pure counting."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from common.web.forwarded import share_of

if TYPE_CHECKING:
    from common.web.forwarded import IPAddress


class Admission:
    """Counts open sockets against two limits; 0 is no limit. A /64 of IPv6 is one address."""

    def __init__(self, *, limit: int, limit_per_address: int) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._by_address: Counter[IPAddress] = Counter()
        self.open = 0
        """Sockets that are open now, half-open request heads included."""

    def enter(self) -> Ticket | None:
        """Count a socket in, unless the daemon is full. The ticket's holder must `release` it."""
        if self._limit and self.open >= self._limit:
            return None
        self.open += 1
        return Ticket(self)

    def claim(self, share: IPAddress) -> bool:
        """Count one of the open sockets to `share`, unless it has its places. The ticket's to call."""
        if self._limit_per_address and self._by_address[share] >= self._limit_per_address:
            return False
        self._by_address[share] += 1
        return True

    def unclaim(self, share: IPAddress) -> None:
        """One of the open sockets is `share`'s no more. The ticket's to call."""
        self._by_address[share] -= 1
        if not self._by_address[share]:
            del self._by_address[share]

    def leave(self) -> None:
        """Count a socket out. The ticket's to call."""
        self.open -= 1


class Ticket:
    """One socket's place. A proxy's socket is nobody's until its request head has named the client."""

    __slots__ = ("_admission", "_held", "_share")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._share: IPAddress | None = None
        self._held = True

    def claim(self, address: IPAddress | None) -> bool:
        """Count the socket to `address`, and to no other any more, unless the address has its places.

        None (a unix socket) is never refused.
        """
        share = None if address is None else share_of(address)
        if share == self._share:
            return True
        if share is not None and not self._admission.claim(share):
            return False
        self._disclaim()
        self._share = share
        return True

    def release(self) -> None:
        """Give the place back; a second time is no error."""
        if self._held:
            self._held = False
            self._disclaim()
            self._admission.leave()

    def _disclaim(self) -> None:
        if self._share is not None:
            self._admission.unclaim(self._share)
            self._share = None
