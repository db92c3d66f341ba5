"""How often a worker is asked for a snapshot: making one takes the worker's time, whoever asks and however many do.

A `Quota` belongs to the listener, of which a daemon has one, so that all operators of a daemon share it. Times are
Trio's.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from common.labels import SNAPSHOTS

EVERY: Final = 10.0
"""Seconds from one snapshot of a worker to the next at least, from beginning to beginning."""


class Quota:
    """See the module."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        """When the last snapshot of each worker began, the oldest first; none is older than `EVERY`."""
        self.outcomes: Counter[str] = Counter(dict.fromkeys(SNAPSHOTS, 0))
        """Snapshots asked for so far, by what became of them; those of workers that are none are not among them."""

    def begin(self, worker_id: str) -> float:
        """Take note that a snapshot of the worker begins and return 0, or return the seconds until one may."""
        now = trio.current_time()
        while self._begun and now - next(iter(self._begun.values())) >= EVERY:
            del self._begun[next(iter(self._begun))]
        if worker_id in self._begun:
            self.outcomes["refused"] += 1
            return self._begun[worker_id] + EVERY - now
        self._begun[worker_id] = now
        return 0.0

    def taken(self) -> None:
        """A snapshot that had begun was had."""
        self.outcomes["taken"] += 1

    def failed(self) -> None:
        """A snapshot that had begun was not had; it has cost the worker its time all the same."""
        self.outcomes["failed"] += 1

    def withdraw(self, worker_id: str) -> None:
        """There is no such worker: nothing has begun."""
        del self._begun[worker_id]
