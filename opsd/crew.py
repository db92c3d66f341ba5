"""How many workers a source should have, and how many of them are ready. Pure; the board keeps one `Crew` a source.

No source says how many there should be. The most that were seen at once count, until the source was away, or until
none of those is left that were there before: then it has been started anew, perhaps with fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from opsd.events import GOOD

if TYPE_CHECKING:
    from collections.abc import Hashable

    from common.telemetry.values import DaemonStatus


@attrs.define
class Crew:
    """See the module."""

    expected: int = 0
    """How many workers there should be."""
    ready: int = 0
    """How many of them are there and ready."""
    _members: frozenset[Hashable] = frozenset()

    def look(self, status: DaemonStatus | None) -> None:
        """Take note of what the source says; None when there is nothing to believe."""
        if status is None:
            self.expected, self.ready, self._members = 0, 0, frozenset()
            return
        members = status.members()
        if not members & self._members:
            self.expected = 0
        self._members = members
        self.expected = max(self.expected, status.connected)
        self.ready = status.connected - sum(not worker.ready for worker in status.workers)

    @property
    def complete(self) -> bool:
        """Whether there are workers, and all are ready."""
        return 0 < self.expected == self.ready

    @property
    def state(self) -> str:
        """In words; `ready` when nothing is wrong."""
        if not self.expected:
            return "none"
        return GOOD["workers"] if self.complete else f"{max(0, self.ready)} of {self.expected} ready"
