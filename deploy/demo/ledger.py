"""What the demo published against what its client received. Pure, and small however long the demo runs."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define
class Ledger:
    """Counts of one demo; it remembers only what is on its way."""

    published: int = 0
    received: int = 0
    """Of those published here: what others send to the channel does not count."""
    _underway: Counter[str] = attrs.field(factory=Counter, init=False)

    @property
    def missing(self) -> int:
        """Messages published and not received, so far."""
        return self._underway.total()

    def publish(self, data: str) -> None:
        """Note a message that is about to be published: it may arrive before the publisher hears that it was sent."""
        self.published += 1
        self._underway[data] += 1

    def receive(self, data: str) -> None:
        """Note a message that arrived."""
        if data not in self._underway:
            return
        self.received += 1
        self._underway[data] -= 1
        if not self._underway[data]:
            del self._underway[data]
