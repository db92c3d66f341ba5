"""What the demo published and wrote against what its clients received. Pure, and small however long the demo runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.define
class DemoLedger:
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


@attrs.define
class ChecklistLedger:
    """Writes of the run hash, and the frames that tell of them: several writes may be one frame."""

    writes: int = 0
    frames: int = 0
    shown: Mapping[str, object] | None = None
    """The newest frame."""
    due: Mapping[str, object] | None = None
    """What the newest frame has to be, once nothing is written any more; None while it can't be known."""

    @property
    def is_true(self) -> bool:
        """Whether the newest frame says what the hash says."""
        return self.due is not None and self.shown == self.due

    def show(self, frame: Mapping[str, object]) -> None:
        """Note a frame that arrived."""
        self.frames += 1
        self.shown = frame
