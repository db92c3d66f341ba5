"""Who is let in: open sockets counted, in all and by address (SPEC 1 and 2, MAX_CONNECTIONS…). Pure counting."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.web.forwarded import IPAddress


class Admission:
    """Counts open sockets against two limits; 0 is no limit."""

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

    def claim(self, address: IPAddress) -> bool:
        """Count one of the open sockets to `address`, unless it has its share. The ticket's to call."""
        if self._limit_per_address and self._by_address[address] >= self._limit_per_address:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: IPAddress | None) -> None:
        """Count a socket out, and from its address if it was claimed. The ticket's to call."""
        self.open -= 1
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class Ticket:
    """One socket's place. A proxy's socket is nobody's until its request head has named the client."""

    __slots__ = ("_address", "_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._address: IPAddress | None = None
        self._held = True

    def claim(self, address: IPAddress | None) -> bool:
        """Count the socket to `address`, unless the address has its share. None (a unix socket) is never refused."""
        if address is None:
            return True
        if not self._admission.claim(address):
            return False
        self._address = address
        return True

    def release(self) -> None:
        """Give the place back; a second time is no error."""
        if self._held:
            self._held = False
            self._admission.leave(self._address)
