"""Who may hold how much: sockets and running requests, counted by the address that they belong to. Pure.

`Places` are for sockets, of which there is a fixed number. A socket on which no request runs gives way: to another of
its own address when that has its share, and to anybody when there is no place left, the oldest of whoever holds the
most. The last few places are for addresses that hold next to none. A trusted proxy's sockets are not its own: only the
whole bounds them, and what its clients hold is counted by `RunningRequests`, once a request's head has named the
client.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.web.forwarded import IPAddress

MOST_OF_ONE: Final = 64
"""Sockets of one address, and requests and WebSockets that run for one."""

RESERVED: Final = 32
"""Of all places, those that only an address with less than `FEW` can take."""

FEW: Final = 4


class Place:
    """One socket's. `running` is how many requests it serves now; `end` is called when it must give way."""

    __slots__ = ("_end", "_places", "running", "share")

    def __init__(self, places: Places, share: IPAddress | None, end: Callable[[], None]) -> None:
        self.running = 0
        self.share = share
        self._places: Places | None = places
        self._end = end

    def give_way(self) -> None:
        """Leave for somebody else. The `Places`' to call."""
        end = self._end
        self.release()
        end()

    def release(self) -> None:
        """Give the place back; a second time is no error."""
        if self._places is not None:
            self._places.leave(self)
            self._places = None
            # What it ends holds this place.
            self._end = _nothing


def _nothing() -> None:
    """The place has been left."""


class Places:
    """See the module."""

    def __init__(self, most: int, most_of_one: int = MOST_OF_ONE, reserved: int = RESERVED) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._reserved = reserved
        self._held: dict[IPAddress | None, dict[Place, None]] = {}
        """By share, the oldest first."""
        self.open = 0
        """Sockets that have a place now."""

    def enter(self, share: IPAddress | None, end: Callable[[], None], *, proxy: bool) -> Place | None:
        """A place for a socket of `share`, or None when neither is one free nor gives anybody way.

        `share` is None where there is no address; `proxy` says that it belongs to clients who are not known yet.
        """
        own = len(self._held.get(share, ()))
        if not proxy and own >= self._most_of_one:
            return self._instead_of(self._idle(share), share, end)
        if self.open >= (self._most if own < FEW else self._most - self._reserved):
            by_number = sorted(self._held, key=lambda held: len(self._held[held]), reverse=True)
            idle = (found for held in by_number if (found := self._idle(held)) is not None)
            return self._instead_of(next(idle, None), share, end)
        place = Place(self, share, end)
        self._held.setdefault(share, {})[place] = None
        self.open += 1
        return place

    def leave(self, place: Place) -> None:
        """Take a place back. The place's to call."""
        held = self._held[place.share]
        del held[place]
        if not held:
            del self._held[place.share]
        self.open -= 1

    def _idle(self, share: IPAddress | None) -> Place | None:
        return next((place for place in self._held[share] if not place.running), None)

    def _instead_of(self, idle: Place | None, share: IPAddress | None, end: Callable[[], None]) -> Place | None:
        if idle is None:
            return None
        idle.give_way()
        place = Place(self, share, end)
        self._held.setdefault(share, {})[place] = None
        self.open += 1
        return place


class RunningRequests:
    """Counts what runs for each address; without an address, nothing is counted."""

    def __init__(self, most_of_one: int = MOST_OF_ONE) -> None:
        self._most_of_one = most_of_one
        self._by_share: Counter[IPAddress] = Counter()

    def enter(self, share: IPAddress | None) -> bool:
        """Count one in, unless the address has its share. Whoever was let in must `leave`."""
        if share is None:
            return True
        if self._by_share[share] >= self._most_of_one:
            return False
        self._by_share[share] += 1
        return True

    def leave(self, share: IPAddress | None) -> None:
        """Count one out."""
        if share is None:
            return
        self._by_share[share] -= 1
        if not self._by_share[share]:
            del self._by_share[share]
